"""The options of an engine: what they mean, and one line for those that don't go together."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from export.exceptions import ExportError
from export.tensorrt.options import BuildOptions, add_tensorrt_options, build_options


def options(*arguments: str) -> BuildOptions | None:
    parser = argparse.ArgumentParser()
    add_tensorrt_options(parser)
    return build_options(parser.parse_args(arguments))


def test_no_engine_unless_asked_for() -> None:
    assert options() is None


def test_defaults() -> None:
    assert options("--tensorrt", "rtx") == BuildOptions("tensorrt-rtx", (86, 89, 120), (1, 8, 64))
    assert options("--tensorrt", "full") == BuildOptions("tensorrt", (), (1, 8, 64))


def test_every_option() -> None:
    assert options("--tensorrt", "rtx", "--sm", "120,86,86", "--batch", "2,2,4") == BuildOptions(
        "tensorrt-rtx", (86, 120), (2, 2, 4)
    )
    full = "--tensorrt full --batch 1,2,3 --workspace 512 --timing-cache t --optimization-level 5 --version-compatible"
    assert options(*full.split(), "--hardware-compatible") == BuildOptions(
        "tensorrt", (), (1, 2, 3), 512, Path("t"), 5, True, True
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--sm 86", "--sm goes with --tensorrt rtx or full"),
        ("--timing-cache t", "--timing-cache goes with --tensorrt"),
        ("--version-compatible", "--version-compatible goes with --tensorrt"),
        ("--tensorrt full --sm 86", "--sm does not go with --tensorrt full"),
        ("--tensorrt rtx --workspace 5", "--workspace does not go with --tensorrt rtx"),
        ("--tensorrt rtx --optimization-level 0", "--optimization-level does not go with --tensorrt rtx"),
        ("--tensorrt rtx --sm ada", "--sm: expected whole numbers joined by commas, found 'ada'"),
        ("--tensorrt rtx --batch 1,8", "--batch: expected three ascending sizes such as 1,8,64, found 1,8"),
        ("--tensorrt rtx --batch 8,1,64", "--batch: expected three ascending sizes"),
        ("--tensorrt rtx --batch 0,1,64", "--batch: expected three ascending sizes"),
    ],
)
def test_what_does_not_go_is_one_line(arguments: str, message: str) -> None:
    with pytest.raises(ExportError, match=f"^{message}"):
        options(*arguments.split())
