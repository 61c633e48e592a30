"""A transform and what was read off it: agreement is seen, and every wrong pixel."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from export.checks.agreement import check_agreement, normalised
from export.exceptions import ExportError
from runtime.manifest import InputSpec

SPEC = InputSpec(64, 64, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), resize="shortest", resize_to=72)


def theirs(image: Image.Image, spec: InputSpec = SPEC, side: int = 72) -> npt.NDArray[Any]:
    """torchvision's Resize, CenterCrop, ToTensor and Normalize, written again."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    other = int(side * long / short)
    size = (side, other) if width <= height else (other, side)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((resized.width - 64) / 2), round((resized.height - 64) / 2)
    pixels = np.asarray(resized.crop((left, top, left + 64, top + 64)), dtype=np.float32) / 255
    return ((pixels - np.float32(spec.mean)) / np.float32(spec.std)).transpose(2, 0, 1)


def test_the_same() -> None:
    assert check_agreement(theirs, SPEC, "transform") < 0.01


def test_the_other_order_of_channels() -> None:
    spec = dataclasses.replace(SPEC, channels="bgr")
    assert check_agreement(lambda image: np.flip(theirs(image), axis=0), spec, "transform") < 0.01


@pytest.mark.parametrize(
    ("wrong", "spec"),
    [
        pytest.param(lambda image: theirs(image, side=71), SPEC, id="another size"),
        pytest.param(lambda image: theirs(image)[::-1], SPEC, id="another order of channels"),
        pytest.param(theirs, dataclasses.replace(SPEC, resize="squash", resize_to=(72, 72)), id="another rule"),
        pytest.param(theirs, dataclasses.replace(SPEC, mean=(0.5, 0.4, 0.32)), id="another mean"),
        pytest.param(theirs, dataclasses.replace(SPEC, interpolation="bicubic"), id="another filter"),
        pytest.param(lambda image: theirs(image) * np.nan, SPEC, id="no numbers"),
    ],
)
def test_other_pixels_are_refused(wrong: Any, spec: InputSpec) -> None:
    with pytest.raises(ExportError, match=r"differs from what was read off it by up to .* grey levels"):
        check_agreement(wrong, spec, "transform")


def test_another_shape_and_a_failure_are_refused() -> None:
    with pytest.raises(ExportError, match=r"gives \[3, 63, 64\] of an image of 320x240 pixels, expected \[3, 64, 64\]"):
        check_agreement(lambda image: theirs(image)[:, 1:], SPEC, "transform")
    with pytest.raises(ExportError, match="fails on an RGB image of PIL: division by zero"):
        check_agreement(lambda image: np.array(1 / 0), SPEC, "transform")  # noqa: ARG005


@pytest.mark.parametrize(("levels", "agrees"), [(2.5, True), (3.5, False)])
def test_grey_may_be_rounded_twice(levels: float, agrees: bool) -> None:
    spec = dataclasses.replace(SPEC, mean=(0.5,) * 3, std=(0.25,) * 3, channels="grey")
    more = levels / 255 / 0.25
    if agrees:
        assert levels == pytest.approx(check_agreement(lambda image: normalised(image, spec) + more, spec, "transform"))
    else:
        with pytest.raises(ExportError, match=r"by up to 3\.5 of 255 grey levels"):
            check_agreement(lambda image: normalised(image, spec) + more, spec, "transform")
