"""fp16: the layers in float16, everything that sums or decides in float32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from torch import Tensor, nn

from export.convert.half import to_half
from export.exceptions import ExportError
from tests.export.convert.graphs import Residual, Shared, graph, head, kinds, outputs, with_own_operator
from tests.small import LABELS, calibration_images

IMAGES = calibration_images(40)


def both(kind: type[nn.Module] = Residual) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The graph in fp32 and in fp16."""
    model, _ = graph(kind)
    half = onnx.ModelProto()
    half.CopyFrom(model)
    to_half(half)
    onnx.checker.check_model(half, full_check=True)
    return model, half


def test_layers_are_half_and_the_rest_is_not() -> None:
    model, half = both()
    types = kinds(half)
    for name, kind in types.items():
        assert (kind == TensorProto.FLOAT16) == name.endswith("/float16")
    convolutions = [node for node in half.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 3
    assert all(types[node.input[1]] == types[node.input[2]] == TensorProto.FLOAT16 for node in convolutions)
    (linear,) = (node for node in half.graph.node if node.op_type == "Gemm")
    assert types[linear.input[1]] == TensorProto.FLOAT
    assert head(half) == head(model)
    assert [output.type for output in half.graph.output] == [output.type for output in model.graph.output]
    assert list(half.graph.input) == list(model.graph.input)


def test_layers_behind_an_operator_that_onnx_does_not_know() -> None:
    model = with_own_operator()
    half = onnx.ModelProto()
    half.CopyFrom(model)
    to_half(half)
    types = kinds(half)
    convolutions = [node for node in half.graph.node if node.op_type == "Conv"]
    assert [types[node.input[1]] for node in convolutions] == [TensorProto.FLOAT16] * 3
    (own,) = (node for node in half.graph.node if node.domain)
    assert not any(name.endswith("/float16") for name in (*own.input, *own.output))
    expected, found = outputs(model, IMAGES), outputs(half, IMAGES)
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=5e-3, atol=5e-3)


def test_the_normalisation_and_the_mean_are_float32() -> None:
    _, half = both()
    casts = [helper.get_attribute_value(node.attribute[0]) for node in half.graph.node if node.op_type == "Cast"]
    # uint8 to float32, float32 to float16 before the first layer, back before the mean; and NaN's count of activations
    assert casts == [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.FLOAT]
    normalised = [node.op_type for node in half.graph.node[:4]]
    assert sorted(normalised) == ["Add", "Cast", "Mul", "Transpose"]


def test_logits_are_those_of_rounded_layers() -> None:
    model, half = both()
    expected, found = outputs(model, IMAGES), outputs(half, IMAGES)
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values, rtol=5e-3, atol=5e-3)
    assert np.abs(found["logits"] - expected["logits"]).max() > 1e-6


class Bright(Residual):
    """Large activations, whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        for layer in (self.first, self.second, self.third):
            layer.weight.data.zero_()
            layer.bias.data.fill_(0.0 if layer is self.second else 1000.0)


class Large(Residual):
    """A weight beyond float16, of a channel that is always 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first.bias.data[0] = -1e4
        self.second.weight.data[:, 0] = 1e6


def test_a_large_sum_does_not_overflow() -> None:
    """256 activations of 2,000: their sum is beyond 65,504, their mean is not."""
    _, half = both(Bright)
    np.testing.assert_allclose(outputs(half, IMAGES)["penultimate"], 2000.0)


def test_a_layer_whose_weights_float16_can_not_hold_stays_float32() -> None:
    model, half = both(Large)
    large = [name for name, kind in kinds(half).items() if "second.weight" in name and kind == TensorProto.FLOAT]
    assert large
    np.testing.assert_allclose(outputs(half, IMAGES)["logits"], outputs(model, IMAGES)["logits"], rtol=5e-3, atol=5e-3)


class Pooled(nn.Module):
    """Nothing with weights before the activations."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, len(LABELS))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        penultimate = x.mean(dim=(2, 3))
        return self.fc(penultimate), penultimate


def test_a_network_without_layers() -> None:
    model, _ = graph(Pooled)
    with pytest.raises(ExportError, match="no convolution or linear layer before the penultimate"):
        to_half(model)


def test_what_the_rest_of_the_graph_reads_is_there() -> None:
    model, half = both(Shared)
    np.testing.assert_allclose(outputs(half, IMAGES)["logits"], outputs(model, IMAGES)["logits"], rtol=5e-3, atol=5e-3)
