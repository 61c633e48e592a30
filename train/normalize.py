"""Normalisation: the first layer of every network here and in the exported graph, and the statistics it takes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from runtime.manifest import InputSpec
from train.data import Images, prefetch

Triple = tuple[float, float, float]

_SAMPLE, _BATCH = 10_000, 256


class Normalize(nn.Module):
    """``(x / 255 - mean) / std`` as one multiplication and one addition, NHWC to NCHW by a view."""

    scale: Tensor
    shift: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        mean = torch.tensor(spec.mean, dtype=torch.float64)
        std = torch.tensor(spec.std, dtype=torch.float64)
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) -> float32 (B, 3, H, W), channels-last in memory."""
        return (images.float() * self.scale + self.shift).permute(0, 3, 1, 2)


def channel_statistics(images: Images) -> tuple[Triple, Triple]:
    """Mean and standard deviation of each RGB channel, of pixels scaled to [0, 1], from uint8 [N, H, W, 3].

    Of images that are decoded as they are used, 10,000 evenly apart count: all of them would take as long as an epoch.
    """
    count = len(images) if isinstance(images, np.ndarray) else min(len(images), _SAMPLE)
    chosen = np.linspace(0, len(images) - 1, count).round().astype(np.intp)
    histograms = np.zeros((3, 256), dtype=np.int64)
    for batch in prefetch(images[chosen[start : start + _BATCH]] for start in range(0, count, _BATCH)):
        for channel in range(3):
            histograms[channel] += np.bincount(batch[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    means, deviations = [], []
    for counts in histograms:
        means.append(float((counts * values).sum() / counts.sum()))
        deviations.append(math.sqrt((counts * (values - means[-1]) ** 2).sum() / counts.sum()))
    return (means[0], means[1], means[2]), (deviations[0], deviations[1], deviations[2])
