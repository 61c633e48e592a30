"""The field's protocols: which image lists are known, near and far, as a user of the benchmark has them on disk.

OpenOOD v1.5 (Zhang et al. 2023, arXiv 2306.09301): ``ROOT/benchmark_imglist/cifar10/test_tin.txt`` has a line ``path label``
for each image, its path from ``ROOT/images_classic`` or ``ROOT/images_largescale``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from export.exceptions import ExportError
from export.metrics.evaluation import Evaluation
from export.metrics.leaderboard import Leaderboard, lines
from runtime.manifest import Manifest

_LISTS = "benchmark_imglist"


@dataclass(frozen=True)
class Protocol:
    """One benchmark of OpenOOD v1.5; each of its sets is called as its test list is.

    Attributes:
        name: of the option.
        known: the known images. Its validation list (1,000 of CIFAR's 10,000 test images, 5,000 of ImageNet's 50,000
            validation images) has none of them, and is for the calibration.
        classes: how many the known images have.
        near, far: OOD sets.
        shifted: known images that are shifted.
    """

    name: str
    known: str
    classes: int
    near: tuple[str, ...]
    far: tuple[str, ...]
    shifted: tuple[str, ...] = ()

    @property
    def ood(self) -> tuple[str, ...]:
        """The OOD sets."""
        return *self.near, *self.far

    def source(self, root: Path, name: str) -> str:
        """The list of the test images of a set, which is a SOURCE."""
        return str(root / _LISTS / self.known / f"test_{name}.txt")

    def check(self, root: Path, manifest: Manifest) -> None:
        """Make sure that a bundle can be evaluated by the protocol.

        Raises:
            ExportError: no image lists in the folder, or a model of other classes.
        """
        if not (folder := root / _LISTS / self.known).is_dir():
            raise ExportError(
                f"--data {root}: there is no {folder}; expected OpenOOD's folder of {_LISTS}/, images_classic/ and "
                "images_largescale/"
            )
        if manifest.labels and len(manifest.labels) != self.classes:
            raise ExportError(
                f"--protocol {self.name}: it has {self.classes} classes, and {manifest.model.name} has {len(manifest.labels)}"
            )


_SMALL = ("mnist", "svhn", "texture", "places365")
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("openood-v1.5-cifar10", "cifar10", 10, ("cifar100", "tin"), _SMALL, ("cifar10c",)),
        Protocol("openood-v1.5-cifar100", "cifar100", 100, ("cifar10", "tin"), _SMALL),
        Protocol(
            "openood-v1.5-imagenet1k",
            "imagenet",
            1000,
            ("ssb_hard", "ninco"),
            ("inaturalist", "textures", "openimage_o"),
            ("imagenet_v2", "imagenet_c", "imagenet_r", "imagenet_es"),
        ),
    )
}


def leaderboard(
    protocol: Protocol, manifest: Manifest, evaluation: Evaluation, missing: Mapping[str, str]
) -> Leaderboard:
    """What an evaluation by a protocol comes to.

    Args:
        protocol: that the sets are of.
        manifest, evaluation: of the bundle.
        missing: what is missing, by set.
    """
    figures = {name: ood.scores for name, ood in evaluation.ood.items()}
    found = lines(protocol.near, protocol.far, figures, evaluation.id.accuracy)
    if evaluation.full_spectrum:
        accuracy = _pooled_accuracy(evaluation)
        found += lines(protocol.near, protocol.far, evaluation.full_spectrum, accuracy, full_spectrum=True)
    return Leaderboard(
        protocol.name,
        manifest.model.arch,
        manifest.model.method,
        _outliers(manifest),
        protocol.near,
        protocol.far,
        dict(missing),
        found,
    )


def _pooled_accuracy(evaluation: Evaluation) -> float | None:
    """On known images, shifted ones among them; None where some have no labels."""
    pairs = [(evaluation.id.accuracy, evaluation.id.images)]
    pairs += [(one.accuracy, one.images) for one in evaluation.shifted.values()]
    right = [accuracy * images for accuracy, images in pairs if accuracy is not None]
    return sum(right) / sum(images for _, images in pairs) if len(right) == len(pairs) else None


def _outliers(manifest: Manifest) -> bool | None:
    """Whether auxiliary outliers were learned from, as far as the checkpoint said."""
    training = manifest.provenance.get("training", {})
    if "auxiliary" in manifest.data or training.get("sources", {}).get("aux"):
        return True
    return False if training else None
