"""Which training method detects best? Every method trained, exported and evaluated as it is deployed.

    python -m benchmarks.methods DATA [--seeds 0 1 2] [--methods cross-entropy logitnorm ..] [--runs runs/methods] [--jobs 2]

DATA holds cifar10-train.tar, cifar10-val.tar, aux-*.tar and ood-*.tar. Cross-entropy and LogitNorm are trained from
scratch; the methods with auxiliary outliers fine-tune the cross-entropy network of the same seed. Each network is exported
with a gate score and an energy temperature chosen by AUROC between a quarter of the calibration half and the auxiliary
sets, calibrated on the rest of that half, and evaluated on the other half. Hyperparameters are the methods' defaults, the
same margins for all that have the energy loss: of a recipe in --scratch or --tuning the other settings are taken. What is
trained already is not trained again, and what was stopped goes on; docs/measured/results.json grows run by run, and
docs/measured/results.md and its plots are written from it. --jobs 2 has two runs at a time, each with half of the cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.methods_page import OOD, write
from benchmarks.paths import MEASURED
from export.evaluate.bundles import evaluate_sources
from runtime.gate import Gate
from serving.settings import cores
from train import methods
from train.__main__ import settings_of
from train.exceptions import TrainingError

CHECKPOINT = "checkpoint.safetensors"
AUX = ("cifar100", "tinyimagenet")
BINS = 40


@dataclass(frozen=True)
class Contestant:
    """A method with its hyperparameters.

    `tuned` ones start from the cross-entropy network and see auxiliary outliers; `regularised` ones have the protocol's
    gradient weight.
    """

    method: str
    settings: Mapping[str, float | str] = field(default_factory=dict)
    tuned: bool = True
    regularised: bool = False


CONTESTANTS = {
    "cross-entropy": Contestant("cross-entropy", tuned=False),
    "logitnorm": Contestant("logitnorm", tuned=False),
    "logit-penalty": Contestant("logit-penalty", tuned=False),
    # The energy loss with its gradient norm watched: GReg with a weight of zero.
    "energy": Contestant("greg", {"gradient_weight": 0}),
    "oe": Contestant("oe"),
    "greg": Contestant("greg", regularised=True),
    "greg-oe": Contestant("greg-oe"),
    "greg+": Contestant("greg+", regularised=True),
}


@dataclass(frozen=True)
class Protocol:
    """Where the images are, where runs go, how long they are, the gradient weight of GReg and GReg+, which part of the
    training images, such as 1/2, is fine-tuned on, where it is not all of them, further options of runs from scratch
    and of fine-tuning, and hyperparameters of all methods that have them."""

    data: Path
    runs: Path
    arch: str
    epochs: int
    tune_epochs: int
    tune_rate: float
    gradient_weight: float
    tune_part: str
    scratch: tuple[str, ...]
    tuning: tuple[str, ...]
    settings: Mapping[str, float | str] = field(default_factory=dict)

    def training(self, *, tuned: bool) -> str:
        return self.source("cifar10-train") + (f"@{self.tune_part}" if tuned and self.tune_part else "")

    def source(self, name: str) -> str:
        return str(self.data / f"{name}.tar")

    def calibration(self) -> str:
        return self.source("cifar10-val") + "@1/2"

    def evaluation(self) -> str:
        return self.source("cifar10-val") + "@2/2"


def command(module: str, *options: object) -> None:
    """Run one of the project's commands; its output is ours.

    Raises:
        SystemExit: it failed, or was stopped.
    """
    process = subprocess.run([sys.executable, "-m", module, *map(str, options)], check=False)
    if process.returncode:
        raise SystemExit(process.returncode)


def train(protocol: Protocol, name: str, seed: int) -> Path:
    """The run of a contestant, trained if it is not complete; returns its checkpoint."""
    contestant = CONTESTANTS[name]
    run = protocol.runs / f"{name}-{seed}"
    options: list[object] = ["--method", contestant.method, "--arch", protocol.arch, "--seed", seed, "--resume"]
    options += ["--data", protocol.training(tuned=contestant.tuned), "--val", protocol.calibration(), "--out", run]
    regularised = {"gradient_weight": protocol.gradient_weight} if contestant.regularised else {}
    own = {each.name for each in dataclasses.fields(methods.METHODS[contestant.method])}
    shared = {name: value for name, value in protocol.settings.items() if name in own}
    method = methods.make(contestant.method, {**shared, **contestant.settings, **regularised})
    for key, value in dataclasses.asdict(method).items():  # all: a recipe's would reach those of its own method alone
        options += ["--set", f"{key}={value}"]
    if contestant.tuned:
        options += ["--init", train(protocol, "cross-entropy", seed), "--epochs", protocol.tune_epochs]
        options += ["--learning-rate", protocol.tune_rate, "--warmup", 0, *protocol.tuning]
        for aux in AUX:
            options += ["--aux", protocol.source(f"aux-{aux}")]
    else:
        options += ["--epochs", protocol.epochs, *protocol.scratch]
    command("train", *options)
    return run / CHECKPOINT


def measure(protocol: Protocol, checkpoint: Path) -> dict[str, Any]:
    """Export, evaluate, and the gradient norms of the energy; everything that the page tells of a run."""
    bundle = checkpoint.parent / "bundle"
    options: list[object] = ["--checkpoint", checkpoint, "--out", bundle, "--calibration", protocol.calibration()]
    for aux in AUX:
        options += ["--aux", protocol.source(f"aux-{aux}")]
    command("export", *options, "--score", "auto")
    sources = {name: protocol.source(f"ood-{name}") for name in OOD}
    (found,) = evaluate_sources([Gate.load(bundle)], protocol.evaluation(), sources)
    column = found.gate.manifest.scores.index(found.figures.score)
    scores = {"ID": found.known.scores[:, column], **{k: v.scores[:, column] for k, v in found.unknown.items()}}
    edges = np.linspace(*np.quantile(np.concatenate(list(scores.values())), [0.001, 0.999]), BINS + 1)
    radius = checkpoint.parent / "radius.json"
    ood = [option for name, source in sources.items() for option in ("--ood", f"{name}={source}")]
    command("benchmarks.radius", checkpoint, "--id", protocol.evaluation(), *ood, "--json", radius)
    return {
        "evaluation": found.figures.to_dict(),
        "histogram": {
            "edges": edges.tolist(),
            "density": {name: np.histogram(values, edges, density=True)[0].tolist() for name, values in scores.items()},
        },
        "radius": json.loads(radius.read_text())["sets"],
        "curves": curves(checkpoint.parent),
    }


def stored(file: Path, protocol: str) -> dict[str, Any]:
    """The runs that a page's JSON holds, if they are of this protocol."""
    before = json.loads(file.read_text()) if file.exists() else {}
    return dict(before["runs"]) if before.get("protocol") == protocol else {}


