"""The user's own file in ONNX Runtime: what an export is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.from_onnx.surgery.pixels import Pixels
from export.graph.session import run, session
from runtime.manifest import InputSpec


class Original:
    """Answers of a file whose nodes are as they were, and tensors inside it.

    Args:
        model: as it was read.
        pixels: what it takes.
        tensors: to be fetched, outputs or not; the input itself may be among them.
        batch: the number of images that it takes at once; None for any number.

    Raises:
        ExportError: ONNX Runtime does not take it.
    """

    def __init__(self, model: onnx.ModelProto, pixels: Pixels, tensors: Sequence[str], batch: int | None) -> None:
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        own = {output.name for output in model.graph.output}
        inside = [name for name in tensors if name not in own and name != pixels.tensor]
        exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inside)
        self._session = session(exposed)
        self._pixels, self._batch, self._tensors = pixels, batch, tuple(tensors)

    def __call__(self, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """The tensors for images uint8 [n, H, W, 3], each (n, ...); what is made of several runs is concatenated."""
        size = self._batch or len(images)
        parts = [self._run(images[start : start + size], size) for start in range(0, len(images), size)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._tensors}

    def behind(self, spec: InputSpec) -> Original:
        """The same file, which its pixels reach by another normalisation or order of channels."""
        other = copy(self)
        other._pixels = replace(self._pixels, spec=spec)
        return other

    def _run(self, images: npt.NDArray[np.uint8], size: int) -> dict[str, npt.NDArray[Any]]:
        count = len(images)
        filled = images if count == size else np.concatenate([images, images[-1:].repeat(size - count, 0)])
        x = self._pixels.array(filled)
        fetched = [name for name in self._tensors if name != self._pixels.tensor]
        values = run(self._session, fetched, {self._pixels.tensor: x})
        found = dict(zip(fetched, values, strict=True)) | {self._pixels.tensor: x}
        return {name: _by_image(found[name], size)[:count] for name in self._tensors}


def _by_image(value: Any, batch: int) -> npt.NDArray[Any]:
    """An output with one row an image: dictionaries become rows, a lost batch dimension is put back."""
    if isinstance(value, list):
        value = np.array([list(item.values()) for item in value])
    array = np.asarray(value)
    if array.ndim and array.shape[0] == batch:
        return array
    return array.reshape(batch, -1) if array.size % batch == 0 else array[None].repeat(batch, 0)
