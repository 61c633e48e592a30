"""One case: its files written, exported, and its logits compared; in a process of its own."""

from __future__ import annotations

import argparse
import io
import re
import shlex
import time
import traceback
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.foreign import factories, onnx, timm, torchvision, transformers
from benchmarks.foreign.cases import Maker
from export.__main__ import main as export
from runtime import Gate
from runtime.preprocess import preprocess


@dataclass(frozen=True)
class Outcome:
    """Of one case.

    Attributes:
        command: as typed.
        seconds: of the export, calibration and verification included, without the start of Python.
        busy: of them, those of a processor.
        share: the largest difference of a logit, as a share of their standard deviation; None where it failed.
        std: of the logits over images and classes, less each class's mean.
        notes: what the export said of the model.
    """

    name: str
    command: str
    seconds: float
    busy: float
    share: float | None
    std: float
    notes: list[str]


def measure(name: str, maker: Maker, files: list[Path], folder: Path) -> Outcome:
    """Export one case and compare."""
    folder.mkdir()
    torch.manual_seed(0)
    case = maker(folder)
    argv = [*case.options, "--calibration", str(files[0].parent), "--out", str(folder / "bundle"), "--alpha", "0.1"]
    command = (
        " ".join(["oodgate export", *map(shlex.quote, argv)])
        .replace(str(folder), "DIR")
        .replace(str(files[0].parent), "PHOTOS")
    )
    command = re.sub(r"(?<![\w.])/\S+/(?=[^/\s])", "", command)  # other files are somewhere on this machine
    started, busy, output = time.perf_counter(), time.process_time(), io.StringIO()
    with redirect_stdout(output):
        export(argv)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    gate = Gate.load(folder / "bundle", engine="onnxruntime-cpu", threads=1)
    images = np.stack([preprocess(file.read_bytes(), gate.manifest.input) for file in files])
    found = gate.engine.run(images).logits
    expected = np.stack([case.logits(file) for file in files])
    std = float((expected - expected.mean(axis=0)).std())
    notes = [line.removeprefix("note: ") for line in output.getvalue().splitlines() if line.startswith("note: ")]
    return Outcome(name, command, seconds, busy, float(np.abs(found - expected).max()) / std, std, notes)


def tried(name: str, maker: Maker, files: list[Path], folder: Path) -> Outcome:
    """The same, a line of the table where it fails too."""
    warnings.simplefilter("ignore")
    try:
        return measure(name, maker, files, folder)
    except Exception as error:
        traceback.print_exc()
        return Outcome(name, "", 0, 0, None, 0, [" ".join(str(error).split())[:300]])


def all_cases(args: argparse.Namespace) -> dict[str, Maker]:
    """By name; those with real weights where these are."""
    cases = {**torchvision.CASES, **timm.CASES, **factories.CASES, **onnx.CASES, **transformers.CASES}
    cases |= torchvision.mobilenet(args.mobilenet) if args.mobilenet else {}
    cases |= factories.lite0(args.lite0) if args.lite0 else {}
    return {name: maker for name, maker in cases.items() if args.only in name}


def of_name(name: str, args: argparse.Namespace, files: list[Path], folder: Path) -> Outcome:
    """What a process of its own does for one case."""
    return tried(name, all_cases(args)[name], files, folder)
