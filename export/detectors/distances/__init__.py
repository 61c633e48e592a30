"""Distances to the features of the training images."""
