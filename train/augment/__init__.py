"""What becomes of training images before a step, in torch, of whole batches, on their device.

An augmentation is a name of :data:`GEOMETRY`, of :data:`MIXING`, or one of each joined by "+": ``photographs+trivial``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from train.augment.crops import Crops
from train.augment.cutout import cutout
from train.augment.photographs import cropped_and_jittered
from train.augment.pixmix import mixed_with_pictures
from train.augment.trivial import trivial_augment
from train.augment.views import views
from train.exceptions import TrainingError

__all__ = ["CHOICES", "DEFAULT", "GEOMETRY", "MIXING", "Augmentation", "Crops", "parse", "views"]

Change = Callable[[Tensor, torch.Generator], Tensor]

DEFAULT = "crop-flip"
GEOMETRY: dict[str, Change | None] = {DEFAULT: None, "photographs": cropped_and_jittered, "none": None}
MIXING: dict[str, Change] = {"cutout": cutout, "trivial": trivial_augment, "pixmix": mixed_with_pictures}
CHOICES = (
    "crop-flip: a crop of the padded image, half of them mirrored, for small images; photographs: random resized crop, "
    "mirrored, colour jitter; none; cutout: crop-flip, then a square hidden; trivial: crop-flip, then TrivialAugment Wide; "
    "pixmix: crop-flip, then PixMix with pictures drawn for it; photographs+trivial and so on"
)


@dataclass(frozen=True)
class Augmentation:
    """What is done to a batch, in order.

    Attributes:
        crops: whether each image is cut out of its padded self, and half of them mirrored.
        changes: of (B, 3, H, W) in [0, 255].
    """

    crops: bool
    changes: tuple[Change, ...]

    def apply(self, images: Tensor, crops: Crops, seed: int) -> Tensor:
        """uint8 (B, H, W, 3) -> the same shape, uint8 or, changed, float32 in [0, 255].

        Args:
            images: on any device.
            crops: that the images would be cut by.
            seed: of everything else that is random.
        """
        images = crops.apply(images) if self.crops else images
        if not self.changes:
            return images
        generator = torch.Generator().manual_seed(seed)
        x = images.permute(0, 3, 1, 2).float()
        for change in self.changes:
            x = change(x, generator)
        return x.permute(0, 2, 3, 1)


def parse(name: str) -> Augmentation:
    """An augmentation by its name.

    Raises:
        TrainingError: none has that name; the message lists them.
    """
    parts = name.split("+")
    geometry = parts.pop(0) if parts[0] in GEOMETRY else DEFAULT
    if len(parts) > 1 or not set(parts) <= MIXING.keys():
        raise TrainingError(
            f"--augment {name}: expected {', '.join(GEOMETRY)}, {', '.join(MIXING)}, or two of these joined by +, such as "
            "photographs+trivial"
        )
    change = GEOMETRY[geometry]
    return Augmentation(geometry == DEFAULT, (*([change] if change else []), *(MIXING[part] for part in parts)))
