"""Scores made of others."""
