"""What engine is wanted, and the options that say so."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from export.exceptions import ExportError
from runtime.manifest import NativeRuntime

RUNTIMES: dict[str, NativeRuntime] = {"rtx": "tensorrt-rtx", "full": "tensorrt"}
_RTX_TARGETS = (86, 89, 120)
_BATCHES = (1, 8, 64)
_FULL_ONLY = ("workspace", "timing_cache", "optimization_level", "version_compatible", "hardware_compatible")


@dataclass(frozen=True)
class BuildOptions:
    """What engine is wanted.

    Attributes:
        runtime: what is to run it.
        targets: compute capabilities, 89 for 8.9; empty for that of this machine's GPU.
        batches: the smallest batch, the one to optimise for, and the largest.
        workspace: MiB that a layer may use on the GPU; None leaves it to TensorRT.
        timing_cache: file of measured kernels, read if it is there and written after the build.
        optimization_level: 0 to 5, how long TensorRT searches; None leaves it to TensorRT.
        version_compatible: whether later releases of TensorRT shall run the engine too.
        hardware_compatible: whether every GPU of Ampere or later shall.
    """

    runtime: NativeRuntime
    targets: tuple[int, ...] = ()
    batches: tuple[int, int, int] = _BATCHES
    workspace: int | None = None
    timing_cache: Path | None = None
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False


def add_tensorrt_options(parser: argparse.ArgumentParser) -> None:
    """Add the options as a group, ``--tensorrt`` first."""
    group = parser.add_argument_group("TensorRT engine")
    group.add_argument(
        "--tensorrt",
        choices=sorted(RUNTIMES),
        help="rtx needs no GPU to build; full is built on the GPU that it is for",
    )
    group.add_argument("--sm", metavar="86,89,120", help="rtx: compute capabilities, in one engine (default: these)")
    group.add_argument("--batch", metavar="1,8,64", help="smallest, usual and largest batch (default: these)")
    group.add_argument("--workspace", type=int, metavar="MIB", help="full: memory that a layer may use")
    group.add_argument("--timing-cache", type=Path, metavar="FILE", help="full: measured kernels, read and written")
    group.add_argument("--optimization-level", type=int, choices=range(6), help="full: 5 searches longest")
    group.add_argument(
        "--version-compatible", action="store_true", default=None, help="full: for later releases of TensorRT too"
    )
    group.add_argument(
        "--hardware-compatible", action="store_true", default=None, help="full: for every GPU of Ampere or later"
    )


def build_options(args: argparse.Namespace) -> BuildOptions | None:
    """The engine that the options ask for; None if none.

    Raises:
        ExportError: options that don't go with each other, or are no lists of numbers.
    """
    given = [name for name in ("sm", "batch", *_FULL_ONLY) if getattr(args, name) is not None]
    if args.tensorrt is None:
        if given:
            raise ExportError(f"{_option(given[0])} goes with --tensorrt rtx or full")
        return None
    runtime = RUNTIMES[args.tensorrt]
    foreign = [name for name in given if name in (_FULL_ONLY if runtime == "tensorrt-rtx" else ("sm",))]
    if foreign:
        raise ExportError(f"{_option(foreign[0])} does not go with --tensorrt {args.tensorrt}")
    targets = _numbers("--sm", args.sm) if args.sm else _RTX_TARGETS if runtime == "tensorrt-rtx" else ()
    smallest, *others = batches = _numbers("--batch", args.batch) if args.batch else _BATCHES
    if len(others) != 2 or not 1 <= smallest <= others[0] <= others[1]:
        raise ExportError(f"--batch: expected three ascending sizes such as 1,8,64, found {args.batch}")
    return BuildOptions(
        runtime,
        tuple(sorted(set(targets))),
        (batches[0], batches[1], batches[2]),
        args.workspace,
        args.timing_cache,
        args.optimization_level,
        bool(args.version_compatible),
        bool(args.hardware_compatible),
    )


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise ExportError(f"{option}: expected whole numbers joined by commas, found {text!r}") from None


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
