"""Changes of a foreign graph: made plain, of any batch size, with pixels in front and a gate's outputs behind."""
