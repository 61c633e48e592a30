"""Two views of each image, to be told from those of others, as MoCo-v2 makes them for larger ones."""

from __future__ import annotations

import torch
from torch import Tensor

from train.augment.colours import Uniform, grey, jittered, turned, uniform_of
from train.augment.photographs import resized_crops

_SCALE = (0.2, 1.0)
_JITTER, _HUE = 0.4, 0.1


def views(images: Tensor, generator: torch.Generator, *, rotations: bool = False) -> tuple[Tensor, Tensor]:
    """Two random views of each image, as MoCo-v2 makes them but for the blur: resized crops, mirrored, of other colours.

    A crop has 20 to 100 % of the area and a ratio of sides of 3/4 to 4/3; four of five views get another brightness, contrast
    and saturation (0.6 to 1.4 times) and hue (up to a tenth of a turn, in YIQ); one of five becomes grey.

    Args:
        images: uint8 (B, H, W, 3).
        generator: of everything random, on the CPU.
        rotations: whether each image is turned by a random multiple of 90 degrees before, the same in both views; square
            images alone.

    Returns:
        float32 (B, H, W, 3) twice, in [0, 255].
    """
    x = images.permute(0, 3, 1, 2).float()
    if rotations:
        turns = torch.randint(0, 4, (len(x),), generator=generator).tolist()
        x = torch.stack([image.rot90(turn, (1, 2)) for image, turn in zip(x, turns, strict=True)])
    first, second = (_view(x, generator).permute(0, 2, 3, 1) for _ in range(2))
    return first, second


def _view(x: Tensor, generator: torch.Generator) -> Tensor:
    uniform = uniform_of(generator, len(x), x.device)
    return _coloured(resized_crops(x, uniform, _SCALE), uniform)


def _coloured(x: Tensor, uniform: Uniform) -> Tensor:
    changed = turned(jittered(x, uniform, _JITTER), uniform(-_HUE, _HUE)).clamp(0, 255)
    x = torch.where((uniform(0, 1) < 0.8)[:, None, None, None], changed, x)
    return torch.where((uniform(0, 1) < 0.2)[:, None, None, None], grey(x).expand_as(x), x)
