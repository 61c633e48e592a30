"""Losses as pure functions, one module each."""
