"""Rejected images, kept for people to look at, label and train on."""
