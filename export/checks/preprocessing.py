"""Which other preprocessing the classifier would be right with much more often, on labelled calibration images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from export.checks.accuracy import GAIN, Quality, better, quality
from export.checks.sample import Sample
from export.classifier import Answers
from runtime.manifest import Channels, InputSpec
from train.data import Labels

_BATCH = 64  # images on which an alternative must look better to be tried on the others
_SWAPPED: dict[Channels, Channels] = {"rgb": "bgr", "bgr": "rgb"}
_NORMS = (
    ("0.485 0.456 0.406", "0.229 0.224 0.225", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("0.5 0.5 0.5", "0.5 0.5 0.5", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ("0 0 0", "1 1 1", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ("0 0 0", "0.00392157 0.00392157 0.00392157 (pixels of 0 to 255)", (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
)


def preprocessing_remarks(behind: Callable[[InputSpec], Answers], spec: InputSpec, images: Sample) -> Iterator[str]:
    """The best other preprocessing, in a line, if it is better by a lot and by more than luck.

    Args:
        behind: the classifier behind an input: images uint8 [n, H, W, 3] -> logits (n, K), or what is in their order.
        spec: its own input.
        images: nothing is said without their labels.
    """
    if images.labels is None:
        return
    own = _answers(behind(spec), images.images, images.labels)
    if own.mean() > 1 - GAIN:
        return
    found = {}
    others = list(alternatives(spec))
    for how, other in tqdm(others, desc="other preprocessing", unit="way", disable=None, leave=False):
        pixels = images.images
        if _geometry(other) != _geometry(spec):
            pixels = images.at(other)
            if np.array_equal(pixels, images.images):  # of the input's size already
                continue
        found[how] = _if_promising(behind(other), pixels, images.labels, own)
    yield from better(own, found)


def alternatives(spec: InputSpec) -> Iterator[tuple[str, InputSpec]]:
    """What else people do: the options that say it, and the input."""
    swapped = _SWAPPED.get(spec.channels)
    if swapped:
        yield f"--channels {swapped}", dataclasses.replace(spec, channels=swapped)
    for mean, std, means, deviations in _NORMS:
        other = dataclasses.replace(spec, mean=means, std=deviations)
        if not np.allclose((*spec.mean, *spec.std), (*means, *deviations), atol=5e-3):
            yield f"--mean {mean} --std {std}", other
            if swapped:
                yield f"--channels {swapped} --mean {mean} --std {std}", dataclasses.replace(other, channels=swapped)
    for interpolation in ("bilinear", "bicubic", "nearest"):
        if interpolation != spec.interpolation:
            yield f"--interpolation {interpolation}", dataclasses.replace(spec, interpolation=interpolation)
    plain = dataclasses.replace(spec, resize="squash", resize_to=None, crop_fraction=1.0)
    side = min(spec.height, spec.width)
    rules = [("--resize squash", plain)]
    for short in (side, round(side / 0.875)):
        rules.append((f"--resize-to {short}", dataclasses.replace(plain, resize="shortest", resize_to=short)))
    yield from ((how, other) for how, other in rules if other != spec)


def _if_promising(run: Answers, pixels: npt.NDArray[np.uint8], labels: Labels, own: Quality) -> Quality:
    """The answers to all images, or what is exported where those to the first ones are no better."""
    first = _answers(run, pixels[:_BATCH], labels[:_BATCH])
    if first.mean() < own[:_BATCH].mean() + GAIN / 2:
        return own
    return np.concatenate([first, _answers(run, pixels[_BATCH:], labels[_BATCH:])])


def _answers(run: Answers, pixels: npt.NDArray[np.uint8], labels: Labels) -> Quality:
    """How right the answer to each image is."""
    parts = [
        quality(run(np.ascontiguousarray(pixels[start : start + _BATCH])), labels[start : start + _BATCH])
        for start in range(0, len(pixels), _BATCH)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _geometry(spec: InputSpec) -> InputSpec:
    return dataclasses.replace(spec, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), channels="rgb")
