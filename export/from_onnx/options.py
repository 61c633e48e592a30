"""The options of an ONNX classifier, and what the file says itself where they don't."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import get_args

from export.descriptions.description import Description, check_labels, three
from export.exceptions import ExportError
from export.from_onnx import face
from export.from_onnx.classifier import OnnxClassifier, Opened, from_onnx
from export.from_onnx.pixels import Channels, Layout
from runtime.exceptions import OodgateError
from runtime.manifest import InputSpec, Resize

Triple = tuple[float, float, float]

_USUAL = {
    "--labels": "--labels FILE, a class name a line, in the order of its output",
    "--size": "--size 224",
    "--resize-to": "--resize-to 256, the short side before the centre of 224 is cut, or the input's own HxW to stretch to it",
    "--mean and --std": "--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225, ImageNet's; 0 0 0 and 1 1 1 for pixels from 0 to "
    "1; 0.5 0.5 0.5 and 0.5 0.5 0.5 from -1 to 1; 0 0 0 and 0.00392157 0.00392157 0.00392157 from 0 to 255",
}


def add_onnx_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--output``, ``--penultimate`` and ``--layout``."""
    group = parser.add_argument_group(
        "any ONNX classifier (--checkpoint model.onnx)", "The options of any torch classifier but --model, and:"
    )
    group.add_argument("--output", metavar="TENSOR", help="that has the logits, where there are several outputs")
    group.add_argument("--penultimate", metavar="TENSOR", help="of activations; default: what the last layer reads")
    group.add_argument("--layout", choices=get_args(Layout), help="of the input, where its shape leaves it open")


def classifier_of(
    opened: Opened, given: Description, *, output: str | None = None, penultimate: str | None = None
) -> OnnxClassifier:
    """The classifier of a file.

    Args:
        opened: the file.
        given: what the user says of it, which goes before what it says itself.
        output, penultimate: the tensors with logits and activations; None where there is no choice.

    Raises:
        ExportError: options that are missing, or that contradict the file.
    """
    remarks = list(given.remarks)
    try:
        labels = _labels(given, opened, remarks)
        size = _size(given, opened)
        statistics = _statistics(given, opened, remarks)
        resizing = _resizing(given, opened, size, remarks)
        missing = {"--labels": labels, "--size": size, "--mean and --std": statistics, "--resize-to": resizing}
        absent = [option for option, value in missing.items() if not value]
        if absent or not size or not statistics or not resizing:
            raise ExportError(
                f"it needs {', '.join(absent)} too: nothing in the file says it. Usual are "
                + "; ".join(_USUAL[option] for option in absent)
            )
        spec = InputSpec(
            *size,
            *statistics,
            resize=resizing[0],
            resize_to=resizing[1],
            crop_fraction=1.0 if given.crop_fraction is None else given.crop_fraction,
            interpolation=given.interpolation or "bilinear",
            colour=given.colour or "srgb",
            corner=given.corner or "round",
            fill=given.fill,
            resampler=given.resampler or "pillow",
        )
        channels = _channels(given, opened, remarks)
    except (OodgateError, ValueError) as error:
        raise ExportError(f"{opened.path}: {error}") from error
    return from_onnx(
        opened,
        labels,
        spec,
        given.task or "multiclass",
        channels=channels,
        output=output,
        penultimate=penultimate,
        remarks=remarks,
    )


def _labels(given: Description, opened: Opened, remarks: list[str]) -> tuple[str, ...]:
    if given.labels is None:
        if opened.labels:
            remarks.append(f"{len(opened.labels)} labels from {opened.labels_from}: {', '.join(opened.labels[:3])} ...")
        return _distinct(opened.labels, remarks)
    check_labels(given.labels)
    return given.labels


def _distinct(labels: tuple[str, ...], remarks: list[str]) -> tuple[str, ...]:
    """The same, with their index where several classes share a name, as two of ImageNet's cranes do."""
    shared = [label for label, count in Counter(labels).items() if count > 1]
    if shared:
        remarks.append(f"labels that several classes share got their index: {', '.join(shared[:3])}")
    return tuple(f"{label} ({i})" if label in shared else label for i, label in enumerate(labels))


def _size(given: Description, opened: Opened) -> tuple[int, int] | None:
    one, size = opened.face, given.size
    if size is None:
        return (one.height, one.width) if one.height and one.width else None
    fixed = (one.height or size[0], one.width or size[1])
    if size != fixed:
        raise ExportError(f"--size {size[0]}x{size[1]}: its input {one.tensor} takes {fixed[0]} x {fixed[1]}")
    if one.row not in (None, size[0] * size[1], 3 * size[0] * size[1]):
        raise ExportError(
            f"--size {size[0]}x{size[1]}: its input {one.tensor} takes {one.row} numbers, not {size[0]} x {size[1]} x 3"
        )
    return size


def _statistics(given: Description, opened: Opened, remarks: list[str]) -> tuple[Triple, Triple] | None:
    mean, std = given.mean, given.std
    if opened.face.whole:
        if mean is not None or std is not None:
            raise ExportError(f"--mean and --std: its input {opened.face.tensor} takes pixels as they are, 0 to 255")
        remarks.append("its input takes pixels as they are, 0 to 255: mean and std are inside")
        return (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
    if mean is not None and std is not None:
        if max(map(abs, mean)) > 1.5:
            raise ExportError("--mean and --std are of pixels in [0, 1]: divide those of pixels from 0 to 255 by 255")
        return three("--mean", mean), three("--std", std)
    if mean is not None or std is not None:
        raise ExportError("--mean and --std go together")
    if (found := face.statistics(opened.network, opened.face.tensor)) is None:
        return None
    one, other, why = found
    remarks.append(f"{why}: pixels are given to it {_RANGES[one, other]} (--mean and --std say otherwise)")
    return (one, one, one), (other, other, other)


def _resizing(
    given: Description, opened: Opened, size: tuple[int, int] | None, remarks: list[str]
) -> tuple[Resize, int | tuple[int, int] | None] | None:
    """How an image is brought to the input's size, and to what first; None where nothing says it."""
    if given.resize:
        return given.resize, given.resize_to
    if size and face.is_ultralytics(opened.model):
        remarks.append(f"Ultralytics' classifiers see the centre of an image whose short side is {min(size)}")
        return "shortest", min(size)
    return None


def _channels(given: Description, opened: Opened, remarks: list[str]) -> Channels:
    one, said = opened.face, face.channels(opened.model)
    asked = next((kind for kind in get_args(Channels) if kind == given.channels), None)
    if asked is None and given.channels is not None:
        raise ExportError(f"--channels {given.channels}: of an ONNX file {', '.join(get_args(Channels))} are taken")
    size = _size(given, opened)
    grey = one.channels == 1 or (one.row is not None and size is not None and one.row == size[0] * size[1])
    if grey and asked in ("rgb", "bgr"):
        raise ExportError(f"--channels {asked}: its input {one.tensor} has one channel")
    if not grey and asked == "grey":
        raise ExportError(f"--channels grey: its input {one.tensor} has three channels")
    if asked is None and said == "bgr":
        remarks.append("its metadata says Bgr8: channels are given to it in that order")
    chosen: Channels = "grey" if grey else asked or said or "rgb"
    return "rgb" if chosen == "grey" and not grey else chosen


_RANGES = {(0.0, 1 / 255): "from 0 to 255", (0.0, 1.0): "from 0 to 1", (0.5, 0.5): "from -1 to 1"}
