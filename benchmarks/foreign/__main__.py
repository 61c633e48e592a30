"""Do other libraries' classifiers answer through a bundle as they do by themselves, from JPEG file to logits?

    python -m benchmarks.foreign ../data/photos.tar

Needs torchvision, timm and transformers. Each case writes the files as that library does, exports them by a command that
says no more than the files leave open, and compares the bundle's logits of 24 photographs of eight aspect ratios with those
of the library's own transform and network. Weights are random, spread so that logits differ, but where a file of real ones
is given. Writes docs/measured/foreign.md.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import shlex
import statistics
import tempfile
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.foreign import factories, onnx, photographs, timm, torchvision, transformers
from benchmarks.foreign.cases import Maker
from benchmarks.machine import processor
from benchmarks.paths import MEASURED
from export.__main__ import main as export
from runtime import Gate
from runtime.command import run
from runtime.preprocess import preprocess

_LARGEST = 1e-3
_LIBRARIES = ("torch", "torchvision", "timm", "transformers", "onnxruntime", "pillow")


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


def report(outcomes: list[Outcome]) -> str:
    """The page."""
    worked = [outcome for outcome in outcomes if outcome.share is not None]
    exact = sum(outcome.share <= _LARGEST for outcome in worked if outcome.share is not None)
    middle = statistics.median(one.share or 0 for one in worked) if worked else 0
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    lines = [
        "# Other libraries' classifiers, from JPEG file to logits",
        "",
        f"Made by `python -m benchmarks.foreign` on {processor()} with {libraries}.",
        "",
        f"24 photographs of eight aspect ratios. {exact} of {len(outcomes)} have logits that differ from those of the "
        f"library's own transform and network by at most {_LARGEST:g} of the logits' standard deviation over the "
        f"photographs; the median of the largest differences is {middle:.1e}. Seconds are of the export in a process that "
        "has the libraries loaded, calibration and verification included: by the clock, with others at the same time, and of "
        "processors.",
        "",
        "| model | seconds | of processors | largest difference / std | std |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in outcomes:
        share = "failed" if one.share is None else f"{one.share:.1e}"
        lines.append(f"| {one.name} | {one.seconds:.0f} | {one.busy:.0f} | {share} | {one.std:.2g} |")
    lines += ["", "## Commands, and what they said of the model", ""]
    for one in outcomes:
        lines += [f"**{one.name}**", "", "```", one.command, *(f"note: {note}" for note in one.notes), "```", ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.foreign", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("photographs", type=Path, help="a tar of photographs")
    parser.add_argument("--only", default="", help="cases whose name has this")
    parser.add_argument("--mobilenet", type=Path, help="torchvision's mobilenet_v2-b0353104.pth")
    parser.add_argument("--lite0", type=Path, help="efficientnet-lite0-57934424.pth, and its package installed")
    parser.add_argument("--jobs", type=int, default=1, help="cases at the same time")
    parser.add_argument("--out", type=Path, default=MEASURED / "foreign.md")
    args = parser.parse_args()
    names, outcomes = list(all_cases(args)), []
    with (
        tempfile.TemporaryDirectory() as temporary,
        ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool,
    ):
        folder = Path(temporary)
        files = photographs.write(args.photographs, folder / "photographs")
        futures = [pool.submit(of_name, name, args, files, folder / str(i)) for i, name in enumerate(names)]
        for future in futures:
            outcomes.append(one := future.result())
            share = "failed" if one.share is None else f"{one.share:.1e} of the logits' std"
            print(f"{one.name}: {one.seconds:.0f} s, {share}", flush=True)
            args.out.write_text(report(outcomes), encoding="utf-8")
    return 0


if __name__ == "__main__":
    run(main)
