"""The images that a bundle was made with."""

from __future__ import annotations

import base64
from dataclasses import dataclass


@dataclass(frozen=True)
class DataSpec:
    """A set of images that the bundle was made with.

    Attributes:
        source, images: which, and how many.
        sketch: base64 of little-endian uint64: the smallest hashes of the images' pixels (:mod:`export.leakage`).
    """

    source: str
    images: int
    sketch: str

    def __post_init__(self) -> None:
        try:
            size = len(base64.b64decode(self.sketch, validate=True))
        except ValueError:
            size = -1
        if size < 0 or size % 8:
            raise ValueError("sketch must be base64 of 64-bit hashes")
