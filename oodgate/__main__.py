"""``oodgate COMMAND ...``: the work from training to serving, each command handed over to the module that does it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from typing import NoReturn

from oodgate import beside


@dataclass(frozen=True)
class Command:
    """What `module`'s ``main(argv)`` does, and the extra that installs what it imports."""

    module: str
    extra: str
    summary: str


# In the order of the work.
GROUPS: dict[str, dict[str, Command]] = {
    "Make a model": {
        "train": Command("train.__main__", "train", "an image classifier, taught to know what it does not know"),
    },
    "Make it a bundle": {
        "export": Command("export.__main__", "export", "any torch or ONNX classifier, scores and decision inside"),
        "calibrate": Command("export.calibrate.__main__", "calibrate", "the threshold, with a guarantee"),
        "fit": Command("export.fit.__main__", "calibrate", "further detectors, as columns of the graph"),
        "convert": Command("export.convert.__main__", "calibrate", "to fp16, bf16 or int8, with a gate of its own"),
    },
    "Look at it": {
        "evaluate": Command("export.evaluate.__main__", "calibrate", "how well it detects, accepts and classifies"),
        "parity": Command("export.parity.__main__", "calibrate", "two artifacts of one classifier, image by image"),
    },
    "Run it": {
        "pipeline": Command(
            "export.pipeline.__main__", "calibrate", "pipeline.onnx and golden images for a bundle made before"
        ),
        "tensorrt": Command("export.tensorrt.__main__", "calibrate", "an engine for GPUs, into the bundle"),
        "run": Command("runtime.__main__", "", "on image files: one JSON decision a line"),
        "score": Command("serving.batch.__main__", "batch", "on a directory, a bucket, tars or Parquet of any size"),
        "selftest": Command("runtime.selftest", "", "golden images, on an engine or against a service"),
        "export-triton": Command("export.triton.__main__", "calibrate", "as models of Triton Inference Server"),
        "serve": Command("oodgate.serve", "serving", "over HTTP, with a page to try it"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}

_HEAD = """\
usage: oodgate COMMAND ...
       oodgate COMMAND --help
       oodgate --version

Classify an image, or say no: out-of-distribution gating with a guarantee.
"""
_EXAMPLE = """
From images to a service:
  oodgate train --method logitnorm --arch resnet20 --data train.tar --val val.tar@1/2 --epochs 30 --out runs/first
  oodgate export --checkpoint runs/first/checkpoint.safetensors --out bundles/first
  oodgate calibrate bundles/first val.tar@1/2 --alpha 0.01
  oodgate evaluate bundles/first --id val.tar@2/2 --ood textures=textures.tar
  oodgate serve bundles/first --port 3000
"""


def overview() -> str:
    """The map of the work, one screen."""
    groups = [
        f"\n{title}\n" + "".join(f"  {name:<15}{command.summary}\n" for name, command in group.items())
        for title, group in GROUPS.items()
    ]
    return _HEAD + "".join(groups) + _EXAMPLE


def _call(name: str, arguments: Sequence[str]) -> int:
    from runtime.exceptions import OodgateError

    command = COMMANDS[name]
    try:
        status: int = import_module(command.module).main(arguments)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"", "oodgate", *beside.PACKAGES}:
            raise
        remedy = f"pip install 'oodgate[{command.extra}]'" if command.extra else "pip install oodgate"
        raise OodgateError(f"oodgate {name} needs {missing}, which is not installed: {remedy}") from error
    return status


def _hand_over(name: str, arguments: Sequence[str]) -> NoReturn:
    from runtime.command import run

    sys.argv = [f"oodgate {name}", *arguments]  # what `runtime.command.prog` shows in help texts
    run(partial(_call, name, arguments))


def main(argv: Sequence[str] | None = None) -> int:
    """Answer, or hand over and exit as the command does."""
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    beside.prefer()
    if name in ("-h", "--help"):
        print(overview(), end="")
        return 0
    if name == "--version":
        print(f"oodgate {import_module('runtime').__version__}")
        return 0
    if name not in COMMANDS:
        nearest = get_close_matches(name, COMMANDS, n=1, cutoff=0)[0]
        print(f"error: no command {name!r}, did you mean {nearest!r}? See oodgate --help", file=sys.stderr)
        return 2
    _hand_over(name, arguments)


if __name__ == "__main__":
    sys.exit(main())
