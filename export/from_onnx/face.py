"""What a file says of its input and its classes: shape, layout, size, the metadata that exporters write."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto

from export.exceptions import ExportError
from export.from_onnx.surgery.network import Network, attributes
from export.from_onnx.surgery.pixels import WHOLE_NUMBERS, Layout
from runtime.manifest import Channels

MAX_PIXELS = 2**24

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_LABEL_KEYS = ("names", "labels", "classes", "class_names", "label_names", "id2label", "categories", "character")
# The ONNX standard's names of what an image input holds.
_FORMATS: dict[str, Channels] = {"Rgb8": "rgb", "Bgr8": "bgr", "Gray8": "grey"}
_RANGES = {"NominalRange_0_255": (0.0, 1 / 255), "Normalized_0_1": (0.0, 1.0), "Normalized_1_1": (0.5, 0.5)}


@dataclass(frozen=True)
class Face:
    """An input for images, as far as the file says.

    Attributes:
        tensor, dtype: its name and ONNX element type.
        batch: the number of images that it is written down for; None where any number is taken.
        layout: where the channels stand; None for a row of numbers an image, in an order that nobody named.
        channels: 1, 3, or None for a row of numbers.
        height, width: in pixels; None where any size is taken, or an image is a row.
        row: how many numbers an image has, where it is a row.
    """

    tensor: str
    dtype: int
    batch: int | None
    layout: Layout | None
    channels: int | None
    height: int | None
    width: int | None
    row: int | None = None

    @property
    def whole(self) -> bool:
        """Whether pixels go in as they are, as whole numbers."""
        return self.dtype in WHOLE_NUMBERS


def find(network: Network, layout: Layout | None) -> Face:
    """The input for images.

    Args:
        network: plain.
        layout: by ``--layout``, where the shape leaves it open.

    Raises:
        ExportError: several inputs, or one that is none for images.
    """
    inputs = network.model.graph.input
    if len(inputs) != 1:
        listed = ", ".join(f"{item.name} {_sizes(item)}" for item in inputs) or "none"
        raise ExportError(f"expected one input, for images; found {len(inputs)}: {listed}")
    kind, name = inputs[0].type.tensor_type, inputs[0].name
    sizes = _sizes(inputs[0])
    if kind.elem_type not in (*_FLOATS, *WHOLE_NUMBERS):
        found = TensorProto.DataType.Name(kind.elem_type).lower()
        raise ExportError(
            f"the input {name} is of {found}; images are uint8, int32, int64, float16, float32 or float64"
        )
    batch = sizes[0] if sizes else None
    if len(sizes) == 2:
        return Face(name, kind.elem_type, batch, layout, None, None, None, sizes[1])
    if len(sizes) != 4:
        raise ExportError(
            f"the input {name} {sizes} is none for images: expected [N, C, H, W], [N, H, W, C] or [N, numbers]"
        )
    layout = layout or _layout(network, name, sizes)
    channels, height, width = (sizes[i] for i in ((1, 2, 3) if layout == "nchw" else (3, 1, 2)))
    if channels not in (None, 1, 3):
        raise ExportError(f"the input {name} {sizes} has {channels} channels as {layout}; images have 3, or 1 of grey")
    if (height or 1) * (width or 1) > MAX_PIXELS:
        raise ExportError(f"the input {name} takes {height} x {width} pixels; 16 million are the most that make sense")
    return Face(name, kind.elem_type, batch, layout, channels or 3, height, width)


def labels(model: onnx.ModelProto) -> tuple[tuple[str, ...], str]:
    """Class names in the file's metadata, and the key they stand at; none where it has none."""
    metadata = {item.key: item.value for item in model.metadata_props}
    for key in _LABEL_KEYS:
        if key in metadata and (names := _names(metadata[key])):
            return names, key
    return (), ""


def channels(model: onnx.ModelProto) -> Channels | None:
    """The order of the channels, where the metadata has ONNX's standard name of it."""
    return _FORMATS.get(_metadata(model, "Image.BitmapPixelFormat"))


