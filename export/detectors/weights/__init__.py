"""Scores of the features and the last layer's weights."""
