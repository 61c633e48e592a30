"""An ONNX file as people have it: known by its first bytes, read whole, or refused in a line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import external_data_helper, helper

from export.exceptions import ExportError

# What protobuf can hold, which is what ONNX Runtime reads at once, and a bundle's model.onnx is one file.
MAX_BYTES = 2**31 - 1

_LFS_POINTER = b"version https://git-lfs"
_ORT_FORMAT = b"ORTM"
# A ModelProto starts with its ir_version, a small number, behind which stands one of its other fields.
_IR_VERSION, _OTHER_FIELDS = 0x08, (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)


def is_onnx(path: Path) -> bool:
    """Whether a file is to be read as ONNX: it is called so, or its first bytes are such a file's."""
    if path.is_dir():
        return False
    if path.suffix.lower() in (".onnx", ".ort"):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError:
        return False
    if len(start) < 9 or start[8:] == b"{":  # the length in front of a safetensors header
        return False
    return start[0] == _IR_VERSION and 1 <= start[1] <= 31 and start[2] in _OTHER_FIELDS


def read(path: Path) -> onnx.ModelProto:
    """The model with all its weights, those in files beside it included.

    Raises:
        ExportError: not such a file, damaged, too large, or with weights that are missing or outside its folder.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise _too_large(path, size)
        content = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if content.startswith(_LFS_POINTER):
        raise ExportError(f"{path}: a pointer of Git LFS, {len(content)} bytes, not the file itself; run: git lfs pull")
    if content[4:8] == _ORT_FORMAT:
        raise ExportError(f"{path}: ONNX Runtime's own format, made for one device; give the .onnx that it was made of")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's own, which has no public name that onnx promises
        raise ExportError(
            f"{path}: not readable as ONNX ({len(content)} bytes): damaged, or another kind of file"
        ) from error
    _load_weights(model, path)
    check(model, path)
    return model


def check(model: onnx.ModelProto, path: Path) -> None:
    """Raises ExportError for a model, called `path`, without a graph, or with weights that it has not, or not whole."""
    if not model.graph.node or not model.graph.output:
        raise ExportError(f"{path}: not an ONNX model: there is no graph with outputs in it")
    for tensor in _tensors(model.graph):
        if external_data_helper.uses_external_data(tensor):
            raise ExportError(
                f"{path}: the weights {tensor.name!r} are in a file beside it; load it with onnx.load(PATH)"
            )
        _check_size(tensor, path)


def _load_weights(model: onnx.ModelProto, path: Path) -> None:
    outside = [tensor for tensor in _tensors(model.graph) if external_data_helper.uses_external_data(tensor)]
    folder, sizes = path.parent.resolve(), {}
    for tensor in outside:
        location = next((item.value for item in tensor.external_data if item.key == "location"), "")
        file = (folder / location).resolve()
        if location and (folder / location).is_symlink() and not file.is_relative_to(folder):
            raise ExportError(
                f"{path}: its weights are in {location}, a link to a file elsewhere; copy both, as cp -L does"
            )
        if not location or not file.is_relative_to(folder):
            raise ExportError(f"{path}: the weights {tensor.name!r} are said to be in {location!r}, outside its folder")
        if not file.is_file():
            raise ExportError(f"{path}: its weights are in {location}, which is missing beside it")
        sizes[file] = file.stat().st_size
    if (size := sum(sizes.values())) > MAX_BYTES:
        raise _too_large(path, size)
    try:
        if outside:
            external_data_helper.load_external_data_for_model(model, str(folder))
    except Exception as error:  # the checker's and the file system's
        raise ExportError(
            f"{path}: its weights in {', '.join(f.name for f in sizes)} can't be read: {error}"
        ) from error


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a graph, those in nodes and in the bodies of branches included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for body in (attribute.g, *attribute.graphs):
                yield from _tensors(body)


def _check_size(tensor: onnx.TensorProto, path: Path) -> None:
    """Raises ExportError for weights that are fewer or more than their shape says."""
    if tensor.data_type not in _ITEM_BYTES:
        return
    typed = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    found = len(tensor.raw_data) / _ITEM_BYTES[tensor.data_type] if tensor.raw_data else sum(map(len, typed))
    expected = math.prod(tensor.dims)
    if expected != found:
        raise ExportError(
            f"{path}: damaged: the weights {tensor.name!r} of shape {list(tensor.dims)} should be {expected} numbers, "
            f"found {found:g}"
        )


def _too_large(path: Path, size: int) -> ExportError:
    return ExportError(
        f"{path}: {size / 1e9:.1f} GB of weights; a bundle's model.onnx, one file that protobuf can hold, has at most 2.1 GB"
    )


_ITEM_BYTES = {kind: np.dtype(helper.tensor_dtype_to_np_dtype(kind)).itemsize for kind in (*range(1, 8), *range(9, 14))}
