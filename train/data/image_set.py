"""A set of labelled images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from runtime.manifest import Task
from train.data.images import Images, batches, join
from train.data.index import Labels, task_of
from train.exceptions import DataError


@dataclass(frozen=True)
class ImageSet:
    """N images and their labels.

    Attributes:
        images: uint8 [N, H, W, 3], RGB; an array, or a :class:`train.data.images.LazyImages`.
        labels: int64 [N], indices into `classes`; or, where an image may have several labels or none, multi-hot
            bool [N, K].
        classes: K class names; sorted, or by number where the source numbers them.
        names: N names, for messages about one image.
        skipped: names of the images that could not be read and are not among the N.
    """

    images: Images
    labels: Labels
    classes: tuple[str, ...]
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def task(self) -> Task:
        """``multiclass``: one label an image; ``multilabel``: any number of them."""
        return task_of(self.labels)

    def batches(self, size: int) -> Iterator[tuple[npt.NDArray[np.uint8], Labels]]:
        """Images and labels in order, at most `size` at a time, the next ones decoded while these are used."""
        for i, images in enumerate(batches(self.images, size)):
            yield images, self.labels[i * size : i * size + len(images)]

    def check_trainable(self, source: str) -> None:
        """Make sure that there is something to tell apart.

        Raises:
            DataError: fewer than two classes, or where an image may have several labels, none at all.
        """
        if len(self.classes) < (needed := 2 if self.task == "multiclass" else 1):
            raise DataError(
                f"{source}: expected at least {needed} classes to learn, found {list(self.classes)}; a source has one "
                "folder a class, or a labels.csv"
            )

    def with_classes(self, classes: Sequence[str], source: str) -> ImageSet:
        """The same images, labelled by the indices of `classes`.

        Raises:
            DataError: when the set has a class that is not in `classes`.
        """
        if unknown := sorted(set(self.classes) - set(classes)):
            which = f"{source}: class {unknown[0]!r}"
            if self.task == "multilabel":
                having = np.flatnonzero(self.labels[:, self.classes.index(unknown[0])])
                which = ", ".join([f"{source}: label {unknown[0]!r}", *(f"of {self.names[i]}," for i in having[:1])])
            raise DataError(f"{which} is not one of the model's {list(classes)}")
        order = np.array([list(classes).index(name) for name in self.classes], dtype=np.int64)
        if self.task == "multiclass":
            return replace(self, labels=order[self.labels], classes=tuple(classes))
        labels = np.zeros((len(self), len(classes)), dtype=np.bool_)
        labels[:, order] = self.labels
        return replace(self, labels=labels, classes=tuple(classes))


def concatenate(sets: Sequence[ImageSet]) -> ImageSet:
    """Several sets as one, for auxiliary outliers; their classes are dropped, all labels are 0."""
    images = join([part.images for part in sets])
    names = tuple(name for part in sets for name in part.names)
    skipped = tuple(name for part in sets for name in part.skipped)
    return ImageSet(images, np.zeros(len(images), dtype=np.int64), ("outlier",), names, skipped)
