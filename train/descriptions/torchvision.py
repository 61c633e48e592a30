"""What torchvision's weights say of themselves: the preset of their transforms and their meta, as dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from train.descriptions.description import Description, named
from train.descriptions.interpolations import interpolation
from train.exceptions import ModelError

# torchvision's references/classification normalise so, whatever they train.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def of_preset(preset: Mapping[str, Any]) -> Description:
    """The input, from the attributes of ``torchvision.transforms._presets.ImageClassification``.

    Raises:
        ModelError: another preset, such as a detector's.
    """
    if missing := sorted({"crop_size", "resize_size", "mean", "std"} - preset.keys()):
        raise ModelError(
            f"torchvision's transforms of these weights have no {missing[0]}: not of a classifier of images"
        )
    crop, resize = _sides(preset["crop_size"]), _sides(preset["resize_size"])
    size = (crop[0], crop[-1])
    rule = Description(resize="shortest", resize_to=resize[0])
    if len(resize) == 2:
        rule = Description(resize="squash", resize_to=(resize[0], resize[1]))
    return Description(
        size=size,
        mean=tuple(map(float, preset["mean"])),
        std=tuple(map(float, preset["std"])),
        interpolation=interpolation(preset.get("interpolation", "bilinear")),
        colour="ignore",
        remarks=(f"input from torchvision: resized to {resize[0]}, of which {size[0]} x {size[1]}",),
    ).over(rule)


def of_meta(meta: Mapping[str, Any]) -> Description:
    """The labels, from the weights' meta."""
    labels = named(list(map(str, meta["categories"])), "torchvision's weights")
    return Description(task="multiclass").over(labels)


def of_reference_arguments(arguments: Mapping[str, Any]) -> Description:
    """The input, from the arguments that torchvision's references/classification/train.py puts into its checkpoints."""
    if "val_crop_size" not in arguments:
        return Description()
    return of_preset(
        {
            "crop_size": arguments["val_crop_size"],
            "resize_size": arguments["val_resize_size"],
            "interpolation": arguments.get("interpolation", "bilinear"),
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
        }
    )


def _sides(size: int | Sequence[int]) -> list[int]:
    return [size] if isinstance(size, int) else list(map(int, size))