def _name(key: tuple[str, int]) -> str:
    return f"{key[0]}-{key[1]}"


def _order(key: str) -> tuple[int, int]:
    """Contestants as listed, then their seeds."""
    name, _, seed = key.rpartition("-")
    return list(CONTESTANTS).index(name), int(seed)


def curves(run: Path) -> dict[str, list[float]]:
    """TensorBoard's scalars of a run, one value an epoch."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def complete(
    protocol: Protocol,
    keys: Sequence[tuple[str, int]],
    text: str,
    docs: Path,
    page: str,
    jobs: int,
    measuring: bool = True,
) -> None:
    """Train and measure the contestants, with seeds, that a page lacks, `jobs` at a time, what others start from first."""
    file = docs / f"{page}.json"
    wanted = [key for key in keys if _name(key) not in stored(file, text)]
    tuned = [key for key in wanted if CONTESTANTS[key[0]].tuned]
    bases = [("cross-entropy", seed) for _, seed in tuned]
    scratch = dict.fromkeys([*bases, *(key for key in wanted if key not in tuned)])
    writing = threading.Lock()

    def run(key: tuple[str, int]) -> None:
        checkpoint = train(protocol, *key)
        if key in wanted and measuring:
            found = measure(protocol, checkpoint)
            with writing:
                runs = {**stored(file, text), _name(key): found}
                ordered = {name: runs[name] for name in sorted(runs, key=_order)}
                write({"protocol": text, "runs": ordered}, docs, page)

    for stage in (scratch, tuned):
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(run, stage))


def _check_settings(settings: Mapping[str, float | str], names: Sequence[str]) -> None:
    """Raises TrainingError for a hyperparameter that none of the contestants takes from here."""
    taken = {each.name for name in names for each in dataclasses.fields(methods.METHODS[CONTESTANTS[name].method])}
    if strange := sorted(settings.keys() - (taken - {"gradient_weight"})):
        raise TrainingError(
            f"--set {strange[0]}: the methods compared have {', '.join(sorted(taken - {'gradient_weight'}))}; the weight of "
            "the gradient loss is --gradient-weight"
        )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--methods", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arch", default="resnet20", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=24, help="from scratch; default: %(default)s")
    parser.add_argument("--tune-epochs", type=int, default=2, help="of fine-tuning; default: %(default)s")
    parser.add_argument("--tune-rate", type=float, default=0.002, help="default: %(default)s")
    parser.add_argument("--gradient-weight", type=float, default=0.05, help="of GReg and GReg+; default: %(default)s")
    parser.add_argument("--tune-part", default="", metavar="K/N", help="part of the training images (default: all)")
    parser.add_argument(
        "--scratch", default="", metavar="OPTIONS", help="of training from scratch, such as '--recipe cifar-fast'"
    )
    parser.add_argument(
        "--tuning", default="", metavar="OPTIONS", help="of fine-tuning, such as '--batch-size 64 --weight-decay 1e-4'"
    )
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a hyperparameter of all methods that have it, such as m_in=-25; repeatable",
    )
    parser.add_argument("--train-only", action="store_true", help="measure nothing: what is trained is measured later")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time; default: %(default)s")
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"), help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=MEASURED, help="where the page goes; default: %(default)s")
    parser.add_argument("--page", default="results", metavar="NAME", help="DOCS/NAME.md; default: %(default)s")
    args = parser.parse_args(argv)
    protocol = Protocol(
        args.data,
        args.runs,
        args.arch,
        args.epochs,
        args.tune_epochs,
        args.tune_rate,
        args.gradient_weight,
        args.tune_part,
        tuple(shlex.split(args.scratch)),
        tuple(shlex.split(args.tuning)),
        settings_of(args.set),
    )
    text = (
        f"`python -m benchmarks.methods DATA --methods {' '.join(args.methods)} --seeds {' '.join(map(str, args.seeds))} "
        f"--arch {args.arch} --epochs {args.epochs} --tune-epochs {args.tune_epochs} "
        f"--tune-rate {args.tune_rate:g} --gradient-weight {args.gradient_weight:g}"
        + (f" --tune-part {args.tune_part}" if args.tune_part else "")
        + (f" --scratch '{args.scratch}'" if args.scratch else "")
        + (f" --tuning '{args.tuning}'" if args.tuning else "")
        + "".join(f" --set {pair}" for pair in args.set)
        + "`: epochs from scratch, epochs and rate "
        f"of fine-tuning with the auxiliary sets {' and '.join(AUX)}, and the gradient weight of GReg and GReg+."
    )

    if args.jobs > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // args.jobs)))
    _check_settings(protocol.settings, args.methods)
    keys = [(name, seed) for seed in args.seeds for name in args.methods]
    complete(protocol, keys, text, args.docs, args.page, args.jobs, not args.train_only)


if __name__ == "__main__":
    main()
