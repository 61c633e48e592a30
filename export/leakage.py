"""Leakage: whether images that made a bundle are among those that it is evaluated on.

The manifest keeps a sketch of every set that calibrated or fitted the bundle: the 1,024 smallest 64-bit hashes of the
images' pixels at the model's size (a bottom-k sketch, Cohen & Kaplan 2007). Hashes are uniform, so the sketch holds all
of the set's hashes up to its largest, and the images of another set with a hash up to there are a random sample of it
of which each is known to be shared or not. Sets of up to 1,024 distinct images are compared exactly.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from export.inference import BATCH
from runtime.manifest import DataSpec, Manifest
from train.data import Images, batches, short_name

SIZE = 1024
# The role, in a manifest's `data`, of the images that an int8 graph was quantised with.
QUANTISATION = "quantisation"
# Public sets hold a few images twice: up to this share of an evaluated set may be known by chance.
TOLERANCE = 0.01
_SIGNIFICANCE = 0.01

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Overlap:
    """What a sketch says of another set.

    Attributes:
        images: of the other set.
        checked: how many of them the sketch can tell of.
        shared: how many of these are in the sketched set.
    """

    images: int
    checked: int
    shared: int

    @property
    def estimate(self) -> int:
        """Of all `images`, how many are in the sketched set; exact where all were checked."""
        return round(self.images * self.shared / self.checked) if self.checked else 0

    @property
    def leaks(self) -> bool:
        """Whether more than :data:`TOLERANCE` of the images are shared, beyond the chance of the images checked.

        That is, whether so many shared images among those checked had a probability of at most 1 % if the share
        were the tolerance.
        """
        return self.shared > 0 and bool(binom.sf(self.shared - 1, self.checked, TOLERANCE) <= _SIGNIFICANCE)


def hashes(images: npt.NDArray[np.uint8]) -> Hashes:
    """The first 64 bits of BLAKE2b of each image's pixels, uint64 (N,), from uint8 [N, H, W, 3]."""
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def sketch(batches: Iterable[Hashes], size: int = SIZE) -> Hashes:
    """The `size` smallest distinct hashes, ascending."""
    smallest = np.empty(0, dtype=np.uint64)
    for batch in batches:
        smallest = np.unique(np.concatenate([smallest, batch]))[:size]
    return smallest


def overlap(sketched: Hashes, found: Hashes, size: int = SIZE) -> Overlap:
    """Compare a sketch of one set with all hashes of another."""
    checkable = found if len(sketched) < size else found[found <= sketched[-1]]
    return Overlap(len(found), len(checkable), int(np.isin(checkable, sketched).sum()))


def record(manifest: Manifest, role: str | Sequence[str], source: str, images: Images) -> Manifest:
    """The manifest with a sketch of the images that `role`, such as ``calibration`` or ``fit, knn``, was done on.

    Args:
        manifest: the bundle's.
        role: one or several; replaces an earlier record of the same role.
        source: where the images came from.
        images: at the model's size.
    """
    encoded = base64.b64encode(sketch(map(hashes, batches(images, BATCH))).astype("<u8").tobytes()).decode()
    spec = DataSpec(source=short_name(source), images=len(images), sketch=encoded)
    roles = [role] if isinstance(role, str) else role
    return dataclasses.replace(manifest, data={**manifest.data, **dict.fromkeys(roles, spec)})


def members(manifest: Manifest, role: str, images: Images) -> npt.NDArray[np.bool_]:
    """Which images are among those of `role`, which must be at most :data:`SIZE`; none if nothing is recorded (N,)."""
    if role not in manifest.data:
        return np.zeros(len(images), dtype=np.bool_)
    sketched = _sketched(manifest.data[role])
    return np.concatenate([np.isin(hashes(batch), sketched) for batch in batches(images, BATCH)])


def leaks(manifest: Manifest, found: Hashes) -> dict[str, Overlap]:
    """The recorded sets, by role, of which more than the tolerance is among the images with these hashes."""
    overlaps = {role: overlap(_sketched(spec), found) for role, spec in manifest.data.items()}
    return {role: shared for role, shared in overlaps.items() if shared.leaks}


def _sketched(spec: DataSpec) -> Hashes:
    return np.frombuffer(base64.b64decode(spec.sketch), dtype="<u8").astype(np.uint64)
