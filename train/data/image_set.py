"""A set of labelled images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from runtime.manifest import Task
from train.data.images import Images, batches, join
from train.data.index import Index, Labels, relabelled, task_of
from train.data.labels.matching import resolve
from train.data.report import Report, some
from train.exceptions import DataError

_NAMED = 20  # labels of a model that are named one by one


@dataclass(frozen=True)
class ImageSet:
    """N images and their labels.

    Attributes:
        images: uint8 [N, H, W, 3], RGB; an array, or a :class:`train.data.images.LazyImages`.
        labels: int64 [N], indices into `classes`; or, where an image may have several labels or none, multi-hot
            bool [N, K].
        classes: K class names; sorted, or by number where the source numbers them; none, and `labels` zeros, where images
            of one label each have none.
        names: N names, for messages about one image.
        skipped: names of the images that could not be read and are not among the N.
        report: what is to be said of how they were read.
    """

    images: Images
    labels: Labels
    classes: tuple[str, ...]
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    report: Report = field(default_factory=Report)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def task(self) -> Task:
        """``multiclass``: one label an image; ``multilabel``: any number of them."""
        return task_of(self.labels)

    @property
    def labelled(self) -> bool:
        """Whether there are labels; that an image has none of several is one too."""
        return self.task == "multilabel" or bool(self.classes)

    def batches(self, size: int) -> Iterator[tuple[npt.NDArray[np.uint8], Labels]]:
        """Images and labels in order, at most `size` at a time, the next ones decoded while these are used."""
        for i, images in enumerate(batches(self.images, size)):
            yield images, self.labels[i * size : i * size + len(images)]

    def check_trainable(self, source: str) -> None:
        """Make sure that there is something to tell apart.

        Raises:
            DataError: fewer than two classes, or where an image may have several labels, none at all; a class without
                images, or images beside the class folders.
        """
        if len(self.classes) < (needed := 2 if self.task == "multiclass" else 1):
            raise DataError(
                f"{source}: expected at least {needed} classes to learn, found {list(self.classes)}; a source has one "
                "folder a class, or a labels.csv"
            )
        if self.report.strays:
            raise DataError(
                f"{source}: {some(self.report.strays)} beside the class folders would be a class of their own; put them into "
                "one of them"
            )
        seen = np.unique(self.labels) if self.task == "multiclass" else np.flatnonzero(self.labels.any(axis=0))
        if bare := [self.classes[i] for i in np.setdiff1d(np.arange(len(self.classes)), seen)]:
            raise DataError(
                f"{source}: no image of {some(bare)}, which can't be learned; give some that can be read, or leave the "
                "class out"
            )

    def with_classes(self, classes: Sequence[str], source: str) -> ImageSet:
        """The same images, labelled by the indices of `classes` (:func:`train.data.labels.matching.resolve`).

        Raises:
            DataError: no labels, or a class that is none of `classes` beyond doubt.
        """
        if not self.labelled:
            raise DataError(f"{source}: its images have no labels, and labels are needed")
        if strange := self.unknown_to(classes):
            unknown = strange[0]
            which = f"{source}: class {unknown!r}"
            if self.task == "multilabel":
                having = np.flatnonzero(self.labels[:, self.classes.index(unknown)])
                which = ", ".join([f"{source}: label {unknown!r}", *(f"of {self.names[i]}," for i in having[:1])])
            named = list(classes) if len(classes) <= _NAMED else f"{len(classes):,}: {some(classes)}"
            others = f"; nor are {len(strange) - 1:,} other classes: {some(strange[1:])}" if strange[1:] else ""
            raise DataError(
                f"{which} is not one of the model's {named}{others}. Leave its images out, or call it as the model does"
            )
        indices = np.array(resolve(self.classes, classes).indices, dtype=np.int64)
        labels = relabelled(self.labels, indices, len(classes))
        return replace(self, labels=labels, classes=tuple(classes))

    def with_labels_of(self, classes: Sequence[str], source: str) -> ImageSet | None:
        """:meth:`with_classes`; None where the images have no labels, or none of them is one of `classes`.

        Raises:
            DataError: some classes are among `classes` and others are not.
        """
        strange = self.unknown_to(classes)
        known = self.labelled and (not strange or len(strange) < len(self.classes))
        return self.with_classes(classes, source) if known else None

    def matched(self, classes: Sequence[str]) -> ImageSet:
        """:meth:`with_classes` where all classes are among `classes`, and otherwise as it is; the report says which."""
        index = Index(self.names, (), self.labels, self.classes, self.report).matched(classes)
        return replace(self, labels=index.labels, classes=index.classes, report=index.report)

    def unknown_to(self, classes: Sequence[str]) -> tuple[str, ...]:
        """The classes of the set that are none of `classes` beyond doubt."""
        found = resolve(self.classes, classes).indices
        return tuple(name for name, index in zip(self.classes, found, strict=True) if index is None)


def concatenate(sets: Sequence[ImageSet]) -> ImageSet:
    """Several sets as one, for auxiliary outliers; their classes are dropped, all labels are 0."""
    images = join([part.images for part in sets])
    names = tuple(name for part in sets for name in part.names)
    skipped = tuple(name for part in sets for name in part.skipped)
    return ImageSet(images, np.zeros(len(images), dtype=np.int64), ("outlier",), names, skipped)
