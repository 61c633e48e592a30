"""The options of an ONNX classifier, and what the file says itself where they don't."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import get_args

from export.arguments import side_or_size
from export.descriptions.description import three
from export.exceptions import ExportError
from export.from_onnx import face
from export.from_onnx.classifier import OnnxClassifier, Opened, from_onnx, open_file
from export.from_onnx.pixels import Channels, Layout
from runtime.exceptions import OodgateError
from runtime.manifest import InputSpec, Resize
from train.data.labels.class_names import read_class_names

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


def classifier_of(args: argparse.Namespace) -> OnnxClassifier:
    """The classifier of the file ``--checkpoint``.

    Raises:
        ExportError: options that are missing, or that contradict the file.
    """
    opened, remarks = open_file(args.checkpoint, args.layout), list[str]()
    try:
        labels = _labels(args, opened, remarks)
        size = _size(args, opened)
        statistics = _statistics(args, opened, remarks)
        resizing = _resizing(args, opened, size, remarks)
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
            interpolation=args.interpolation or "bilinear",
            colour=args.colour or "srgb",
        )
        channels = _channels(args, opened, remarks)
    except (OodgateError, ValueError) as error:
        raise ExportError(f"{args.checkpoint}: {error}") from error
    return from_onnx(
        opened,
        labels,
        spec,
        args.task or "multiclass",
        channels=channels,
        output=args.output,
        penultimate=args.penultimate,
        remarks=remarks,
    )


def _labels(args: argparse.Namespace, opened: Opened, remarks: list[str]) -> tuple[str, ...]:
    if args.labels is None:
        if opened.labels:
            remarks.append(f"{len(opened.labels)} labels from {opened.labels_from}: {', '.join(opened.labels[:3])} ...")
        return _distinct(opened.labels, remarks)
    labels = read_class_names(args.labels)
    if repeated := [label for i, label in enumerate(labels) if label in labels[:i]]:
        raise ExportError(f"labels must be distinct, found {repeated[0]!r} twice; tell the two apart")
    return labels


def _distinct(labels: tuple[str, ...], remarks: list[str]) -> tuple[str, ...]:
    """The same, with their index where several classes share a name, as two of ImageNet's cranes do."""
    shared = [label for label, count in Counter(labels).items() if count > 1]
    if shared:
        remarks.append(f"labels that several classes share got their index: {', '.join(shared[:3])}")
    return tuple(f"{label} ({i})" if label in shared else label for i, label in enumerate(labels))


def _size(args: argparse.Namespace, opened: Opened) -> tuple[int, int] | None:
    one = opened.face
    if args.size is None:
        return (one.height, one.width) if one.height and one.width else None
    height, _, width = args.size.partition("x")
    size = int(height), int(width or height)
    fixed = (one.height or size[0], one.width or size[1])
    if size != fixed:
        raise ExportError(f"--size {args.size}: its input {one.tensor} takes {fixed[0]} x {fixed[1]}")
    if one.row not in (None, size[0] * size[1], 3 * size[0] * size[1]):
        raise ExportError(
            f"--size {args.size}: its input {one.tensor} takes {one.row} numbers, not {size[0]} x {size[1]} x 3"
        )
    return size


def _statistics(args: argparse.Namespace, opened: Opened, remarks: list[str]) -> tuple[Triple, Triple] | None:
    given = (args.mean, args.std)
    if opened.face.whole:
        if given != (None, None):
            raise ExportError(f"--mean and --std: its input {opened.face.tensor} takes pixels as they are, 0 to 255")
        remarks.append("its input takes pixels as they are, 0 to 255: mean and std are inside")
        return (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
    if args.mean is not None and args.std is not None:
        if max(map(abs, args.mean)) > 1.5:
            raise ExportError("--mean and --std are of pixels in [0, 1]: divide those of pixels from 0 to 255 by 255")
        return three("--mean", args.mean), three("--std", args.std)
    if given != (None, None):
        raise ExportError("--mean and --std go together")
    if (found := face.statistics(opened.network, opened.face.tensor)) is None:
        return None
    mean, std, why = found
    remarks.append(f"{why}: pixels are given to it {_RANGES[mean, std]} (--mean and --std say otherwise)")
    return (mean, mean, mean), (std, std, std)


def _resizing(
    args: argparse.Namespace, opened: Opened, size: tuple[int, int] | None, remarks: list[str]
) -> tuple[Resize, int | tuple[int, int] | None] | None:
    """How an image is brought to the input's size, and to what first; None where nothing says it."""
    if args.resize or args.resize_to:
        to = side_or_size(args.resize_to) if args.resize_to else None
        return args.resize or ("squash" if isinstance(to, tuple) else "shortest"), to
    if size and face.is_ultralytics(opened.model):
        remarks.append(f"Ultralytics' classifiers see the centre of an image whose short side is {min(size)}")
        return "shortest", min(size)
    return None


def _channels(args: argparse.Namespace, opened: Opened, remarks: list[str]) -> Channels:
    one, said = opened.face, face.channels(opened.model)
    if args.channels not in (None, *get_args(Channels)):
        raise ExportError(f"--channels {args.channels}: of an ONNX file {', '.join(get_args(Channels))} are taken")
    size = _size(args, opened)
    grey = one.channels == 1 or (one.row is not None and size is not None and one.row == size[0] * size[1])
    if grey and args.channels in ("rgb", "bgr"):
        raise ExportError(f"--channels {args.channels}: its input {one.tensor} has one channel")
    if not grey and args.channels == "grey":
        raise ExportError(f"--channels grey: its input {one.tensor} has three channels")
    if args.channels is None and said == "bgr":
        remarks.append("its metadata says Bgr8: channels are given to it in that order")
    chosen: Channels = "grey" if grey else args.channels or said or "rgb"
    return "rgb" if chosen == "grey" and not grey else chosen


_RANGES = {(0.0, 1 / 255): "from 0 to 255", (0.0, 1.0): "from 0 to 1", (0.5, 0.5): "from -1 to 1"}
