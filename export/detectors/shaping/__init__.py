"""The energy of the logits that follow from shaped activations."""
