"""The gate's options on the command line, shared by the commands that calibrate one."""

from __future__ import annotations

import argparse
import dataclasses
import math
from functools import partial
from typing import Any, Literal, get_args

from export.calibrate.options import AUTO, DEFAULT, NONE, GateOptions
from export.detectors.confidence import CONFIDENCE
from export.exceptions import ExportError
from runtime.manifest import Guarantee, Manifest, MergeMethod
from train.data import Reading


def add_gate_options(parser: argparse.ArgumentParser, *, as_before: bool) -> None:
    """Add the options as a group; with `as_before` their default is None, for what the bundle has.

    Without, ``--calibration`` comes first, the source of the images.
    """
    group = parser.add_argument_group("gate")
    if not as_before:
        group.add_argument("--calibration", metavar="SOURCE", help="in-distribution images that were not trained on")
    _add_score_options(group, as_before=as_before)
    _add_promise_options(group, as_before=as_before)


def gate_options(args: argparse.Namespace) -> GateOptions:
    """Those of a command with all of :func:`add_gate_options`, but without "as before"."""
    names = {option.name for option in dataclasses.fields(GateOptions)} - {"reading"}
    given: dict[str, Any] = {name: getattr(args, name) for name in names} | {"aux": tuple(args.aux)}
    return GateOptions(**given, reading=Reading.of(args))


def _add_score_options(group: argparse._ArgumentGroup, *, as_before: bool) -> None:
    """Which score decides, and by what it is chosen."""
    default = partial(_default, as_before=as_before)
    group.add_argument(
        "--score",
        default=None if as_before else DEFAULT,
        metavar="KEY|A+B|auto",
        help="the gate's score; A+B merges the p-values of several; auto takes the one with the largest AUROC between "
        f"a quarter of the calibration images and outliers, fusions of two among them "
        f"({default('energy; with several labels joint_energy, without classes nan, or auto with --fit')})",
    )
    group.add_argument(
        "--temperature",
        type=temperature,
        metavar="T|auto",
        help="T of the energy score; auto chooses it like the score "
        f"(default: auto with --score auto, else {'as before' if as_before else '1'})",
    )
    group.add_argument(
        "--merge",
        choices=get_args(MergeMethod),
        help="how --score A+B merges p-values: Bonferroni's minimum, the harmonic mean, or Fisher's sum of logarithms "
        f"({default('min')})",
    )
    group.add_argument(
        "--aux",
        action="append",
        default=[],
        metavar="SOURCE",
        help="auxiliary outliers for auto, repeatable (default: synthetic ones); never those of an evaluation",
    )
    group.add_argument(
        "--fit",
        metavar="SOURCE",
        help=f"training images: --score {AUTO} fits detectors on them and chooses among these too",
    )


def _add_promise_options(group: argparse._ArgumentGroup, *, as_before: bool) -> None:
    """What is promised of known images."""
    default = partial(_default, as_before=as_before)
    group.add_argument(
        "--alpha",
        type=float,
        default=None if as_before else 0.05,
        help=f"bound on rejecting an ID image ({default('0.05')})",
    )
    group.add_argument(
        "--class-conditional",
        action=argparse.BooleanOptionalAction,
        default=None if as_before else False,
        help=f"a threshold for every predicted class, with the promise for each of them ({default('no')})",
    )
    group.add_argument(
        "--guarantee",
        choices=get_args(Guarantee),
        default=None if as_before else "marginal",
        help="alpha bounds the rejection rate on average over calibration sets, or with --confidence that of this very "
        f"gate ({default('marginal')})",
    )
    group.add_argument(
        "--confidence",
        type=float,
        help=f"of --guarantee pac, and of --max-error ({default('0.95')})",
    )
    group.add_argument(
        "--max-error",
        type=max_error,
        default=None if as_before else NONE,
        metavar="R|none",
        help="bound on the share of accepted ID images that are classified wrong, kept with --confidence: images whose "
        f"answer is less certain are rejected as uncertain; takes labelled images ({default('none')})",
    )
    group.add_argument(
        "--select",
        default=None if as_before else CONFIDENCE,
        metavar="KEY",
        help=f"the score whose threshold keeps --max-error ({default('confidence, the calibrated one')})",
    )
    group.add_argument(
        "--prediction-sets",
        type=coverages,
        default=None if as_before else (),
        metavar="C,..|none",
        help=f"coverages of label sets for known images, such as 0.9,0.95; takes labelled images ({default('none')})",
    )


def temperature(text: str) -> float | Literal["auto"]:
    """``auto`` or a positive number.

    Raises:
        ExportError: neither.
    """
    if text == AUTO:
        return AUTO
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ExportError(f"--temperature must be positive or {AUTO}, found {text}")
    return value


def max_error(text: str) -> float | Literal["none"]:
    """``none`` or a share.

    Raises:
        ExportError: neither.
    """
    return NONE if text == NONE else _share("--max-error", text)


def coverages(text: str) -> tuple[float, ...]:
    """``none`` or shares, separated by commas, ascending.

    Raises:
        ExportError: neither.
    """
    return () if text == NONE else tuple(sorted({_share("--prediction-sets", part) for part in text.split(",")}))


def _share(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ExportError(f"{option} must be between 0 and 1, or {NONE}, found {text}")
    return value


def print_dropped(manifest: Manifest) -> None:
    """Print what gate a bundle had that a command leaves without one, if it had any."""
    if manifest.gate:
        asked = GateOptions.of(manifest).asked.items()
        given = " ".join(option if value is True else f"{option} {_written(value)}" for option, value in asked)
        print(f"the gate before: {given}; name it again, or --calibration keeps it")


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _default(value: str, *, as_before: bool) -> str:
    return f"default: {'as before, else ' if as_before else ''}{value}"
