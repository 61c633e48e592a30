"""Transforms of other libraries, each with the manifest's rule for it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from PIL import Image
from timm.data import create_transform
from torchvision import transforms
from torchvision.transforms import v2

from runtime.manifest import InputSpec

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Recipe:
    """A transform of another library, and the manifest's rule for it.

    Attributes:
        name: as its library says it.
        theirs: RGB image -> uint8 [H, W, 3].
        ours: fields of the :class:`InputSpec`; mean and std do not matter.
    """

    name: str
    theirs: Callable[[Image.Image], Pixels]
    ours: InputSpec


def spec(side: int | tuple[int, int], **options: Any) -> InputSpec:
    height, width = side if isinstance(side, tuple) else (side, side)
    return InputSpec(height, width, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), **options)


def torchvision_recipes() -> Iterator[Recipe]:
    for name, library, first in [("v1", transforms, []), ("v2", v2, []), ("v2 of tensors", v2, [v2.ToImage()])]:
        for said, steps, ours in _torchvision_steps(library, exact="-exact" if first else ""):
            composed = library.Compose([*first, *steps])
            ours = dataclasses.replace(ours, resampler="torch" if first else "pillow")
            yield Recipe(f"torchvision {name}: {said}", lambda image, composed=composed: _array(composed(image)), ours)


def _torchvision_steps(library: Any, exact: str) -> Iterator[tuple[str, list[Any], InputSpec]]:
    cut = library.CenterCrop(224)
    for filter_ in ("nearest", "bilinear", "bicubic", "lanczos"):
        mode = transforms.InterpolationMode(filter_ + exact if filter_ == "nearest" else filter_)
        ours = spec(224, resize="shortest", resize_to=256, interpolation=filter_)
        yield f"Resize(256, {mode.value}), CenterCrop(224)", [library.Resize(256, mode), cut], ours
    ours = spec((192, 224), resize="shortest", resize_to=232)
    steps = [library.Resize(232), library.CenterCrop((192, 224))]
    yield "Resize(232), CenterCrop((192, 224))", steps, ours
    yield "Resize((224, 192))", [library.Resize((224, 192))], spec((224, 192), resize="squash")
    ours = spec(224, resize="squash", resize_to=(236, 256))
    yield "Resize((236, 256)), CenterCrop(224)", [library.Resize((236, 256)), cut], ours
    ours = spec(224, resize="shortest", resize_to=200)
    yield "Resize(200), CenterCrop(224), padded", [library.Resize(200), cut], ours
    yield "CenterCrop(224)", [cut], spec(224, resize="none")


def _array(image: Image.Image | torch.Tensor) -> Pixels:
    return image.numpy().transpose(1, 2, 0) if isinstance(image, torch.Tensor) else np.asarray(image)


def timm_recipes() -> Iterator[Recipe]:
    for mode, fraction, size, filter_ in [
        ("center", 0.875, (224, 224), "bilinear"),
        ("center", 0.95, (224, 224), "bicubic"),
        ("center", 0.9, (240, 240), "bicubic"),
        ("center", 1.0, (224, 224), "bicubic"),
        ("center", 0.9, (192, 256), "bicubic"),
        ("squash", 1.0, (384, 384), "bicubic"),
        ("squash", 0.95, (224, 224), "bicubic"),
        ("border", 1.0, (224, 224), "bicubic"),
        ("border", 0.9, (224, 224), "bilinear"),
        ("border", 0.9, (192, 256), "bicubic"),
    ]:
        mean = (0.485, 0.456, 0.406)
        transform = create_transform(
            (3, *size), interpolation=filter_, crop_pct=fraction, crop_mode=mode, mean=mean, normalize=False
        )
        to = tuple(math.floor(side / fraction) for side in size)
        square = mode == "center" and to[0] == to[1]
        ours = spec(
            size,
            resize="shortest" if mode == "center" else mode,
            resize_to=to[0] if square else to,
            interpolation=filter_,
            fill=tuple(round(255 * value) for value in mean) if mode == "border" else None,
        )
        name = f"timm: {mode}, crop_pct {fraction:g} of {size[0]}x{size[1]}, {filter_}"
        yield Recipe(name, lambda image, transform=transform: _array(transform(image)), ours)


def transformers_recipes() -> Iterator[Recipe]:
    """Each processor twice: it resizes by torchvision where that is installed, or else by Pillow."""
    cases: list[tuple[str, dict[str, object], InputSpec]] = [
        ("ViT", {}, spec(224, resize="squash")),
        ("DeiT", {}, spec(224, resize="squash", resize_to=(256, 256), interpolation="bicubic", corner="floor")),
        ("Beit", {}, spec(224, resize="squash", interpolation="bicubic")),
        ("Bit", {}, spec(224, resize="shortest", resize_to=224, interpolation="bicubic", corner="floor")),
        (
            "Bit",
            {"size": {"shortest_edge": 256}},
            spec(224, resize="shortest", resize_to=256, interpolation="bicubic", corner="floor"),
        ),
        ("CLIP", {}, spec(224, resize="shortest", resize_to=224, interpolation="bicubic", corner="floor")),
        (
            "ConvNext",
            {"size": {"shortest_edge": 224}},
            spec(224, resize="shortest", resize_to=256, interpolation="bicubic", corner="floor"),
        ),
        ("ConvNext", {"size": {"shortest_edge": 384}}, spec(384, resize="squash", interpolation="bicubic")),
        ("Levit", {}, spec(224, resize="shortest", resize_to=256, interpolation="bicubic", corner="floor")),
        ("MobileNetV1", {}, spec(224, resize="shortest", resize_to=256, corner="floor")),
        ("MobileNetV2", {}, spec(224, resize="shortest", resize_to=256, corner="floor")),
        ("PoolFormer", {}, spec(224, resize="shortest", resize_to=248, interpolation="bicubic", corner="floor")),
        ("EfficientNet", {"resample": 0, "include_top": False}, spec(346, resize="squash", interpolation="nearest")),
        ("EfficientNet", {"include_top": False}, spec(346, resize="squash", interpolation="bicubic")),
        ("Siglip", {}, spec(224, resize="squash", interpolation="bicubic")),
        ("Segformer", {}, spec(512, resize="squash")),
    ]
    for family, options, ours in cases:
        for backend in ("Pillow", "torchvision"):
            kind = getattr(transformers, f"{family}ImageProcessor{'Pil' if backend == 'Pillow' else ''}")
            processor = kind(do_rescale=False, do_normalize=False, **options)
            said = ", ".join(f"{key} {value}" for key, value in options.items())
            name = f"transformers: {family} by {backend}{f', {said}' if said else ''}"
            ours = dataclasses.replace(ours, resampler="pillow" if backend == "Pillow" else "torch")
            yield Recipe(name, _processed(processor), ours)


def _processed(processor: Any) -> Callable[[Image.Image], Pixels]:
    def theirs(image: Image.Image) -> Pixels:
        values = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
        return values.transpose(1, 2, 0).astype(np.uint8)

    return theirs
