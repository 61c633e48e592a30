"""pipeline.onnx: the bundle's graph behind its own resize, for images of any size."""
