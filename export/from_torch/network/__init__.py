"""A network of torch as an ONNX graph with its penultimate activations."""
