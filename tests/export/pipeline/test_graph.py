"""The resize in the graph, against Pillow's and the runtime's own pixels: not one may differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from benchmarks.pixels.images import drawn
from export.pipeline.graph import with_resize
from runtime.bundle import Bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.manifest import InputSpec
from runtime.preprocess import fit

# width, height: smaller than the input and larger, near its aspect and far from it, endless ones, and 1 x 1
SIZES = [
    *[(1, 1), (7, 1), (1, 9), (13, 17), (20, 24), (40, 48), (97, 61), (31, 64), (333, 250)],
    *[(50, 333), (60, 333), (640, 97), (300, 3), (2, 131)],
]
RULES: dict[str, dict[str, Any]] = {
    "center": {},
    "center, cropped": {"crop_fraction": 0.875},
    "shortest": {"resize": "shortest", "resize_to": 27},
    "shortest, floor": {"resize": "shortest", "resize_to": 25, "corner": "floor"},
    "shortest of a pair": {"resize": "shortest", "resize_to": (23, 30)},
    "squash": {"resize": "squash"},
    "squash, larger": {"resize": "squash", "resize_to": (27, 60)},
    "border": {"resize": "border", "resize_to": (30, 30), "fill": (1, 20, 255)},
    "border, smaller": {"resize": "border", "resize_to": (11, 9), "corner": "floor"},
    "none": {"resize": "none"},
    "none, floor": {"resize": "none", "corner": "floor"},
}


def spec(**options: Any) -> InputSpec:
    return InputSpec(24, 20, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), **options)


def bare(rule: InputSpec) -> bytes:
    """A model that shows the pixels that it is given."""
    shape = ("N", rule.height, rule.width, 3)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["pixels"])],
        "pixels",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def most(found: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> int:
    return int(np.abs(found.astype(int) - expected).max())


@pytest.mark.parametrize("rule", RULES)
def test_every_pixel_is_pillows(rule: str) -> None:
    check(spec(interpolation="bicubic", **RULES[rule]))


@pytest.mark.parametrize("filter_", ["nearest", "bilinear", "lanczos"])
@pytest.mark.parametrize("rule", ["center, cropped", "shortest", "border"])
def test_every_pixel_is_pillows_by_any_filter(rule: str, filter_: str) -> None:
    check(spec(interpolation=filter_, **RULES[rule]))


@pytest.mark.parametrize("filter_", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("rule", ["shortest", "squash, larger", "border"])
def test_every_pixel_is_that_of_torchs_arithmetic(rule: str, filter_: str) -> None:
    check(spec(interpolation=filter_, resampler="torch", **RULES[rule]))


def check(rule: InputSpec) -> None:
    run = session(with_resize(bare(rule), rule)).run
    for size in SIZES:
        image = drawn(*size)
        (found,) = run(None, {"image": np.asarray(image)})
        assert found.shape == (1, 24, 20, 3)
        assert most(found[0], fit(image, rule)) == 0, size


def test_it_is_a_valid_graph_of_the_version_that_the_model_has(shared_bundle: Bundle) -> None:
    model = onnx.load_from_string(with_resize(shared_bundle.model, shared_bundle.manifest.input))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import == onnx.load_from_string(shared_bundle.model).opset_import
    assert {item.domain for item in model.opset_import} == {""}


def test_scores_and_decision_are_those_of_the_model_and_its_metadata_and_threshold_too(shared_bundle: Bundle) -> None:
    rule = shared_bundle.manifest.input
    behind = session(with_resize(shared_bundle.model, rule))
    assert [(item.name, item.type, item.shape) for item in behind.get_inputs()] == [
        ("image", "tensor(uint8)", ["H", "W", 3])
    ]
    assert [item.shape[0] for item in behind.get_outputs()] == [1, 1, 1, 1]
    engine = OnnxRuntimeCpu(shared_bundle.model, threads=1)
    assert behind.get_modelmeta().custom_metadata_map["oodgate"] == engine.signature.manifest
    for size in SIZES:
        outputs = engine.run(fit(drawn(*size), rule)[np.newaxis], penultimate=True)
        logits, penultimate, scores, accept = behind.run(None, {"image": np.asarray(drawn(*size))})
        np.testing.assert_array_equal(logits, outputs.logits)
        np.testing.assert_array_equal(penultimate, outputs.penultimate)
        np.testing.assert_array_equal(scores, outputs.scores)
        np.testing.assert_array_equal(accept, outputs.accept)
    image = np.asarray(Image.new("RGB", (5, 5)))
    for threshold, accepted in ((-np.inf, True), (np.inf, False)):
        accept = behind.run(["accept"], {"image": image, "threshold": np.array(threshold, np.float32)})[0]
        assert accept.tolist() == [accepted]


def test_a_model_that_computes_with_whole_pixels_gets_them() -> None:
    """Their type is uint8 again, for a first node that is no Cast; here one that wraps around."""
    rule = spec()
    model = onnx.load_from_string(bare(rule))
    model.graph.node[0].op_type = "Add"
    model.graph.node[0].input.append("images")
    run = session(with_resize(bytes(model.SerializeToString()), rule)).run
    image = drawn(50, 60)
    np.testing.assert_array_equal(run(None, {"image": np.asarray(image)})[0][0], fit(image, rule) * np.uint8(2))
