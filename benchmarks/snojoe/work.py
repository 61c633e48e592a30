"""What runs share: the images at a backbone's size, and what is computed of them once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.snojoe import measuring
from benchmarks.snojoe.measuring import KNOWN, OOD, TRAIN, photographs
from benchmarks.snojoe.networks import BACKBONES, Classifier
from benchmarks.snojoe.training import Variant, choose, classifier, prepared
from train.data import ImageSet
from train.methods import spectral

Row = dict[str, Any]
Halves = np.ndarray[Any, np.dtype[np.float16]]
FROZEN = {
    "bce": Variant(),
    "stages=all, kept": Variant({"stages": 0}, "kept"),
    "stages=all, divided": Variant({"stages": 0}, "divided"),
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
TUNED = {
    "bce": Variant(),
    "stages=all": Variant({"stages": 0}),
    "operator": Variant({"stages": 0, "norm": "operator"}),
    "bounded": Variant({"stages": 0, "norm": "operator", "coefficient": 3.0, "batch_norm": 10.0}),
    **{f"stages={count}": Variant({"stages": count}) for count in (7, 8, 9)},
    **{f"layers={count}": Variant({"layers": count}) for count in (7, 8, 9)},
}
TABLES: Mapping[str, Mapping[str, object]] = {"frozen": FROZEN, "upper": UPPER, "tuned": TUNED}


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
            kept = {name: own for name, own in middle.items() if name != "mirrored"}
            np.savez(file, **{name: measuring.pooled(network.features, own, name) for name, own in kept.items()})
        with np.load(file) as stored:
            return dict(stored)

    def chosen(self) -> Row:
        """The classifier's rate and epochs, by the features of the plain backbone."""
        file = self._folder / f"{self.backbone}-chosen.json"
        return once(file, lambda: choose(self.features("bce")["train"], self.labels()))

    def labels(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return self.images(TRAIN).labels.astype(bool)

    def fitted(self, features: np.ndarray[Any, Any], seed: int) -> Classifier:
        """A classifier of these features of the training images."""
        own = self.chosen()
        return classifier(features, self.labels(), own["rate"], int(own["epochs"]), seed)


def whole(backbone: str, variant: Variant) -> Variant:
    """The variant with `stages` 0 as all that the backbone has."""
    if variant.options.get("stages") != 0:
        return variant
    count = len(spectral.stages(BACKBONES[backbone].make()))
    return Variant({**variant.options, "stages": count}, variant.statistics)


def once(file: Path, make: Callable[[], Row]) -> Row:
    """What a part came to, made where it is not there yet."""
    if not file.exists():
        file.write_text(json.dumps(make(), indent=1))
    found: Row = json.loads(file.read_text())
    return found
