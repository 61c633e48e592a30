"""Scores of the logits alone."""
