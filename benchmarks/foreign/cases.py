"""What a case is: a classifier as its owner has it, and its library's own transform and network to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

Logits = Callable[[Path], npt.NDArray[np.float32]]

_OCTAVES = ((64, 1.0), (16, 0.7), (4, 0.3), (1, 0.1))  # pixels, and how strong


@dataclass(frozen=True)
class Case:
    """Options of the export for files that are there now, and what the library itself answers to an image file."""

    options: list[str]
    logits: Logits


Maker = Callable[[Path], Case]


def registry() -> tuple[dict[str, Maker], Callable[[str], Callable[[Maker], Maker]]]:
    """Cases by name, and the decorator that adds one."""
    cases: dict[str, Maker] = {}

    def case(name: str) -> Callable[[Maker], Maker]:
        def register(maker: Maker) -> Maker:
            cases[name] = maker
            return maker

        return register

    return cases, case


def spread(module: nn.Module, side: int = 128) -> nn.Module:
    """Random weights whose logits differ between images.

    Batch normalisation gets the statistics of images as coarse and as different from each other as photographs are: of
    noise's, a deep network magnifies what it sees of a photograph, and its own rounding, a thousand times.
    """
    torch.manual_seed(0)
    with torch.no_grad():
        norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        for layer in norms:
            layer.momentum = None  # the mean of all batches, however slow a network's own is
            layer.weight.fill_(1)  # some begin near 0, from where only training leads
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.3)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        if norms:
            module.train()
            for _ in range(3):
                module(_like_photographs(side))
    return module.eval()


def _like_photographs(side: int, count: int = 16) -> torch.Tensor:
    """Normalised images (N, 3, side, side), most of whose contrast is coarse, each of its own contrast and colour."""
    images = torch.zeros(count, 3, side, side)
    for pixels, strength in _OCTAVES:
        coarse = torch.randn(count, 3, max(1, side // pixels), max(1, side // pixels))
        images += strength * nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return images * (0.3 + 2 * torch.rand(count, 1, 1, 1)) + 0.5 * torch.randn(count, 3, 1, 1)


def by(transform: Callable[[Image.Image], torch.Tensor], module: Callable[[torch.Tensor], Any]) -> Logits:
    """What a transform and a network make of an image file."""

    def logits(path: Path) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            output = module(transform(Image.open(path).convert("RGB"))[None])
        found: npt.NDArray[np.float32] = getattr(output, "logits", output).float().numpy()[0]
        return found

    return logits


def names(folder: Path, count: int) -> list[str]:
    """The option of a file of labels."""
    path = folder / "names.txt"
    path.write_text("".join(f"class {i}\n" for i in range(count)))
    return ["--labels", str(path)]
