"""timm's data configurations, as it resolves them, and the config.json of its hub directories."""

from __future__ import annotations

from typing import Any

import pytest

from train.descriptions.description import GREY_FIRST
from train.descriptions.timm import of_data_config, of_hub_config
from train.exceptions import ModelError

# timm.data.resolve_model_data_config of resnet50.a1_in1k
RESNET: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.95,
    "crop_mode": "center",
}


@pytest.mark.parametrize(
    ("changes", "resize", "to", "fill"),
    [
        ({}, "shortest", 235, None),
        ({"crop_pct": 0.875}, "shortest", 256, None),
        ({"crop_pct": 1.0}, "shortest", 224, None),
        ({"input_size": (3, 192, 256), "crop_pct": 0.9}, "shortest", (213, 284), None),
        ({"crop_mode": "squash", "crop_pct": 1.0}, "squash", (224, 224), None),
        ({"crop_mode": "squash", "crop_pct": 0.9}, "squash", (248, 248), None),
        ({"crop_mode": "border", "crop_pct": 1.0}, "border", (224, 224), (124, 116, 104)),
    ],
)
def test_resizing(changes: dict[str, Any], resize: str, to: object, fill: object) -> None:
    found = of_data_config(RESNET | changes)
    assert (found.size, found.resize, found.resize_to, found.fill) == (
        (RESNET | changes)["input_size"][1:],
        resize,
        to,
        fill,
    )
    assert found.corner is None  # torchvision's, which is the default


def test_values() -> None:
    found = of_data_config(RESNET)
    assert (found.mean, found.std) == (RESNET["mean"], RESNET["std"])
    assert (found.interpolation, found.colour, found.channels) == ("bicubic", "ignore", "rgb")


def test_one_channel() -> None:
    found = of_data_config(RESNET | {"input_size": (1, 28, 28), "mean": (0.13,), "std": (0.3,)})
    assert (found.channels, found.mean, found.std) == ("grey", (0.13,), (0.3,))


def test_one_channel_of_a_network_for_colours() -> None:
    """timm's loader reads mode L, and takes the average of three values; so does the colour of a border."""
    found = of_data_config(RESNET | {"input_size": (1, 28, 28), "crop_mode": "border"})
    assert found.mean == pytest.approx([0.449], abs=1e-12)
    assert found.std == pytest.approx([0.226], abs=1e-12)
    assert found.fill == (114, 114, 114)
    assert GREY_FIRST in found.remarks
    assert GREY_FIRST not in of_data_config(RESNET).remarks


def test_other_numbers_of_channels() -> None:
    with pytest.raises(ModelError, match="5 channels; expected 1 or 3"):
        of_data_config(RESNET | {"input_size": (5, 28, 28)})


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({"label_names": ["cat", "dog"]}, ("cat", "dog")),
        ({"label_names": {"1": "dog", "0": "cat"}}, ("cat", "dog")),
        ({"pretrained_cfg": {"label_names": ["cat", "dog"]}}, ("cat", "dog")),
        (
            {"label_names": ["n014", "n015"], "label_descriptions": {"n014": "tench", "n015": "goldfish"}},
            ("tench", "goldfish"),
        ),
        ({"label_names": ["n01440764"]}, ("n01440764",)),
        ({}, None),
    ],
)
def test_labels(config: dict[str, Any], labels: tuple[str, ...] | None) -> None:
    assert of_hub_config(config).labels == labels
