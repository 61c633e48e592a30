"""TrivialAugment, Wide (Müller & Hutter 2021, arXiv:2103.10158): one operation an image, of one strength, both uniform."""

from __future__ import annotations

import torch
from torch import Tensor

from train.augment import operations
from train.augment.operations import Operation

_BINS = 31
# The largest magnitude of each operation, and whether it has a sign: the paper's table 7, "Wide".
_WIDE: tuple[tuple[Operation, float, bool], ...] = (
    (operations.unchanged, 0.0, False),
    (operations.sheared_x, 0.99, True),
    (operations.sheared_y, 0.99, True),
    (operations.translated_x, 32.0, True),
    (operations.translated_y, 32.0, True),
    (operations.rotated, 135.0, True),
    (operations.BRIGHTNESS, 0.99, True),
    (operations.COLOUR, 0.99, True),
    (operations.CONTRAST, 0.99, True),
    (operations.SHARPNESS, 0.99, True),
    (lambda x, by: operations.posterized(x, 8 - (6 * by).round()), 1.0, False),
    (lambda x, by: operations.solarized(x, 256 - by), 256.0, False),
    (operations.autocontrasted, 0.0, False),
    (operations.equalized, 0.0, False),
)


def trivial_augment(x: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Each image with one of fourteen operations, of a strength that is one of 31 from nothing to the widest.

    Args:
        x: (B, 3, H, W) in [0, 255].
        generator: of everything random, on the CPU.
        strength: of the widest.
    """
    chosen = torch.randint(0, len(_WIDE), (len(x),), generator=generator)
    level = torch.randint(0, _BINS, (len(x),), generator=generator) / (_BINS - 1) * strength
    sign = torch.where(torch.rand(len(x), generator=generator) < 0.5, -1.0, 1.0)
    widest = torch.tensor([most for _, most, _ in _WIDE])[chosen]
    signed = torch.tensor([has_sign for *_, has_sign in _WIDE])[chosen]
    magnitudes = level * widest * torch.where(signed, sign, 1.0)
    return operations.apply([operation for operation, *_ in _WIDE], x, chosen, magnitudes)
