"""Leakage: whether images that made a bundle are among those that it is evaluated, or calibrated, on.

The manifest keeps sketches of every set that trained, fitted or calibrated the bundle (:mod:`train.data.sketches`): of the
images' pixels at the model's size, and of their looks, which outlive a new encoding, a changed bit and mirroring. Hashes
are spread evenly, so a sketch holds all of the set's hashes up to its largest, and the images of another set with a hash
up to there are a random sample of it of which each is known to be shared or not. Smaller sets are compared exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from export.images.inference import BATCH
from runtime.manifest import Manifest
from train.data import Images, batches
from train.data.sketches import LOOKS, SIZE, Fingerprints, Hashes, Looks, exact_of, hashes, looks_of

__all__ = [
    "SIZE",
    "Fingerprints",
    "Hashes",
    "Overlap",
    "hashes",
    "leaks",
    "members",
    "overlap",
    "record",
    "warnings",
]

# The role, in a manifest's `data`, of the images that an int8 graph was quantised with.
QUANTISATION = "quantisation"
# And of the in-distribution ones that chose the gate's score, with the energy's temperature or without, or that alone. The
# outliers that they were compared with are recorded behind the same word.
CHOICE, TEMPERATURE = "choice", "temperature"
# Public sets hold a few images twice: up to this share of an evaluated set may be known by chance. Looks are told apart
# better than that: of CIFAR-10's validation images 0.2 % have that of a training image, most of them rightly.
TOLERANCE, TOLERANCE_OF_LOOKS = 0.01, 0.0025
_SIGNIFICANCE = 0.01


@dataclass(frozen=True)
class Overlap:
    """What a sketch says of another set.

    Attributes:
        images: of the other set.
        checked: how many of them the sketch can tell of.
        shared: how many of these are in the sketched set.
        tolerance: the share of images that may be shared.
    """

    images: int
    checked: int
    shared: int
    tolerance: float = TOLERANCE

    @property
    def estimate(self) -> int:
        """Of all `images`, how many are in the sketched set; exact where all were checked."""
        return round(self.images * self.shared / self.checked) if self.checked else 0

    @property
    def leaks(self) -> bool:
        """Whether more than the tolerated share of the images is shared, beyond the chance of the images checked.

        That is, whether so many shared images among those checked had a probability of at most 1 % if the share
        were the tolerance.
        """
        return self.shared > 0 and bool(binom.sf(self.shared - 1, self.checked, self.tolerance) <= _SIGNIFICANCE)


def overlap(
    sketched: npt.NDArray[np.unsignedinteger], found: npt.NDArray[np.unsignedinteger], size: int = SIZE
) -> Overlap:
    """Compare a sketch of one set with all hashes of another."""
    checkable = found if len(sketched) < size else found[found <= sketched[-1]]
    return Overlap(len(found), len(checkable), int(np.isin(checkable, sketched).sum()))


def record(manifest: Manifest, role: str | Sequence[str], source: str, images: Images | Fingerprints) -> Manifest:
    """The manifest with a sketch of the images that `role`, such as ``calibration`` or ``fit, knn``, was done on.

    Args:
        manifest: the bundle's.
        role: one or several; replaces an earlier record of the same role.
        source: where the images came from.
        images: at the model's size, or their hashes.
    """
    spec = (images if isinstance(images, Fingerprints) else Fingerprints.of(images)).describe(source)
    roles = [role] if isinstance(role, str) else role
    return dataclasses.replace(manifest, data={**manifest.data, **dict.fromkeys(roles, spec)})


def members(manifest: Manifest, role: str, images: Images) -> npt.NDArray[np.bool_]:
    """Which images are among those of `role`, which must be at most :data:`SIZE`; none if nothing is recorded (N,)."""
    if role not in manifest.data:
        return np.zeros(len(images), dtype=np.bool_)
    sketched = exact_of(manifest.data[role])
    return np.concatenate([np.isin(hashes(batch), sketched) for batch in batches(images, BATCH)])


def leaks(manifest: Manifest, found: Hashes, looks: Looks | None = None) -> dict[str, Overlap]:
    """The recorded sets, by role, of which more than the tolerance is among the images with these hashes.

    Args:
        manifest: the bundle's.
        found: exact hashes of the images (N,).
        looks: their looks (N,).
    """
    found_in = {}
    for role, spec in manifest.data.items():
        shared = [overlap(exact_of(spec), found)]
        if looks is not None and spec.looks:
            alike = overlap(looks_of(spec), looks, LOOKS)
            shared.append(dataclasses.replace(alike, tolerance=TOLERANCE_OF_LOOKS))
        if leaking := [one for one in shared if one.leaks]:
            found_in[role] = max(leaking, key=lambda one: one.checked)
    return found_in


def warnings(manifest: Manifest, name: str, source: str, found: Hashes, looks: Looks | None) -> Iterator[str]:
    """A line for each recorded set of a bundle, called `name`, of which too many are among the images of a source."""
    for role, shared in leaks(manifest, found, looks).items():
        yield (
            f"{source}: about {shared.estimate:,} of {shared.images:,} images are among those of the {role} of {name} "
            f"({manifest.data[role].source})"
        )


def learned_from(manifest: Manifest) -> Manifest:
    """The manifest with the records alone of images that weights or fitted scores were learned from.

    Such images look more typical than new ones, so they set no threshold.
    """
    learned = ("training", "auxiliary", "init", "fit")
    data = {role: spec for role, spec in manifest.data.items() if role.partition(",")[0] in learned}
    return dataclasses.replace(manifest, data=data)
