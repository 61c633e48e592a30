"""Settings of image processors, as their libraries write them, become inputs that do the same to every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from train.descriptions.transformers import of_config, of_processor
from train.exceptions import ModelError

# As save_pretrained writes them, or older files on the hub have them.
VIT = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}
VIT_OLD = {
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ViTFeatureExtractor",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "size": 224,
}
CONVNEXT = VIT | {
    "image_processor_type": "ConvNextImageProcessor",
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
DEIT = VIT | {
    "image_processor_type": "DeiTImageProcessor",
    "size": {"height": 256, "width": 256},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
}
CLIP_OLD = {
    "feature_extractor_type": "CLIPFeatureExtractor",
    "size": 224,
    "do_center_crop": True,
    "crop_size": 224,
    "do_normalize": True,
    "do_convert_rgb": True,
    "image_mean": [0.481, 0.457, 0.408],
    "image_std": [0.268, 0.261, 0.275],
    "resample": 3,
}
LEVIT = DEIT | {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 224}}
POOLFORMER = LEVIT | {"image_processor_type": "PoolFormerImageProcessor", "crop_pct": 0.9}
MOBILENET = DEIT | {"image_processor_type": "MobileNetV2ImageProcessor", "size": {"shortest_edge": 256}}


@pytest.mark.parametrize(
    ("processor", "size", "resize", "to"),
    [
        (VIT, (224, 224), "squash", (224, 224)),
        (VIT_OLD, (224, 224), "squash", (224, 224)),
        (VIT | {"size": {"height": 192, "width": 256}}, (192, 256), "squash", (192, 256)),
        (DEIT, (224, 224), "squash", (256, 256)),
        (CONVNEXT, (224, 224), "shortest", 256),
        (CONVNEXT | {"crop_pct": None}, (224, 224), "shortest", 256),
        (CONVNEXT | {"crop_pct": 0.95}, (224, 224), "shortest", 235),
        (CONVNEXT | {"size": {"shortest_edge": 384}}, (384, 384), "squash", (384, 384)),
        (CONVNEXT | {"size": 224, "image_processor_type": "ConvNextFeatureExtractor"}, (224, 224), "shortest", 256),
        (CLIP_OLD, (224, 224), "shortest", 224),
        (LEVIT, (224, 224), "shortest", 256),
        (POOLFORMER, (224, 224), "shortest", 248),
        (MOBILENET, (224, 224), "shortest", 256),
        (MOBILENET | {"do_resize": False}, (224, 224), "none", None),
    ],
)
def test_size_and_resizing(processor: dict[str, Any], size: tuple[int, int], resize: str, to: object) -> None:
    found = of_processor(processor)
    assert (found.size, found.resize, found.resize_to) == (size, resize, to)
    assert (found.corner, found.colour, found.resampler) == ("floor", "ignore", "torch")


def test_filters() -> None:
    assert of_processor(VIT).interpolation == "bilinear"
    assert of_processor(CONVNEXT).interpolation == "bicubic"
    with pytest.raises(ModelError, match="interpolation 4 is none of"):
        of_processor(VIT | {"resample": 4})


def by_hand(processor: dict[str, Any], x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the processor's steps make of pixels of 0 to 255, one after the other."""
    if processor.get("do_rescale", True):
        x = x * processor.get("rescale_factor", 1 / 255)
    if processor.get("rescale_offset"):
        x = x - 1
    if processor.get("do_normalize"):
        x = (x - np.array(processor["image_mean"])) / np.array(processor["image_std"])
        if processor.get("include_top"):
            x = x / np.array(processor["image_std"])
    return x


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [123.7, 116.3, 103.5], "image_std": [58.4, 57.1, 57.4]},
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
        {"image_processor_type": "EfficientNetImageProcessor", "include_top": True, "image_std": [0.4, 0.6, 0.7]},
    ],
)
def test_normalisation(changes: dict[str, Any]) -> None:
    processor = VIT | changes
    found = of_processor(processor)
    assert found.mean is not None
    assert found.std is not None
    x = np.arange(256.0)[:, None]
    expected = by_hand(processor, x) * np.ones(3)
    np.testing.assert_allclose((x / 255 - np.array(found.mean)) / np.array(found.std), expected, atol=1e-6)


def test_usual_values_stay_as_they_are_written() -> None:
    found = of_processor(CONVNEXT)
    assert found.mean == (0.485, 0.456, 0.406)
    assert found.std == (0.229, 0.224, 0.225)


def test_mobilevit_takes_bgr_without_normalisation() -> None:
    processor = {
        "image_processor_type": "MobileViTImageProcessor",
        "size": {"shortest_edge": 288},
        "do_center_crop": True,
        "crop_size": {"height": 256, "width": 256},
        "do_flip_channel_order": True,
        "resample": 2,
    }
    found = of_processor(processor)
    assert (found.channels, found.mean, found.std) == ("bgr", (0, 0, 0), (1, 1, 1))
    assert (found.size, found.resize_to) == ((256, 256), 288)


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (VIT | {"size": {"shortest_edge": 224, "longest_edge": 448}}, "size of"),
        (VIT | {"size": {"shortest_edge": 224}}, "nothing cut"),
        (VIT | {"do_thumbnail": True}, "do_thumbnail can't be expressed"),
        (VIT | {"do_pad": True}, "do_pad"),
        (VIT | {"image_processor_type": "PerceiverImageProcessor"}, "the steps of PerceiverImageProcessor"),
        (VIT | {"image_mean": None}, "normalises without image_mean"),
        (VIT | {"do_resize": False}, "the size is unknown"),
    ],
)
def test_steps_that_no_bundle_takes(processor: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=rf"preprocessor_config\.json: .*{message}"):
        of_processor(processor)


def test_labels() -> None:
    found = of_config({"id2label": {"1": "dog", "0": "cat", "10": "k", **{str(i): f"c{i}" for i in range(2, 10)}}})
    assert found.labels == ("cat", "dog", *(f"c{i}" for i in range(2, 10)), "k")
    assert found.task == "multiclass"


def test_labels_without_names_are_said() -> None:
    found = of_config({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}})
    assert found.labels == ("LABEL_0", "LABEL_1")
    assert "--labels FILE" in found.lines[0]


def test_no_labels() -> None:
    assert of_config({}).labels is None


def test_several_labels_an_image() -> None:
    assert of_config({"problem_type": "multi_label_classification"}).task == "multilabel"


@pytest.mark.parametrize(
    ("config", "message"),
    [({"problem_type": "regression"}, "regression"), ({"id2label": {"0": "cat", "2": "dog"}}, "gaps")],
)
def test_no_classifier(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        of_config(config)
