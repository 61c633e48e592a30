"""The learning rate over a run."""

from __future__ import annotations

import math

from train.config import Config


def learning_rate(epoch: float, config: Config) -> float:
    """The rate at a fractional epoch: a linear warm-up, times half a cosine or a tenth after each milestone."""
    progress = epoch / config.epochs
    if config.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * progress))
    else:
        factor = 0.1 ** sum(progress >= milestone for milestone in config.milestones)
    warmup = min(1.0, epoch / config.warmup) if config.warmup else 1.0
    return config.learning_rate * factor * warmup
