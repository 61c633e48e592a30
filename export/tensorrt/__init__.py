"""Engines of TensorRT and TensorRT-RTX, built from a bundle's graph into its folder ``engines/``."""
