"""PixMix (Hendrycks et al. 2022, arXiv:2112.05135) with pictures drawn for it: noise with the spectrum of fractals.

The paper mixes images with fractals and feature visualisations, which are files of hundreds of megabytes; noise whose
amplitude falls with the frequency has structure of every size too, and costs two Fourier transforms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from train.augment.trivial import trivial_augment

_ROUNDS = 4  # at most: k, in the authors' code
_BETA = 3.0
_MILD = 0.3  # of TrivialAugment's widest magnitudes, about the authors' severity 3 of 10
_FALL = (1.0, 2.0)  # by which power of the frequency the amplitude falls


def mixed_with_pictures(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mixed up to four times with a picture or with itself, by a sum or a product (the paper's figure 4).

    Args:
        x: (B, 3, H, W) in [0, 255].
        generator: of everything random, on the CPU.
    """
    pictured = pictures(x, generator)
    mixed = _changed(x, x, generator) / 255
    rounds = torch.randint(0, _ROUNDS + 1, (len(x),), generator=generator)
    for number in range(_ROUNDS):
        which = (number < rounds).nonzero().flatten().to(x.device)
        other = _changed(255 * pictured[which], x[which], generator) / 255
        a, b = (weight.to(x.device)[:, None, None, None] for weight in _weights(len(which), generator))
        before, by_sum = mixed[which], _halves(len(which), generator).to(x.device)
        result = multiplied(before, other, a, b)
        result[by_sum] = added(before[by_sum], other[by_sum], a[by_sum], b[by_sum])
        mixed[which] = result.clamp(0, 1)
    return 255 * mixed


def _changed(plain: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    """Half of `plain`, and of the other half x with an operation of TrivialAugment's."""
    result, which = plain.clone(), _halves(len(x), generator).nonzero().flatten().to(x.device)
    result[which] = trivial_augment(x[which], generator, _MILD)
    return result


def _halves(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) < 0.5


def added(first: Tensor, second: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a (2 x - 1) + b (2 y - 1), back in [0, 1] before it is clipped."""
    return (a * (2 * first - 1) + b * (2 * second - 1) + 1) / 2


def multiplied(first: Tensor, second: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """(2 x)^a (2 y)^b / 2."""
    return (2 * first) ** a * (2 * second).clamp(min=1e-4) ** b / 2


def pictures(x: Tensor, generator: torch.Generator) -> Tensor:
    """Noise like x whose amplitude falls with the frequency, each channel stretched from 0 to 1."""
    count, channels, height, width = x.shape
    noise = torch.randn(count, channels, height, width, generator=generator).to(x.device)
    fall = (_FALL[0] + (_FALL[1] - _FALL[0]) * torch.rand(count, generator=generator)).to(x.device)
    rows, columns = torch.fft.fftfreq(height, device=x.device), torch.fft.rfftfreq(width, device=x.device)
    frequency = (rows[:, None].square() + columns.square()).sqrt().clamp(min=1 / max(height, width))
    drawn: Tensor = torch.fft.irfft2(
        torch.fft.rfft2(noise) * frequency ** -fall[:, None, None, None], s=(height, width)
    )
    low, high = drawn.amin((2, 3), keepdim=True), drawn.amax((2, 3), keepdim=True)
    return (drawn - low) / (high - low).clamp(min=1e-6)


def _weights(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """a and b of each image: Beta(3, 1) and Beta(1, 3); or 1 + Beta(1, 3) and -Beta(1, 3)."""
    large = torch.rand(count, generator=generator) ** (1 / _BETA)  # Beta(3, 1), by its inverse
    small = 1 - torch.rand(2, count, generator=generator) ** (1 / _BETA)  # Beta(1, 3)
    inside = torch.rand(count, generator=generator) < 0.5
    return torch.where(inside, large, 1 + small[0]), torch.where(inside, small[1], -small[1])
