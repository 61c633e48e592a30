"""What a file says of itself: labels, sizes, orders and ranges in its metadata and its first nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.from_onnx import face
from export.from_onnx.surgery.network import Network, plain
from tests.export.from_onnx.graphs import NCHW, K, Writer, torch_like


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("names", "{0: 'cat', 1: 'dog', 2: 'ship'}"),
        ("names", '{"0": "cat", "1": "dog", "2": "ship"}'),
        ("id2label", '{"2": "ship", "0": "cat", "1": "dog"}'),
        ("classes", '["cat", "dog", "ship"]'),
        ("class_names", "['cat', 'dog', 'ship']"),
        ("labels", "cat, dog, ship"),
        ("character", "cat\ndog\nship\n"),
        ("labels", "cat, dog,\n  ship\n"),
        ("labels", '{"cat": 0, "dog": 1, "ship": 2}'),
    ],
)
def test_labels_in_the_metadata(key: str, value: str) -> None:
    assert face.labels(torch_like(metadata={key: value})) == (("cat", "dog", "ship"), key)


@pytest.mark.parametrize("value", ["", "cat", "{0: 'cat', 2: 'ship'}", "{'a': 'b'}", "3", "(" * 500, "{0: open('x')}"])
def test_metadata_without_labels(value: str) -> None:
    assert face.labels(torch_like(metadata={"names": value})) == ((), "")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"Image.NominalPixelRange": "NominalRange_0_255"}, (0.0, 1 / 255)),
        ({"Image.NominalPixelRange": "Normalized_0_1"}, (0.0, 1.0)),
        ({"Image.NominalPixelRange": "Normalized_1_1"}, (0.5, 0.5)),
        ({"author": "Ultralytics", "task": "classify"}, (0.0, 1.0)),
        ({"author": "Ultralytics", "task": "detect"}, None),
        ({}, None),
    ],
)
def test_the_range_in_the_metadata(metadata: dict[str, str], expected: tuple[float, float] | None) -> None:
    model = torch_like(metadata=metadata)
    found = face.statistics(Network(plain(model)), "input")
    assert (found and found[:2]) == expected


def test_the_order_in_the_metadata() -> None:
    assert face.channels(torch_like(metadata={"Image.BitmapPixelFormat": "Bgr8"})) == "bgr"
    assert face.channels(torch_like()) is None


@pytest.mark.parametrize(
    ("kind", "constant", "inside"),
    [
        ("Div", 255.0, True),
        ("Mul", 1 / 255, True),
        ("Mul", 1 / 127.5, True),
        ("Sub", 127.5, True),
        ("Sub", [[[103.9]], [[116.8]], [[123.7]]], True),
        ("Sub", [[[0.485]], [[0.456]], [[0.406]]], False),
        ("Div", 0.5, False),
        ("Mul", 2.0, False),
    ],
)
@pytest.mark.parametrize("cast", [False, True])
def test_normalisation_inside_the_graph(kind: str, constant: Any, inside: bool, cast: bool) -> None:
    w = Writer()
    w.constant("c", np.asarray(constant, np.float32))
    x = w.op("Cast", "x", "float", to=TensorProto.FLOAT) if cast else "x"
    w.op(kind, f"{x} c", "normal")
    w.op("Flatten", w.features("normal"), "flat")
    w.fc("flat", "output")
    found = face.statistics(Network(plain(w.model({"x": NCHW}, {"output": (1, K)}))), "x")
    assert (found is not None and found[:2] == (0.0, 1 / 255)) == inside


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 3, 224, 192), ("nchw", 3, 224, 192)),
        ((1, 224, 192, 3), ("nhwc", 3, 224, 192)),
        ((1, 1, 28, 28), ("nchw", 1, 28, 28)),
        (("N", 28, 28, 1), ("nhwc", 1, 28, 28)),
        ((1, 3, "h", "w"), ("nchw", 3, None, None)),
        (("N", "h", "w", 3), ("nhwc", 3, None, None)),
        ((-1, 3, -1, 0), ("nchw", 3, None, None)),
        ((8, 192), (None, None, None, None)),
    ],
    ids=str,
)
def test_shapes(shape: tuple[int | str, ...], expected: tuple[Any, ...]) -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", inputs, outputs)
    found = face.find(Network(plain(helper.make_model(graph))), None)
    assert (found.layout, found.channels, found.height, found.width) == expected
    assert found.batch == (shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None)
    assert found.row == (shape[1] if len(shape) == 2 else None)
    assert found.dtype == onnx.TensorProto.FLOAT
