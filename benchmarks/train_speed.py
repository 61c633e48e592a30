"""What does a training step cost? Half precision against single, GReg against the energy loss, sampling within GReg+.

    python -m benchmarks.train_speed [--checkpoint CKPT [--images KNOWN AUX]] [--write]

Contestants run in one process, in turns; a figure is the median over rounds, a ratio the median of the rounds' ratios.
Each method is compared in the fastest of its configurations (precision and memory layout), and beside GReg's stands
how exact that configuration is: the cosine between the parameter gradient of its penalty and that of torch's own double
backward in float64, on the weights of --checkpoint (a network that was trained, where it matters) or new ones, and on
--images (two sources, the first images of a shuffle) or noise. --write adds this machine's figures to those of others in
docs/measured/train_speed.md and .json.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.greg_speed import greg_ratio, section
from benchmarks.machine import beside, machine
from benchmarks.paths import MEASURED
from benchmarks.steps import (
    Clock,
    add_options,
    clock_of,
    compare,
    conditions,
    configurations,
    image_batch,
    laid_out,
    random_batch,
    ratio,
    step,
)
from train import checkpoint, models
from train.methods.energy import energy
from train.methods.sampling import energy_based_sample

REPORT = MEASURED / "train_speed.md"


def precision_ratio(arch: str, batch: int, rounds: int, clock: Clock) -> dict[str, Any]:
    """The cross-entropy step in every configuration, against the plain one in single precision."""
    contestants = {}
    for how in configurations():
        model = models.make(arch, 10).train().to(memory_format=how.memory_format)  # type: ignore[call-overload]
        data = laid_out(random_batch(batch, 0), how)
        contestants[str(how)] = lambda m=model, b=data, h=how: step(m, "cross-entropy", {}, b, h, clock)
    times = compare(contestants, rounds, arch)
    return {
        "arch": arch,
        "batch": batch,
        "milliseconds": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "ratio": {name: ratio(times["fp32"], values) for name, values in times.items()},
    }


def sampling_share(make: Callable[[], nn.Module], batch: int, rounds: int, clock: Clock) -> dict[str, Any]:
    """Energy-based sampling, the forward pass of the candidates excluded, as a share of GReg+'s step."""
    how = next(iter(configurations()))
    model = make().train().to(memory_format=how.memory_format)  # type: ignore[call-overload]
    data = laid_out(random_batch(batch, 4 * batch), how)
    with torch.no_grad(), how.autocast():
        logits, features = model(data.outliers)
    candidates, energies = features.float().numpy(), energy(logits.float()).numpy()

    def sample() -> float:
        start = clock()
        energy_based_sample(candidates, energies, batch, seed=0)
        return clock() - start

    options = {"m_in": 1e9, "m_aux": -1e9}
    times = compare(
        {"greg+": lambda: step(model, "greg+", options, data, how, clock), "sampling": sample}, rounds, "greg+"
    )
    return {
        "candidates": 4 * batch,
        "milliseconds": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "share": ratio(times["sampling"], times["greg+"]),
    }


def report(known: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page, of every machine."""
    parts = [
        "# The cost of a training step",
        "Made by `python -m benchmarks.train_speed`. Times are medians, ratios medians of the rounds' ratios.",
    ]
    for name, results in known.items():
        parts += [f"## {name}", *_machine(results)]
    return "\n\n".join(parts) + "\n"


def _machine(results: Mapping[str, Any]) -> list[str]:
    precision, greg, sampling = results["precision"], results["greg"], results["sampling"]
    return [
        results["conditions"],
        f"### Precision: {precision['arch']}, {precision['batch']} images, cross-entropy",
        "| configuration | ms a step | times faster than fp32 |\n|---|---|---|\n"
        + "\n".join(
            f"| {name} | {value:.0f} | {precision['ratio'][name]:.2f} |"
            for name, value in precision["milliseconds"].items()
        ),
        f"### Gradient regularisation: {greg['arch']}, {greg['batch']} {'images' if greg['images'] else 'images of noise'}",
        *section(greg),
        "### Energy-based sampling",
        f"Choosing among {sampling['candidates']} candidates takes {sampling['milliseconds']['sampling']:.1f} ms, "
        f"{100 * sampling['share']:.1f} % of GReg+'s step.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="a trained network for the gradient's exactness")
    parser.add_argument("--images", nargs=2, metavar=("KNOWN", "AUX"), help="sources for it; with --checkpoint")
    parser.add_argument("--arch", default="resnet20", help="of the new network otherwise; default: %(default)s")
    parser.add_argument("--precision-arch", default="wrn-40-2", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=128)
    add_options(parser)
    args = parser.parse_args()
    if args.images and not args.checkpoint:
        parser.error("--images needs --checkpoint, which says how images are made its input")
    clock = clock_of(args)
    torch.manual_seed(0)
    np.random.seed(0)
    initial = models.make(args.arch, 10).state_dict()

    def make() -> nn.Module:
        if args.checkpoint:
            return checkpoint.load(args.checkpoint).model()
        model = models.make(args.arch, 10)
        model.load_state_dict(initial)
        return model

    header = checkpoint.load(args.checkpoint).header if args.checkpoint else None
    if args.images and header:
        batch = image_batch(header.input, args.images, args.batch)
    else:
        batch = random_batch(args.batch, args.batch)
    arch = header.arch if header else args.arch
    results = {
        "conditions": conditions(args),
        "precision": precision_ratio(args.precision_arch, args.batch, args.rounds, clock),
        "greg": {"arch": arch, "images": args.images is not None, **greg_ratio(make, batch, args.rounds, clock)},
        "sampling": sampling_share(make, args.batch, args.rounds, clock),
    }
    print(report({machine(): results}))
    if args.write:
        REPORT.write_text(report(beside(REPORT.with_suffix(".json"), machine(), results)))


if __name__ == "__main__":
    main()
