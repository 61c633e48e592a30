"""Do other libraries' classifiers answer through a bundle as they do by themselves, from JPEG file to logits?

    python -m benchmarks.foreign ../data/photos.tar

Needs torchvision, timm and transformers. Each case writes the files as that library does, exports them by a command that
says no more than the files leave open, and compares the bundle's logits of 24 photographs of eight aspect ratios with those
of the library's own transform and network. Weights are random, spread so that logits differ, but where a file of real ones
is given. Writes docs/measured/foreign.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

from benchmarks.foreign import photographs
from benchmarks.foreign.measuring import Outcome, all_cases, of_name
from benchmarks.machine import processor
from benchmarks.paths import MEASURED
from runtime.command import run

_LARGEST = 1e-3
_LIBRARIES = ("torch", "torchvision", "timm", "transformers", "onnxruntime", "pillow")


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
        "processors. Logits of 8 bits differ by a step of theirs where the last bit of a pixel decides how it is rounded.",
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
