"""A foreign graph made plain: forms of 8 bits that are rare."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from export.from_onnx.surgery.network import dequantised, plain


def test_scales_of_blocks() -> None:
    rng = np.random.default_rng(0)
    x, scale = rng.integers(-128, 128, (5, 3)).astype(np.int8), rng.random((3, 3)).astype(np.float32)
    zero = rng.integers(-3, 3, (3, 3)).astype(np.int8)
    node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], axis=0, block_size=2)
    expected = (x - zero.repeat(2, axis=0)[:5].astype(float)) * scale.repeat(2, axis=0)[:5]
    np.testing.assert_allclose(dequantised(node, [x, scale, zero]), expected, rtol=1e-6)
    np.testing.assert_allclose(dequantised(node, [x, scale]), x * scale.repeat(2, axis=0)[:5], rtol=1e-6)


def test_a_sigmoid_of_8_bits_without_its_last_input() -> None:
    values = [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 3])]
    out = [helper.make_tensor_value_info("y", TensorProto.UINT8, ["N", 3])]
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [], [0.1]) for name in ("a", "b")]
    constants.append(helper.make_tensor("z", TensorProto.UINT8, [], [3]))
    node = helper.make_node("QLinearSigmoid", ["x", "a", "z", "b"], ["y"], domain="com.microsoft")
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "g", values, out, constants), opset_imports=opsets)
    assert [(item.op_type, len(item.input)) for item in plain(model).graph.node] == [
        ("DequantizeLinear", 3),
        ("Sigmoid", 1),
        ("QuantizeLinear", 2),
    ]
