"""Transforms of evaluations, by classes that have the names and attributes of torchvision's and timm's."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from runtime.manifest import InputSpec
from train.descriptions.description import GREY_FIRST
from train.descriptions.transforms import of_transform
from train.exceptions import ModelError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def step(name: str, module: str = "torchvision.transforms.transforms", **attributes: Any) -> Any:
    """An object of a class of that name with these attributes."""
    return type(name, (), {"__module__": module, **attributes})()


def resize(size: Any, **attributes: Any) -> Any:
    return step(
        "Resize", **{"size": size, "interpolation": "bilinear", "max_size": None, "antialias": True} | attributes
    )


def cut(*size: int) -> Any:
    return step("CenterCrop", size=size)


def compose(*steps: Any) -> Any:
    return step("Compose", transforms=list(steps))


def ratio(size: tuple[int, int], longest: float, **attributes: Any) -> Any:
    common = {"interpolation": "bicubic", "random_scale_prob": 0.0, "random_aspect_prob": 0.0}
    return step("ResizeKeepRatio", "timm.data.transforms", size=size, longest=longest, **{**common, **attributes})


TENSOR = step("ToTensor")
NORMALIZE = step("Normalize", mean=list(MEAN), std=list(STD))
IMAGE, FLOAT = step("ToImage"), step("ToDtype", dtype="torch.float32", scale=True)
SPEC = InputSpec(224, 224, MEAN, STD, resize="shortest", resize_to=256)


def spec_of(transform: Any) -> InputSpec:
    return dataclasses.replace(of_transform(transform), labels=("a", "b")).input()


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        pytest.param(compose(resize(256), cut(224, 224), TENSOR, NORMALIZE), SPEC, id="torchvision"),
        pytest.param(
            compose(resize([256]), cut(224, 224), compose(TENSOR, NORMALIZE)), SPEC, id="nested, a list of one"
        ),
        pytest.param(
            compose(IMAGE, resize(256), cut(224, 224), FLOAT, NORMALIZE),
            dataclasses.replace(SPEC, resampler="torch"),
            id="v2, resized as a tensor",
        ),
        pytest.param(
            compose(resize((240, 320), interpolation="bicubic"), cut(224, 256), TENSOR, NORMALIZE),
            InputSpec(224, 256, MEAN, STD, resize="squash", resize_to=(240, 320), interpolation="bicubic"),
            id="squash",
        ),
        pytest.param(
            compose(resize((224, 224)), TENSOR),
            InputSpec(224, 224, (0.0,) * 3, (1.0,) * 3, resize="squash", resize_to=(224, 224)),
            id="stretched and not normalised",
        ),
        pytest.param(
            compose(cut(32, 32), TENSOR, NORMALIZE), InputSpec(32, 32, MEAN, STD, resize="none"), id="cut alone"
        ),
        pytest.param(
            compose(
                ratio((248, 248), 1.0),
                step("CenterCropOrPad", size=(224, 224), fill=[124, 116, 104]),
                TENSOR,
                NORMALIZE,
            ),
            InputSpec(
                224,
                224,
                MEAN,
                STD,
                resize="border",
                resize_to=(248, 248),
                fill=(124, 116, 104),
                interpolation="bicubic",
            ),
            id="timm's border",
        ),
        pytest.param(
            compose(ratio((213, 284), 0.0), cut(192, 256), step("MaybeToTensor"), NORMALIZE),
            InputSpec(192, 256, MEAN, STD, resize="shortest", resize_to=(213, 284), interpolation="bicubic"),
            id="timm's centre of a rectangle",
        ),
        pytest.param(
            compose(
                resize((28, 28)), step("ToTensor", "timm.data.transforms"), step("Normalize", mean=[51.0], std=[102.0])
            ),
            InputSpec(28, 28, (0.2,) * 3, (0.4,) * 3, resize="squash", resize_to=(28, 28)),
            id="normalised from 0 to 255",
        ),
        pytest.param(
            compose(
                step("Grayscale", num_output_channels=1),
                resize((28, 28)),
                TENSOR,
                step("Normalize", mean=[0.1], std=[0.3]),
            ),
            InputSpec(28, 28, (0.1,) * 3, (0.3,) * 3, resize="squash", resize_to=(28, 28), channels="grey"),
            id="grey",
        ),
    ],
)
def test_what_a_transform_is_called_here(transform: Any, expected: InputSpec) -> None:
    assert spec_of(transform) == dataclasses.replace(expected, colour="ignore")


def test_a_preset_of_weights() -> None:
    preset = type("ImageClassification", (), {})()
    vars(preset).update(crop_size=[224], resize_size=[256], mean=list(MEAN), std=list(STD), interpolation="bilinear")
    assert spec_of(preset) == dataclasses.replace(SPEC, colour="ignore")


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (compose(step("RandomResizedCrop", size=224), TENSOR), "RandomResizedCrop is for training"),
        (compose(resize(256), cut(224, 224), step("Lambda"), TENSOR), "Lambda is none of the steps"),
        (compose(resize(256), cut(224, 224), step("ToNumpy")), "use_prefetcher=False"),
        (compose(resize(256), TENSOR, NORMALIZE), r"lacks CenterCrop\(224\)"),
        (compose(cut(224, 224), resize(128), TENSOR), "Resize comes after a Resize or CenterCrop"),
        (compose(resize(256), cut(224, 224), cut(200, 200), TENSOR), "CenterCrop cuts a second time"),
        (compose(resize(256, max_size=400), cut(224, 224), TENSOR), "max_size"),
        (compose(TENSOR, resize(256, antialias=False), cut(224, 224)), "antialias=False"),
        (compose(resize(256), cut(224, 224), IMAGE, NORMALIZE), "Normalize of bytes"),
        (compose(resize(256), cut(224, 224), TENSOR, NORMALIZE, NORMALIZE), "Normalize of normalised"),
        (compose(step("Grayscale", num_output_channels=3), resize((8, 8)), TENSOR), r"Grayscale\(3\)"),
        (compose(ratio((248, 248), 0.5), cut(224, 224), TENSOR), "longest 0.5"),
        (compose(step("Resize", "albumentations", height=8, width=8), TENSOR), "albumentations.Resize has no size"),
        (lambda image: image, "function is none of the steps"),
    ],
)
def test_what_is_refused(transform: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        of_transform(transform)


def test_torchvision_s_own() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    own = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    assert spec_of(transforms.Compose(own)) == dataclasses.replace(SPEC, colour="ignore")


GREY = step("Grayscale", num_output_channels=1)
ONE = step("Normalize", mean=[0.1], std=[0.3])


@pytest.mark.parametrize(
    ("steps", "first"),
    [
        ((GREY, resize((28, 28)), TENSOR, ONE), True),
        ((resize((28, 28)), GREY, TENSOR, ONE), False),
        ((GREY, ratio((28, 28), 1.0), cut(28, 28), TENSOR, ONE), True),
        ((GREY, cut(28, 28), TENSOR, ONE), False),
    ],
)
def test_grey_before_it_is_resized_is_said(steps: tuple[Any, ...], first: bool) -> None:
    assert (GREY_FIRST in of_transform(compose(*steps)).remarks) == first
