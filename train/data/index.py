"""What a source says of its images before any of them is decoded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from train.data.files import File
from train.data.labels import Labels


@dataclass(frozen=True)
class Index:
    """N images that wait to be decoded.

    Attributes:
        names: N names.
        files: where the bytes of each are.
        labels: int64 [N], or multi-hot bool [N, K].
        classes: K class names.
    """

    names: list[str]
    files: list[File]
    labels: Labels
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def select(self, positions: npt.NDArray[np.intp]) -> Index:
        """The images at `positions`, in that order; `classes` stay as they are."""
        return replace(
            self,
            names=[self.names[i] for i in positions],
            files=[self.files[i] for i in positions],
            labels=self.labels[positions],
        )
