"""The session on the CPU: 8 bits as the file says, whatever the CPU adds them in."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.engines.ort.cpu import OnnxRuntimeCpu

EIGHT_BITS = 4 * 255 * 127 * 1e-5 * np.array([1, -1])
"""The logits of :func:`eight_bits` for a white image, but for rounding."""


def eight_bits() -> onnx.ModelProto:
    """Logits of four features of 255, by weights of 127 in QDQ form: 4 x 255 x 127 does not fit 16 bits."""
    arrays = {
        "one": np.float32(1),
        "none": np.uint8(0),
        "scale": np.float32(1e-5),
        "zero": np.int8(0),
        "weights": np.full((4, 2), 127, np.int8) * np.array([1, -1], np.int8),
        "step": np.float32(0.02),
        "half": np.uint8(128),
        "shape": np.array([-1, 4], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "shape"], ["rows"]),
        helper.make_node("QuantizeLinear", ["rows", "one", "none"], ["rows8"]),
        helper.make_node("DequantizeLinear", ["rows8", "one", "none"], ["features"]),
        helper.make_node("DequantizeLinear", ["weights", "scale", "zero"], ["matrix"]),
        helper.make_node("MatMul", ["features", "matrix"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", "step", "half"], ["product8"]),
        helper.make_node("DequantizeLinear", ["product8", "step", "half"], ["logits"]),
        helper.make_node("Identity", ["logits"], ["scores"]),
        helper.make_node("Cast", ["logits"], ["accept"], to=TensorProto.BOOL),
    ]
    outputs = [
        helper.make_tensor_value_info(name, kind, ["N", 2])
        for name, kind in (("logits", TensorProto.FLOAT), ("scores", TensorProto.FLOAT), ("accept", TensorProto.BOOL))
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 2, 2, 1])
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "eight", [images], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_sums_of_products_of_eight_bits_do_not_saturate() -> None:
    """Which they would on CPUs of AVX2 without VNNI; others compute the same either way."""
    images = np.full((1, 2, 2, 1), 255, np.uint8)
    (logits,) = OnnxRuntimeCpu(eight_bits().SerializeToString(), threads=1).run(images).logits
    np.testing.assert_allclose(logits, EIGHT_BITS, atol=0.0101)  # half a step
