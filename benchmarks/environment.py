"""What do variables of the environment do to a training step on a CPU?

    python -m benchmarks.environment [--arch resnet20 airbench] [--batch 128 1024] [--markdown FILE]

glibc gives memory of a step's size back to the kernel, which clears it page by page when it is asked for again; and threads
that wait for each other at every layer are moved between cores. Each environment is a process of its own; they take turns,
a figure is the median over rounds, a ratio the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from benchmarks.machine import processor
from benchmarks.steps import compare, configurations, laid_out, random_batch, ratio, step
from train import models

PLAIN = "as it is"
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(2**26)}
HUGE = {"THP_MEM_ALLOC_ENABLE": "1"}
BOUND = {"OMP_PROC_BIND": "true"}
ENVIRONMENTS: dict[str, Mapping[str, str]] = {
    PLAIN: {},
    "memory kept": KEPT,
    "huge pages": HUGE,
    "threads bound": BOUND,
    "all three": {**KEPT, **HUGE, **BOUND},
}


def seconds(arch: str, batch: int, steps: int) -> float:
    """Of a step of cross-entropy in this process, the median."""
    how = configurations()[0]
    model = models.make(arch, 10).train().to(memory_format=how.memory_format)  # type: ignore[call-overload]
    data = laid_out(random_batch(batch, 0), how)
    return statistics.median(step(model, "cross-entropy", {}, data, how, time.perf_counter) for _ in range(steps))


def elsewhere(arch: str, batch: int, steps: int, environment: Mapping[str, str]) -> float:
    """The same in a process with these variables."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.environment",
        "--arch",
        arch,
        "--batch",
        str(batch),
        "--here",
        str(steps),
    ]
    ours = {key: value for key, value in os.environ.items() if key not in ENVIRONMENTS["all three"]}
    done = subprocess.run(command, env={**ours, **environment}, check=True, capture_output=True, text=True)
    return float(done.stdout)


def table(arch: str, batch: int, rounds: int, steps: int) -> str:
    contestants = {name: partial(elsewhere, arch, batch, steps, value) for name, value in ENVIRONMENTS.items()}
    times = compare(contestants, rounds, arch)
    rows = [
        f"| {name} | {1e3 * statistics.median(values):.0f} | {batch / statistics.median(values):.0f} | "
        f"{ratio(times[PLAIN], values):.2f} |"
        for name, values in times.items()
    ]
    header = "| environment | ms a step | images a second | times faster |\n|---|---|---|---|"
    return f"## {arch}, {batch} images, {configurations()[0]}\n\n" + "\n".join([header, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", nargs="+", default=["resnet20", "airbench"], help="default: %(default)s")
    parser.add_argument("--batch", nargs="+", type=int, default=[128, 1024], help="of each; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="of a process in a round; default: %(default)s")
    parser.add_argument("--here", type=int, metavar="STEPS", help="print the seconds of a step in this process")
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    if len(args.arch) != len(args.batch):
        parser.error(f"--batch is of each --arch: expected {len(args.arch)}, found {len(args.batch)}")
    if args.here:
        print(seconds(args.arch[0], args.batch[0], args.here))
        return
    variables = "\n".join(
        f"- {name}: `{' '.join(f'{key}={value}' for key, value in chosen.items())}`"
        for name, chosen in ENVIRONMENTS.items()
        if len(chosen) in (1, len(KEPT))
    )
    text = "\n\n".join(
        [
            "# The environment of a training step on a CPU",
            f"Made by `python -m benchmarks.environment`. {processor()}; torch {torch.__version__}, "
            f"{torch.get_num_threads()} threads. Medians, and medians of the rounds' ratios.",
            variables,
            *(table(arch, batch, args.rounds, args.steps) for arch, batch in zip(args.arch, args.batch, strict=True)),
        ]
    )
    print(text)
    if args.markdown:
        args.markdown.write_text(text + "\n")


if __name__ == "__main__":
    main()
