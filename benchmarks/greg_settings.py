"""Which margins, weight and rate for GReg? Judged on auxiliary classes that fine-tuning did not see.

    python -m benchmarks.greg_settings DATA --init CKPT [--margins -23 -5] [--weights 0 0.2] [--learning-rate 0.002]

DATA holds cifar10-train.tar, cifar10-val.tar and aux-*.tar; CKPT is a network trained with cross-entropy. Every third
class of the auxiliary sets is kept from training and plays the unknown; the calibration half of the validation set
plays the known. No ood-* set is read. Weights are those of the reduction `sample`; with `batch`, the same loss has a
weight that is the number of images of a step times larger. A weight of 0 is the energy loss alone. What is trained
already is not trained again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.methods import AUX, CHECKPOINT, command, curves, stored
from benchmarks.paths import MEASURED
from export.detectors.base import Energy
from export.from_torch.checkpoint import from_checkpoint
from export.metrics.detection import detection
from export.report.table import layout
from train.data import ImageSet, batches, load
from train.normalize import Normalize

STEP = 256  # images, known and auxiliary


def split_by_class(source: Path, seen: Path, unseen: Path) -> None:
    """Write every third class of a class-folder tar to `unseen`, and the others to `seen`."""
    if seen.exists() and unseen.exists():
        return
    with tarfile.open(source) as tar, tarfile.open(seen, "w") as first, tarfile.open(unseen, "w") as second:
        files = [member for member in tar if member.isfile()]
        classes = sorted({PurePosixPath(member.name).parent.name for member in files})
        kept = set(classes[::3])
        for member in files:
            target = second if PurePosixPath(member.name).parent.name in kept else first
            target.addfile(member, tar.extractfile(member))


def measure(run: Path, known: str, unknown: Mapping[str, str]) -> dict[str, Any]:
    """Accuracy, FPR95 by the energy, and the norms of the last epoch."""
    classifier = from_checkpoint(run / CHECKPOINT)
    normalize = Normalize(classifier.input)

    @torch.inference_mode()
    def logits(data: ImageSet) -> npt.NDArray[np.float32]:
        parts = (classifier.module(normalize(torch.from_numpy(images)))[0] for images in batches(data.images, 500))
        return np.concatenate([part.numpy() for part in parts])

    data = load(known, classifier.input).with_classes(classifier.labels, known)
    inside = logits(data)
    fpr = {}
    for name, source in unknown.items():
        outside = logits(load(source, classifier.input))
        found = detection(Energy().reference(inside, inside), Energy().reference(outside, outside))
        fpr[name] = 100 * found.fpr95_id_positive
    last = {tag: values[-1] for tag, values in curves(run).items()}
    return {
        "accuracy": 100 * float((inside.argmax(axis=1) == data.labels).mean()),
        "fpr95": fpr,
        "norm_in": last["train_gradient_norm_in"],
        "norm_aux": last["train_gradient_norm_aux"],
        "energy_loss": last["train_energy"],
    }


def settings(key: str) -> list[float]:
    """Epochs, rate, m_in, m_aux and weight of a run, of which its name is made."""
    return [float(part) for part in key.split(",")]


def page(results: Mapping[str, Any]) -> str:
    """docs/measured/greg_settings.md."""
    rows = [
        ["epochs", "rate", "m_in", "m_aux", "`sample`", "`batch`", "accuracy", *AUX, "average"]
        + ["energy loss", "norm, known", "norm, auxiliary"]
    ]
    for key in sorted(results["runs"], key=settings):
        found = results["runs"][key]
        *schedule, weight = settings(key)
        values = [found["accuracy"], *(found["fpr95"][name] for name in AUX), mean(found["fpr95"].values())]
        rows.append(
            [*(f"{value:g}" for value in (*schedule, weight, STEP * weight))]
            + [f"{value:.1f}" for value in values]
            + [f"{found[name]:.2f}" for name in ("energy_loss", "norm_in", "norm_aux")]
        )
    return (
        "\n\n".join(
            [
                "# The settings of GReg",
                "Made by `python -m benchmarks.greg_settings DATA --init CKPT`: " + results["protocol"],
                "`gradient_weight` with either reduction; FPR95 (ID-positive, percent, by the energy) of auxiliary classes "
                "that were not trained on against the calibration half; the weighted energy loss and the mean norms of the "
                "detected images' gradients in the last epoch of training.",
                layout(rows, markdown=True),
            ]
        )
        + "\n"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--init", type=Path, required=True, metavar="CKPT")
    margins = ("M_IN", "M_AUX")
    parser.add_argument(
        "--margins", nargs=2, type=float, default=[-23.0, -5.0], metavar=margins, help="default: -23 -5"
    )
    parser.add_argument("--weights", nargs="+", type=float, default=[0.0, 0.2], help="default: %(default)s")
    parser.add_argument("--part", default="1/2", help="of the training images, as in SOURCE@i/n; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--learning-rate", type=float, default=0.002, help="default: %(default)s")
    parser.add_argument("--runs", type=Path, default=Path("runs/greg_settings"), help="default: %(default)s")
    parser.add_argument("--docs", type=Path, default=MEASURED, help="where the page goes; default: %(default)s")
    args = parser.parse_args(argv)
    args.runs.mkdir(parents=True, exist_ok=True)
    parts = {name: (args.runs / f"{name}-seen.tar", args.runs / f"{name}-unseen.tar") for name in AUX}
    for name, (seen, unseen) in parts.items():
        split_by_class(args.data / f"aux-{name}.tar", seen, unseen)
    known = f"{args.data / 'cifar10-val.tar'}@1/2"
    file = args.docs / "greg_settings.json"
    arch = from_checkpoint(args.init).arch
    digest = hashlib.sha256(args.init.read_bytes()).hexdigest()
    text = (
        f"{arch}, fine-tuned from cross-entropy (SHA-256 {digest[:16]}) on a part ({args.part}) of the training images, "
        "with a cosine schedule, one seed."
    )
    for weight in args.weights:
        key = ",".join(f"{value:g}" for value in (args.epochs, args.learning_rate, *args.margins, weight))
        run = args.runs / key
        options: list[object] = ["--method", "greg", "--arch", arch, "--init", args.init, "--out", run, "--resume"]
        for name, value in zip(("m_in", "m_aux", "gradient_weight"), (*args.margins, weight), strict=True):
            options += ["--set", f"{name}={value:g}"]
        options += ["--data", f"{args.data / 'cifar10-train.tar'}@{args.part}", "--val", known]
        options += ["--epochs", args.epochs, "--learning-rate", args.learning_rate, "--warmup", 0]
        for seen, _ in parts.values():
            options += ["--aux", seen]
        command("train", *options)
        found = measure(run, known, {name: str(unseen) for name, (_, unseen) in parts.items()})
        results = {"protocol": text, "runs": {**stored(file, text), key: found}}
        file.write_text(json.dumps(results, indent=1) + "\n")
        (args.docs / "greg_settings.md").write_text(page(results))


if __name__ == "__main__":
    main()
