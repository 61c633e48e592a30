"""A network, a specification and images small enough for every test."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.manifest import InputSpec

LABELS = ("cat", "dog", "ship")
SPEC = InputSpec(16, 16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
ALPHA = 0.1


def network() -> Any:
    """Convolution, ReLU, pooling, linear; 8 penultimate features; returns logits; the same weights each time."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, len(LABELS))
    ).eval()


def classifier() -> Any:
    """The network as `export` takes it."""
    import torch

    from export.classifier import Classifier, WithPenultimate

    module = WithPenultimate(network(), torch.zeros(2, 3, SPEC.height, SPEC.width))
    return Classifier(module, arch="small", method="none", task="multiclass", labels=LABELS, input=SPEC)


def calibration_images(count: int = 99, seed: int = 1) -> npt.NDArray[np.uint8]:
    """Smooth random images, uint8 [count, 16, 16, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def encode(image: npt.NDArray[np.uint8], format: str = "PNG", **options: Any) -> bytes:
    """A uint8 array as the bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format, **options)
    return buffer.getvalue()
