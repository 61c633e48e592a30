"""ONNX Runtime and OpenVINO on the CPU, in every precision: how fast, and what becomes of the decisions."""
