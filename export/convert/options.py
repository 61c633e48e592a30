"""The options that choose a precision, shared by the commands that write a bundle of one."""

from __future__ import annotations

import argparse
from typing import get_args

from export.convert.int8 import Int8Options, Layer, Method, Target
from export.exceptions import ExportError
from runtime.manifest import Precision

_NONE = "none"


def add_precision_options(parser: argparse.ArgumentParser, precisions: tuple[str, ...] = get_args(Precision)) -> None:
    """Add ``--precision``, one of `precisions`, and ``--int8-*``; :func:`int8_options` reads these.

    Without fp32 among them the precision has to be given.
    """
    group = parser.add_argument_group("precision")
    known = "fp32" in precisions
    group.add_argument(
        "--precision",
        choices=precisions,
        required=not known,
        default="fp32" if known else None,
        help="of the layers before the penultimate activations; the scores and the gate are always fp32"
        + (" (default: %(default)s)" if known else ""),
    )
    group.add_argument(
        "--int8-for",
        choices=get_args(Target),
        help=f"what an int8 graph is to run on: ONNX Runtime on a CPU, or TensorRT (default: {Int8Options.target}, and "
        "tensorrt where an engine is built)",
    )
    group.add_argument(
        "--int8-method",
        choices=get_args(Method),
        help="how the range of an activation is learned (default: the one with the smallest error on other images)",
    )
    group.add_argument(
        "--int8-keep",
        metavar="LAYERS",
        help=f"layers that stay float32: first, last, first,last or none (default: {','.join(Int8Options.keep)})",
    )


def int8_options(args: argparse.Namespace, *, tensorrt: bool = False) -> Int8Options:
    """The options given, and the defaults of those that were not.

    Args:
        args: parsed.
        tensorrt: whether an engine of TensorRT is built from the graph.

    Raises:
        ExportError: options that don't go with the precision or with each other.
    """
    given = {name: value for name in ("for", "method", "keep") if (value := getattr(args, f"int8_{name}")) is not None}
    if given and args.precision != "int8":
        raise ExportError(f"--int8-{next(iter(given))} goes with --precision int8, found {args.precision}")
    if args.precision == "int8" and not args.calibration:
        raise ExportError("--precision int8 needs --calibration: the ranges of activations are learned from images")
    if tensorrt and args.int8_for == "cpu":
        raise ExportError("--int8-for cpu does not go with --tensorrt: TensorRT takes no zero points")
    target = args.int8_for or ("tensorrt" if tensorrt else Int8Options.target)
    keep = Int8Options.keep if args.int8_keep is None else parse_keep(args.int8_keep)
    return Int8Options(target, args.int8_method, keep)


def parse_keep(option: str) -> tuple[Layer, ...]:
    """The layers of ``--int8-keep``.

    Raises:
        ExportError: an unknown one.
    """
    names = [] if option == _NONE else option.split(",")
    known = get_args(Layer)
    if unknown := [name for name in names if name not in known]:
        raise ExportError(f"--int8-keep {option}: expected first, last, first,last or {_NONE}; found {unknown[0]!r}")
    return tuple(which for which in known if which in names)
