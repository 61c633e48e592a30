"""torchvision's weights, as their presets and meta say it, and the arguments of its training reference."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from train.descriptions.torchvision import of_meta, of_preset, of_reference_arguments
from train.exceptions import ModelError


class InterpolationMode(Enum):
    BILINEAR = "bilinear"
    NEAREST_EXACT = "nearest-exact"
    BOX = "box"


# vars() of ResNet50_Weights.IMAGENET1K_V2.transforms()
PRESET: dict[str, Any] = {
    "crop_size": [224],
    "resize_size": [232],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": InterpolationMode.BILINEAR,
    "antialias": True,
}


def test_a_preset() -> None:
    found = of_preset(PRESET)
    assert (found.size, found.resize, found.resize_to) == ((224, 224), "shortest", 232)
    assert (found.mean, found.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (found.interpolation, found.colour, found.corner) == ("bilinear", "ignore", None)


def test_pairs() -> None:
    found = of_preset(PRESET | {"crop_size": [192, 256], "resize_size": [200, 300]})
    assert (found.size, found.resize, found.resize_to) == ((192, 256), "squash", (200, 300))


def test_filters() -> None:
    assert of_preset(PRESET | {"interpolation": InterpolationMode.NEAREST_EXACT}).interpolation == "nearest"
    with pytest.raises(ModelError, match="none of nearest"):
        of_preset(PRESET | {"interpolation": InterpolationMode.BOX})


def test_a_preset_of_another_task() -> None:
    with pytest.raises(ModelError, match="no crop_size: not of a classifier"):
        of_preset({"mean": 1, "std": 1, "resize_size": 3})


def test_labels() -> None:
    assert of_meta({"categories": ["tench", "crane", "crane"]}).labels == ("tench", "crane (1)", "crane (2)")


def test_arguments_of_the_reference() -> None:
    found = of_reference_arguments({"val_crop_size": 128, "val_resize_size": 160, "interpolation": "bicubic"})
    assert (found.size, found.resize_to, found.interpolation) == ((128, 128), 160, "bicubic")
    assert (found.mean, found.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert of_reference_arguments({"lr": 0.1}).size is None
