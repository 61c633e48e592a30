"""Where the outputs of a batch lie in one piece of memory, so that one copy brings them to the host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.manifest import Manifest

_ALIGNMENT = 256


@dataclass(frozen=True)
class Place:
    """An output's offset in bytes, element type and shape."""

    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def places(manifest: Manifest, batch: int) -> dict[str, Place]:
    """The outputs of a batch: logits and scores first, which every caller wants."""
    shapes = {
        "logits": ("float32", (batch, len(manifest.labels))),
        "scores": ("float32", (batch, len(manifest.scores))),
        "penultimate": ("float32", (batch, manifest.model.features)),
        "accept": ("bool", (batch,)),
    }
    found: dict[str, Place] = {}
    offset = 0
    for name, (dtype, shape) in shapes.items():
        found[name] = Place(offset, dtype, shape)
        offset = -(-found[name].end // _ALIGNMENT) * _ALIGNMENT
    return found


def view(memory: npt.NDArray[np.uint8], place: Place) -> npt.NDArray[np.float32]:
    """An output in host memory, as an array."""
    return memory[place.offset : place.end].view(place.dtype).reshape(place.shape)


def sizes(smallest: int, largest: int) -> tuple[int, ...]:
    """The batch sizes that are prepared: the powers of two between `smallest` and `largest`, and both."""
    powers = [1 << bit for bit in range(largest.bit_length()) if smallest < 1 << bit < largest]
    return tuple(sorted({smallest, *powers, largest}))
