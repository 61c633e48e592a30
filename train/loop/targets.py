"""What labels a step's images learn: as they are, smoothed, or mixed with those of others."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Labels as probabilities (Szegedy et al. 2016, arXiv:1512.00567, section 7).

        (1 - e) y + e / K,  for several labels an image  (1 - e) y + e / 2

    Args:
        labels: int64 (B,), or multi-hot (B, K).
        classes: K.
        smoothing: e, from 0 to 1.

    Returns:
        float32 (B, K).
    """
    if labels.ndim == 2:
        return labels.float() * (1 - smoothing) + smoothing / 2
    return F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes


def mixed(images: Tensor, targets: Tensor, alpha: float, seed: int) -> tuple[Tensor, Tensor]:
    """Each image and its targets with those of another (mixup, Zhang et al. 2018, arXiv:1710.09412).

        m x_i + (1 - m) x_j,  m y_i + (1 - m) y_j,  m ~ Beta(alpha, alpha)

    One m for the batch, and the larger of m and 1 - m, which is the same for a random j, and leaves x_i the larger part.

    Args:
        images: (B, 3, H, W).
        targets: (B, K).
        alpha: above 0.
        seed: of m and of the order of the others.
    """
    rng = np.random.default_rng(seed)
    drawn = float(rng.beta(alpha, alpha))
    share = max(drawn, 1 - drawn)
    order = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    return images.lerp(images[order], 1 - share), targets.lerp(targets[order], 1 - share)
