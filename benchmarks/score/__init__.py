"""Whole sources, scored: how fast, in how much memory, what becomes of workers that die, and false discoveries."""
