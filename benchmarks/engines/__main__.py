"""How fast are ONNX Runtime and OpenVINO on this CPU in fp32, bf16 and int8, and what becomes of the decisions?

    python -m benchmarks.engines --data DATA

On the shipped network, ResNet-20, WRN-40-2 and EfficientNet-lite0, batches of 1, 8 and 32, one thread and
all; all engines in turns, ratios medians over the rounds. Gates are calibrated on one half of DATA/cifar10-val.tar, by each
engine's own outputs, and decisions compared on the other. Writes docs/measured/engines.md and .json, which keep the
figures of other machines.

For a machine that has the runtime, OpenVINO and numpy alone, in three steps, of which the second is for there:

    python -m benchmarks.engines prepare --work WORK --data DATA
    python -m benchmarks.engines time RESULTS --work WORK
    python -m benchmarks.engines report RESULTS --work WORK
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.paths import MEASURED
from runtime.command import run

_MODELS = ("shipped", "resnet20", "wrn-40-2", "efficientnet_lite0")
_STEPS = ("prepare", "time", "report")


def _measure(work: Path, out: Path, seconds: float) -> None:
    from benchmarks.engines import timing

    out.mkdir(parents=True, exist_ok=True)
    results = timing.Results(out / "engines.json")
    shipped, *others = (folder for name in _MODELS if (folder := work / name).is_dir())
    sets = {name: file for name in ("calibration", "evaluation") if (file := work / f"{name}.npz").exists()}
    if sets:
        timing.outputs(results, shipped, sets, out)
    timing.speed(results, shipped, seconds)
    timing.shapes(results, shipped, seconds)
    timing.lanes(results, shipped, seconds)
    for folder in others:
        timing.speed(results, folder, seconds)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__.partition("\n")[0])
    parser.add_argument("step", nargs="?", choices=_STEPS, help="one step alone (default: all of them)")
    parser.add_argument("results", nargs="?", type=Path, metavar="RESULTS", help="of the step time")
    parser.add_argument("--data", type=Path, help="where cifar10-val.tar is; without, nothing is decided")
    parser.add_argument("--work", type=Path, help="where graphs and images are kept (default: a temporary directory)")
    parser.add_argument("--images", type=int, default=2500, help="of each half (default: %(default)s, all of them)")
    parser.add_argument("--seconds", type=float, default=4.0, help="for one row of timings (default: %(default)s)")
    parser.add_argument("--note", default="", help="what to say of the machine on the page")
    parser.add_argument("--out", type=Path, help="directory to write to (default: docs/measured)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        work = args.work or Path(name)
        results = args.results or Path(name) / "results"
        if args.step in (None, "prepare"):
            from benchmarks.engines.graphs import prepare  # needs torch

            prepare(work, args.data, args.images)
        if args.step in (None, "time"):
            _measure(work, results, args.seconds)
        if args.step in (None, "report"):
            from benchmarks.engines.report import report  # needs what calibration needs

            print(report(work, results, args.out or MEASURED, args.note))
    return 0


if __name__ == "__main__":
    run(main)
