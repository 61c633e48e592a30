"""Are the calibration images such as a threshold can be learned from?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from export.checks.sample import Sample
from export.exceptions import ExportError
from runtime.manifest import GateSpec, InputSpec
from train.data.sketches import hashes

_FEW = 8  # images too few to say that something is so in all of them
_ENLARGED = 2  # times that an image is enlarged before it is said
_LEVELS = 10  # values of a score that are too few for a threshold to lie among


def image_remarks(images: Sample, spec: InputSpec) -> Iterator[str]:
    """What is unusual in a sample of the calibration images, a line each.

    Raises:
        ExportError: all of them are one image.
    """
    n = len(images.images)
    if n < _FEW:
        return
    distinct = len(np.unique(hashes(images.images)))
    if distinct == 1:
        raise ExportError(f"{images.title}: {n} images and all of them the same: a threshold needs images that differ")
    if distinct <= n // 2:
        yield (
            f"only {distinct} of {n} calibration images looked at are different ones: a threshold of copies is less certain "
            "than their number says"
        )
    coloured = spec.channels != "grey"
    if (
        coloured
        and np.array_equal(images.images[..., 0], images.images[..., 1])
        and np.array_equal(images.images[..., 1], images.images[..., 2])
    ):
        yield f"all {n} calibration images looked at are grey: a colour image may then be rejected for its colour"
    small = [size for size in images.sizes if size[0] * _ENLARGED <= spec.width and size[1] * _ENLARGED <= spec.height]
    if 2 * len(small) > len(images.sizes):
        width, height = np.median(small, axis=0).astype(int)
        yield (
            f"{len(small)} of {len(images.sizes)} calibration images looked at are enlarged to {spec.width} x {spec.height}, "
            f"from {width} x {height} in the middle: the gate learns blurred images; calibrate on originals"
        )


def score_remarks(gate: GateSpec) -> Iterator[str]:
    """That the gate's score hardly differs between calibration images, in a line."""
    values = gate.calibration.quantiles[gate.score]
    distinct = len(set(values))
    if len(values) >= _LEVELS and distinct == 1:
        yield f"{gate.score} is {values[0]:.6g} for every calibration image: a threshold on it tells nothing apart"
    elif len(values) >= 2 * _LEVELS and distinct < _LEVELS:
        yield f"{gate.score} has only {distinct} values among the calibration images: many are the threshold itself"
