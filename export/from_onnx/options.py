"""The options of an ONNX classifier, and what the file says itself where they don't."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from typing import get_args

import numpy as np

from export.exceptions import ExportError, as_export_errors
from export.from_onnx import beside, face
from export.from_onnx.classifier import OnnxClassifier, Opened, from_onnx
from export.from_onnx.surgery.pixels import Layout
from runtime.exceptions import OodgateError
from runtime.manifest import Channels
from train.descriptions.description import Description, check_labels, named

Values = tuple[float, ...]


@dataclass(frozen=True)
class Tensors:
    """Which of a file's tensors are what; None where there is no choice.

    Attributes:
        output: the output, or the tensor inside, that has the logits; of a file without classes the features.
        penultimate: the activations; None for what the last layer reads.
        layout: of the input.
    """

    output: str | None = None
    penultimate: str | None = None
    layout: Layout | None = None

    @classmethod
    def of(cls, args: argparse.Namespace) -> Tensors:
        """From the options of :func:`add_onnx_options`."""
        return cls(args.output, args.penultimate, args.layout)


def add_onnx_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--output``, ``--penultimate`` and ``--layout``."""
    group = parser.add_argument_group(
        "any ONNX classifier (--checkpoint model.onnx)", "Beside what it was trained with:"
    )
    group.add_argument(
        "--output",
        metavar="TENSOR",
        help="that has the logits, or with --task unlabelled the features, where there are several outputs",
    )
    group.add_argument(
        "--penultimate",
        metavar="TENSOR",
        help="of activations (default: what the last layer reads); or `backbone`, of a checkpoint of ours whose architecture "
        "ends in +nan: the features that its projection head reads",
    )
    group.add_argument("--layout", choices=get_args(Layout), help="of the input, where its shape leaves it open")


@as_export_errors()
def classifier_of(opened: Opened, given: Description, tensors: Tensors) -> OnnxClassifier:
    """The classifier of a file.

    Args:
        opened: the file.
        given: what the user says of it, which is true whatever the file says.
        tensors: which of its tensors are what.

    Raises:
        ExportError: what is missing, or contradicts the file.
    """
    try:
        described = given.over(_said(opened, given))
        described = described.over(beside.described(opened.path)) if opened.beside else described
        check_labels(described.labels or ())
        description = dataclasses.replace(described, channels=_channels(opened, described))
        spec = description.input("it")
    except (OodgateError, ValueError) as error:
        raise ExportError(f"{opened.path}: {error}") from error
    if description.task == "unlabelled" and tensors.output and tensors.penultimate:
        raise ExportError(
            f"{opened.path}: --output and --penultimate: without classes there are features alone; give one"
        )
    return from_onnx(
        opened,
        () if description.task == "unlabelled" else description.labels or (),
        spec,
        description.task or "multiclass",
        output=tensors.output,
        penultimate=tensors.penultimate,
        remarks=description.lines,
    )


def _said(opened: Opened, given: Description) -> Description:
    """What the file says, or what is so of all files like it, where `given` says nothing."""
    size = _size(opened, given.size)
    mean, std, why = _statistics(opened, given)
    resize_to = None
    if size and not given.resize and face.is_ultralytics(opened.model):
        resize_to = min(size)
        why = (*why, f"Ultralytics' classifiers see the centre of an image whose short side is {resize_to}")
    channels = face.channels(opened.model)
    if channels == "bgr" and given.channels != "bgr":
        said = (
            f"--channels {given.channels} says otherwise"
            if given.channels
            else "channels are given to it in that order"
        )
        why = (*why, f"its metadata says Bgr8: {said}")
    if given.labels and given.labels != opened.labels and sorted(given.labels) == sorted(opened.labels):
        why = (*why, f"{opened.labels_from} has these labels in another order: --labels says otherwise")
    labels = named(opened.labels, opened.labels_from) if opened.labels else Description()
    return Description(
        size=size,
        mean=mean,
        std=std,
        resize="shortest" if resize_to else None,
        resize_to=resize_to,
        channels=channels,
        remarks=tuple(why),
    ).over(labels)


def _size(opened: Opened, given: tuple[int, int] | None) -> tuple[int, int] | None:
    one = opened.face
    if given is None:
        return (one.height, one.width) if one.height and one.width else None
    height, width = given
    said = f"--size {height}x{width}" if height != width else f"--size {height}"
    fixed = (one.height or height, one.width or width)
    if given != fixed:
        raise ExportError(f"{said}: its input {one.tensor} takes {fixed[0]} x {fixed[1]}")
    if one.row not in (None, height * width, 3 * height * width):
        raise ExportError(f"{said}: its input {one.tensor} takes {one.row} numbers, not {height} x {width} x 3")
    return given


def _statistics(opened: Opened, given: Description) -> tuple[Values | None, Values | None, tuple[str, ...]]:
    """Mean and std where they follow from the file, and why."""
    if opened.face.whole:
        if given.mean or given.std:
            raise ExportError(f"--mean and --std: its input {opened.face.tensor} takes pixels as they are, 0 to 255")
        return (0.0,), (1 / 255,), ("its input takes pixels as they are, 0 to 255: mean and std are inside",)
    if given.mean and given.std:
        if max(map(abs, given.mean)) > 1.5:
            raise ExportError("--mean and --std are of pixels in [0, 1]: divide those of pixels from 0 to 255 by 255")
    elif given.mean or given.std:
        raise ExportError("--mean and --std go together")
    if (found := face.statistics(opened.network, opened.face.tensor)) is None:
        return None, None, ()
    mean, std, why = found
    if given.mean and given.std:
        alike = np.allclose(given.mean, mean, atol=1e-3) and np.allclose(given.std, std, rtol=1e-2)
        return None, None, () if alike else (f"{why}, for pixels {_RANGES[mean, std]}: --mean and --std say otherwise",)
    return (mean,), (std,), (f"{why}: pixels are given to it {_RANGES[mean, std]} (--mean and --std say otherwise)",)


def _channels(opened: Opened, described: Description) -> Channels:
    """Which channels it takes: as described, where that goes with its input's shape."""
    one, chosen, size = opened.face, described.channels, described.size
    if chosen == "rgba":
        raise ExportError("--channels rgba: of an ONNX file rgb, bgr and grey are taken")
    grey = one.channels == 1 or (one.row is not None and size is not None and one.row == size[0] * size[1])
    if grey and chosen in ("rgb", "bgr"):
        raise ExportError(f"--channels {chosen}: its input {one.tensor} has one channel")
    if not grey and chosen == "grey":
        raise ExportError(f"--channels grey: its input {one.tensor} has three channels")
    return "grey" if grey else chosen or "rgb"


_RANGES = {(0.0, 1 / 255): "from 0 to 255", (0.0, 1.0): "from 0 to 1", (0.5, 0.5): "from -1 to 1"}