def statistics(network: Network, tensor: str) -> tuple[float, float, str] | None:
    """Mean and std that bring pixels / 255 into the range that a graph takes, and how that is known; None if it is not."""
    model = network.model
    if (kind := _metadata(model, "Image.NominalPixelRange")) in _RANGES:
        return *_RANGES[kind], f"its metadata says {kind}"
    if is_ultralytics(model):
        return 0.0, 1.0, "Ultralytics' classifiers take pixels / 255"
    if (first := _first_arithmetic(network, tensor)) is None:
        return None
    kind, value = first
    if (kind == "Div" and 100 < value < 300) or (kind == "Mul" and 1 / 300 < value < 1 / 100):
        return 0.0, 1 / 255, f"the graph begins with {_WORDS[kind]} {value:.6g}"
    if kind in ("Sub", "Add") and 20 < abs(value) < 256:
        return 0.0, 1 / 255, f"the graph begins with {_WORDS[kind]} {value:.6g}"
    return None


def is_ultralytics(model: onnx.ModelProto) -> bool:
    """Whether Ultralytics wrote the file, for classification."""
    return _metadata(model, "author").lower() == "ultralytics" and _metadata(model, "task") in ("classify", "")


def _layout(network: Network, name: str, sizes: list[int | None]) -> Layout:
    fits: list[Layout] = []
    if sizes[1] in (1, 3):
        fits.append("nchw")
    if sizes[3] in (1, 3):
        fits.append("nhwc")
    if len(fits) == 1:
        return fits[0]
    readers = [node for node in network.model.graph.node if name in node.input]
    if None in sizes[1:] and len(readers) == 1:
        if readers[0].op_type == "Conv":
            return "nchw"
        if readers[0].op_type == "Transpose" and list(attributes(readers[0]).get("perm", ())) == [0, 3, 1, 2]:
            return "nhwc"
    said = "could be either" if fits or None in sizes[1:] else "has no 3 channels, nor 1"
    raise ExportError(f"the input {name} {sizes} {said}: say --layout nchw (channels first) or nhwc (channels last)")


def _first_arithmetic(network: Network, tensor: str) -> tuple[str, float] | None:
    """What the first node that computes does with a constant: its kind and the constant's mean."""
    while True:
        readers = [node for node in network.model.graph.node if tensor in node.input]
        if len(readers) != 1:
            return None
        node = readers[0]
        if node.op_type in ("Cast", "Transpose", "Identity", "Gather", "Reshape", "Flatten"):
            tensor = node.output[0]
            continue
        if node.op_type not in _WORDS or len(node.input) != 2 or node.input[0] != tensor:
            return None
        value = network.constant(node.input[1])
        return None if value is None or not value.size else (node.op_type, float(value.mean()))


def _names(text: str) -> tuple[str, ...]:
    """Class names of JSON, of Python's notation, or of a list with commas or one name a line."""
    found: Any = None
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
            break
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    if isinstance(found, dict):
        if not all(str(key).isdigit() for key in found):
            found = {value: key for key, value in found.items() if str(value).isdigit()}  # label2id
        by_index = {int(key): str(value) for key, value in found.items() if str(key).isdigit()}
        return (
            tuple(by_index[i] for i in range(len(by_index))) if sorted(by_index) == list(range(len(by_index))) else ()
        )
    if isinstance(found, list | tuple):
        return tuple(map(str, found))
    lines = [line.strip() for line in text.strip().split("\n")]
    if found is not None or (len(lines) == 1 and "," not in text):
        return ()
    wrapped = len(lines) == 1 or any(line.endswith(",") for line in lines[:-1])
    return tuple(part.strip() for part in text.split(",")) if wrapped else tuple(lines)


def _metadata(model: onnx.ModelProto, key: str) -> str:
    return next((item.value for item in model.metadata_props if item.key == key), "")


def _sizes(item: onnx.ValueInfoProto) -> list[int | None]:
    return [dim.dim_value or None for dim in item.type.tensor_type.shape.dim]


_WORDS = {"Div": "a division by", "Mul": "a multiplication by", "Sub": "a subtraction of", "Add": "an addition of"}
