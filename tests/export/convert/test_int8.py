"""int8: which layers, in which bits, and the same integers as any other implementation."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from export.convert.int8 import Int8Options, Layer, Quantised, Target, quantise
from export.exceptions import ExportError
from tests.export.convert.graphs import Positive, Residual, Shared, graph, head, kinds, outputs, with_own_operator
from tests.small import calibration_images

RANGES, OTHERS, IMAGES = calibration_images(48, seed=5), calibration_images(48, seed=6), calibration_images(24)
MINMAX = Int8Options(method="minmax")


def quantised(options: Int8Options, kind: type[Residual] = Residual) -> tuple[onnx.ModelProto, Quantised]:
    model, _ = graph(kind)
    how = quantise(model, RANGES, OTHERS, options)
    onnx.checker.check_model(model, full_check=True)
    return model, how


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The quantised weights, by name."""
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 4
    }


def test_weights_are_symmetric_by_channel_and_of_seven_bits() -> None:
    model, how = quantised(MINMAX)
    original = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph()[0].graph.initializer}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = weights(model)
    assert how.layers == len(found) == 2
    for name, integers in found.items():
        assert np.abs(integers.astype(int)).max() == 64
        base = name.removesuffix("_quantized")
        scale, zero_point = constants[f"{base}_scale"], constants[f"{base}_zero_point"]
        assert scale.shape == (8,)
        assert not zero_point.any()
        largest = np.abs(original[base]).max(axis=(1, 2, 3))
        np.testing.assert_allclose(scale, largest / 64, rtol=1e-5)
        expected = np.rint(original[base] / scale[:, None, None, None])
        np.testing.assert_array_equal(integers, expected)


@pytest.mark.parametrize(
    ("keep", "names"),
    [
        ((), {"first", "second", "third"}),
        (("first",), {"second", "third"}),
        (("last",), {"first", "second"}),
        (("first", "last"), {"second"}),
    ],
)
def test_layers_that_are_kept(keep: tuple[Layer, ...], names: set[str]) -> None:
    model, how = quantised(Int8Options(method="minmax", keep=keep))
    assert {name.split(".")[1] for name in weights(model)} == names
    assert how.layers == len(names)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_layers_behind_an_operator_that_onnx_does_not_know(target: Target) -> None:
    model = with_own_operator()
    expected = outputs(model, IMAGES)["penultimate"]
    how = quantise(model, RANGES, OTHERS, Int8Options(target, "minmax"))
    assert {name.split(".")[1] for name in weights(model)} == {"second", "third"}
    assert how.layers == 2
    scale = np.abs(expected).max()
    assert 1e-5 * scale < np.abs(outputs(model, IMAGES)["penultimate"] - expected).max() < 0.05 * scale


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_head_and_normalisation_are_float32(target: Target) -> None:
    model, _ = quantised(Int8Options(target, "minmax"))
    original, _ = graph()
    assert head(model) == head(original)
    first, second = (
        [node.op_type for node in each.graph.node if node.op_type in ("Cast", "Mul", "Transpose", "Gemm", "ReduceMean")]
        for each in (model, original)
    )
    assert sorted(first) == sorted(second)
    (linear,) = (node for node in model.graph.node if node.op_type == "Gemm")
    assert kinds(model)[linear.input[1]] == TensorProto.FLOAT
    assert list(model.graph.input) == list(original.graph.input)
    assert list(model.graph.output) == list(original.graph.output)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_the_engine_computes_what_the_graph_says(target: Target) -> None:
    """Against the same graph in floating point: a saturated sum of products would be far off."""
    model, _ = quantised(Int8Options(target, "minmax"), Positive)
    expected = outputs(model, IMAGES, plain=True)["penultimate"]
    found = outputs(model, IMAGES)["penultimate"]
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() < 2e-3 * scale
    exact = outputs(graph(Positive)[0], IMAGES)["penultimate"]
    assert 1e-5 * scale < np.abs(found - exact).max() < 0.05 * scale


def test_activations_for_tensorrt() -> None:
    """Signed, zero points of 0, no integers of 32 bits."""
    model, _ = quantised(Int8Options("tensorrt", "minmax"))
    assert TensorProto.UINT8 not in kinds(model).values()
    assert TensorProto.INT32 not in kinds(model).values()
    points = [
        numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name.endswith("_zero_point")
    ]
    assert len(points) == 4
    assert not any(point.any() for point in points)


def test_activations_for_a_cpu() -> None:
    """Unsigned; the ReLU between two quantised layers is gone."""
    model, _ = quantised(MINMAX)
    points = [tensor for tensor in model.graph.initializer if tensor.name.endswith("_zero_point")]
    assert {tensor.data_type for tensor in points if not tensor.dims} == {TensorProto.UINT8}
    before = sum(node.op_type == "Relu" for node in graph()[0].graph.node)
    assert sum(node.op_type == "Relu" for node in model.graph.node) == before - 2


def test_the_method_with_the_smallest_error_is_chosen() -> None:
    model, how = quantised(Int8Options())
    assert set(how.errors) == {"minmax", "entropy", "percentile"}
    assert how.method == min(how.errors, key=lambda name: how.errors[name])
    exact, found = (outputs(each, OTHERS)["penultimate"].astype(np.float64) for each in (graph()[0], model))
    deviation = exact - exact.mean(axis=0)
    error = np.sqrt(((found - exact) ** 2).sum() / (deviation**2).sum())
    assert how.errors[how.method] == pytest.approx(error, rel=1e-6)
    again, given = quantised(Int8Options(method=how.method))
    assert given == Quantised(how.method, {}, 2)
    assert again == model


def test_a_single_image_chooses_too() -> None:
    """Nothing deviates from its mean: the errors are absurd, and still finite and in order."""
    model, _ = graph()
    how = quantise(model, RANGES, OTHERS[:1], Int8Options())
    assert all(map(math.isfinite, how.errors.values()))
    assert how.method == min(how.errors, key=lambda name: how.errors[name])


def test_what_the_rest_of_the_graph_reads_is_there() -> None:
    model, _ = quantised(Int8Options(method="minmax", keep=()), Shared)
    exact = outputs(graph(Shared)[0], IMAGES)["logits"]
    np.testing.assert_allclose(outputs(model, IMAGES)["logits"], exact, atol=0.05 * np.abs(exact).max())


def test_nothing_is_left_to_quantise() -> None:
    model, _ = graph(Shared)
    with pytest.raises(ExportError, match=r"nothing to quantise: the 2 layer\(s\)"):
        quantise(model, RANGES, OTHERS, Int8Options(keep=("first", "last")))
