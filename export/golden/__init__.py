"""Golden images for a bundle: drawn for its input, with what its own graph says of them."""
