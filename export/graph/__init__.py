"""What graphs are built with: blocks of ONNX, the face for a gate, the last layers, the logits."""
