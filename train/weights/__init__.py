"""Tensors from files of any kind, without running what is beside them, and those of the model among them."""
