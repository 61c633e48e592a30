"""What the files of a transformers directory say: ``config.json`` and ``preprocessor_config.json``, as dictionaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from runtime.manifest import Resampler, Task
from train.descriptions.description import Description, named
from train.descriptions.interpolations import interpolation
from train.exceptions import ModelError

Json = Mapping[str, Any]

# Steps whose meaning is known here, or that do nothing to the pixels of an RGB image.
_KNOWN = frozenset(
    {
        *("do_resize", "size", "resample", "default_to_square", "antialias", "use_square_size", "crop_pct"),
        *("do_center_crop", "crop_size", "do_flip_channel_order", "do_convert_rgb", "num_channels"),
        *("do_rescale", "rescale_factor", "rescale_offset", "do_normalize", "image_mean", "image_std", "include_top"),
        *("do_reduce_labels", "reduce_labels", "return_tensors", "device", "disable_grouping"),
        *("image_processor_type", "feature_extractor_type", "processor_class", "auto_map"),
        *("data_format", "input_data_format", "pad_size"),
    }
)
_SHORT_SIDE = ("CLIP", "Bit", "Levit", "MobileNet", "MobileViT", "PoolFormer", "ConvNext")
_FROM_BELOW = 384  # ConvNext's processor crops below, and stretches from here
_TASKS: dict[str | None, Task] = {
    None: "multiclass",
    "single_label_classification": "multiclass",
    "multi_label_classification": "multilabel",
}


def of_config(config: Json) -> Description:
    """Labels and task.

    Raises:
        ModelError: no classification.
    """
    problem = config.get("problem_type")
    if problem not in _TASKS:
        raise ModelError(f"config.json: problem_type {problem!r} is no classification")
    known = config.get("id2label") or {}
    names = {int(index): str(label) for index, label in known.items()}
    if sorted(names) != list(range(len(names))):
        raise ModelError(f"config.json: id2label has gaps: {len(names)} labels up to the index {max(names)}")
    if not names:
        return Description(task=_TASKS[problem])
    labels = named([names[index] for index in range(len(names))], "config.json")
    if all(label == f"LABEL_{index}" for index, label in names.items()):
        unnamed = "config.json has no names of classes: they are LABEL_0 and so on, --labels FILE names them"
        labels = replace(labels, naming=(unnamed,))
    return Description(task=_TASKS[problem]).over(labels)


def of_processor(processor: Json, resampler: Resampler = "torch") -> Description:
    """The input, from the settings of an image processor.

    Args:
        processor: the settings.
        resampler: ``torch`` where it resizes by torchvision, as it does wherever that is installed, or ``pillow``.

    Raises:
        ModelError: a step that no bundle takes, or a size that depends on the image.
    """
    kind = _kind(processor)
    unknown = {name for name, value in processor.items() if name not in _KNOWN and not name.startswith("_") and value}
    if unknown or kind.startswith(("Perceiver", "ImageGPT", "Siglip2")):
        what = ", ".join(sorted(unknown)) or f"the steps of {kind}"
        raise ModelError(f"preprocessor_config.json: {what} can't be expressed in a bundle")
    mean, std = _normalisation(processor, kind)
    description = _resizing(processor, kind)
    return Description(
        corner="floor",
        resampler=resampler,
        interpolation=interpolation(processor.get("resample", 2)),
        mean=mean,
        std=std,
        channels="bgr" if processor.get("do_flip_channel_order") else None,
        colour="ignore",
        remarks=(f"size, resizing and normalisation from preprocessor_config.json ({kind or 'no type'})",),
    ).over(description)


def _kind(processor: Json) -> str:
    name = str(processor.get("image_processor_type") or processor.get("feature_extractor_type") or "")
    return name.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")


def _resizing(processor: Json, kind: str) -> Description:
    """Size and rule, without the corner."""
    crop = _pair(processor.get("crop_size")) if processor.get("do_center_crop") else None
    if not processor.get("do_resize", True):
        if crop is None:
            raise ModelError("preprocessor_config.json: images are neither resized nor cropped: the size is unknown")
        return Description(size=crop, resize="none")
    size = processor.get("size")
    short = _short_side(size, kind)
    if short is None:
        stretched = _pair(size)
        if kind.startswith("PoolFormer") and processor.get("crop_pct"):
            short = stretched[0]
        else:
            return Description(size=crop or stretched, resize="squash", resize_to=stretched)
    return _by_short_side(short, crop, processor, kind)


def _by_short_side(short: int, crop: tuple[int, int] | None, processor: Json, kind: str) -> Description:
    if kind.startswith("ConvNext"):
        size = (short, short)
        if short >= _FROM_BELOW:
            return Description(size=crop or size, resize="squash", resize_to=size)
        crop, short = crop or size, int(short / (processor.get("crop_pct") or 224 / 256))
    elif kind.startswith("PoolFormer") and processor.get("crop_pct"):
        short = int(short / processor["crop_pct"])
    elif kind.startswith("Levit"):
        short = int((256 / 224) * short)
    if crop is None:
        raise ModelError("preprocessor_config.json: the short side is resized and nothing cut: no size for all images")
    return Description(size=crop, resize="shortest", resize_to=short)


def _short_side(size: object, kind: str) -> int | None:
    if isinstance(size, int):
        return size if kind.startswith(_SHORT_SIDE) else None
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return int(size["shortest_edge"])
    return None


def _pair(size: object) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        return int(size["height"]), int(size["width"])
    if isinstance(size, Sequence) and len(size) == 2 and not isinstance(size, str):
        return int(size[1]), int(size[0])  # width and height, as the first releases wrote it
    raise ModelError(f"preprocessor_config.json: a size of {size!r} can't be expressed in a bundle")


def _normalisation(processor: Json, kind: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of pixels in [0, 1] that do what rescaling and normalising do, each an affine map of the pixel."""
    scale, shift = (
        (float(processor.get("rescale_factor") or 1 / 255), 0.0) if processor.get("do_rescale", True) else (1.0, 0.0)
    )
    if processor.get("rescale_offset"):
        shift = -1.0
    if not processor.get("do_normalize", not kind.startswith("MobileViT")):
        return _as_statistics((scale,) * 3, (shift,) * 3)
    mean, std = (_three(processor.get(name), name) for name in ("image_mean", "image_std"))
    extra = std if kind.startswith("EfficientNet") and processor.get("include_top") else (1.0,) * len(std)
    scales = [scale / s / e for s, e in zip(std, extra, strict=True)]
    shifts = [(shift - m) / s / e for m, s, e in zip(mean, std, extra, strict=True)]
    return _as_statistics(scales, shifts)


def _as_statistics(scales: Sequence[float], shifts: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """``scale * x + shift`` as ``(x / 255 - mean) / std``."""
    std = tuple(_rounded(1 / (255 * scale)) for scale in scales)
    return tuple(_rounded(-shift * s) for shift, s in zip(shifts, std, strict=True)), std


def _rounded(value: float) -> float:
    """Without the last digits, which are of the arithmetic: 0.485 and not 0.48499999999999993."""
    near = round(value, 9)
    return near if math.isclose(value, near, rel_tol=1e-8) else value


def _three(values: object, name: str) -> tuple[float, ...]:
    if isinstance(values, int | float):
        return (float(values),) * 3
    if isinstance(values, Sequence) and values:
        return tuple(map(float, values))
    raise ModelError(f"preprocessor_config.json: normalises without {name}")
