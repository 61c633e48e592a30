"""What the transform of an evaluation says: torchvision's, v1 and v2, and timm's, known by the names of their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from runtime.manifest import Resampler
from train.descriptions.description import GREY_FIRST, Description
from train.descriptions.interpolations import interpolation
from train.descriptions.torchvision import of_preset
from train.exceptions import ModelError

# What images are between two steps: PIL's, tensors of bytes, or of floats in [0, 1], in [0, 255], or normalised.
_Form = Literal["image", "bytes", "unit", "raw", "normalised"]

_NOTHING = frozenset({"RGB", "Identity", "ToPureTensor"})  # to an RGB image
_TRAINING = ("Random", "RandAugment", "AutoAugment", "AugMix", "TrivialAugment", "ColorJitter", "MixUp", "CutMix")


@dataclass(frozen=True)
class _Read:
    """The steps so far."""

    form: _Form = "image"
    description: Description = Description()  # noqa: RUF009  frozen
    crop: tuple[int, int] | None = None


def of_transform(transform: Any) -> Description:
    """The input, from torchvision's Compose, Sequential or preset of weights, or from timm's create_transform.

    Raises:
        ModelError: a step that is unknown, is one of training, or can't be expressed in a bundle.
    """
    steps = list(_steps(transform))
    if [_name(step) for step in steps] == ["ImageClassification"]:
        return of_preset(vars(steps[0]))
    read = _Read()
    for step in steps:
        read = _after(read, step)
    return _whole(read)


def _steps(transform: Any) -> Iterator[Any]:
    """Single steps, those of nested sequences included."""
    parts = getattr(transform, "transforms", transform if _name(transform) in ("Sequential", "list", "tuple") else None)
    if isinstance(parts, Iterable):
        for part in parts:
            yield from _steps(part)
    else:
        yield transform


def _after(read: _Read, step: Any) -> _Read:
    name = _name(step)
    if name in _NOTHING:
        return read
    if name.startswith(_TRAINING):
        raise ModelError(f"transform: {name} is for training: give the transform of the evaluation")
    if name not in _READERS:
        raise ModelError(
            f"transform: {name} is none of the steps that a bundle can take over: {', '.join(_READERS)}; describe the "
            "input by input=InputSpec(...)"
        )
    return _READERS[name](read, step)


def _whole(read: _Read) -> Description:
    found = read.description
    if read.form in ("image", "bytes"):
        raise ModelError(
            "transform: it ends with pixels of 0 to 255, so scaling and normalisation are elsewhere: give a transform with "
            "ToTensor and Normalize (timm: create_transform(..., use_prefetcher=False)), or input=InputSpec(...)"
        )
    stretched = found.resize_to if found.resize == "squash" and isinstance(found.resize_to, tuple) else None
    size = read.crop or stretched
    if size is None:
        raise ModelError(
            "transform: images keep their aspect ratio and nothing is cut, so they differ in size: it lacks "
            "CenterCrop(224), or Resize((224, 224)) is meant"
        )
    if found.mean is None:
        found = replace(found, mean=(0.0,), std=(1.0 if read.form == "unit" else 1 / 255,))
    resized = found if found.resize else replace(found, resize="none")
    return replace(
        resized,
        size=size,
        colour="ignore",
        remarks=("size, resizing and normalisation from the transform", *found.remarks),
    )


def _resize(read: _Read, step: Any) -> _Read:
    size = _sides(_of(step, "size"))
    if getattr(step, "max_size", None):
        raise ModelError("transform: Resize with max_size depends on the image: no bundle takes it")
    if read.form != "image" and getattr(step, "antialias", True) is False:
        raise ModelError("transform: Resize of tensors with antialias=False is no filter that a bundle has")
    if len(size) == 2:
        return _resized(read, step, Description(resize="squash", resize_to=(size[0], size[1])))
    return _resized(read, step, Description(resize="shortest", resize_to=size[0]))


def _keeping_ratio(read: _Read, step: Any) -> _Read:
    """timm's, which covers a rectangle, or fits into it."""
    height, width = _sides(_of(step, "size"))
    longest = _of(step, "longest")
    if longest not in (0, 1) or any(getattr(step, f"random_{what}_prob", 0) for what in ("scale", "aspect")):
        raise ModelError(
            f"transform: {_name(step)} with longest {longest:g} or at random is for training: give the transform of the "
            "evaluation"
        )
    if longest:
        return _resized(read, step, Description(resize="border", resize_to=(height, width)))
    to = height if height == width else (height, width)
    return _resized(read, step, Description(resize="shortest", resize_to=to))


def _resized(read: _Read, step: Any, rule: Description) -> _Read:
    if read.description.resize or read.crop:
        raise ModelError(
            f"transform: {_name(step)} comes after a Resize or CenterCrop: a bundle resizes once, then cuts"
        )
    if read.description.channels == "grey":
        rule = replace(rule, remarks=(GREY_FIRST,))
    filter_ = interpolation(_of(step, "interpolation"))
    resampler: Resampler = "pillow" if read.form == "image" else "torch"
    return replace(read, description=replace(rule, interpolation=filter_, resampler=resampler).over(read.description))


def _cropped(read: _Read, step: Any) -> _Read:
    if read.crop:
        raise ModelError(f"transform: {_name(step)} cuts a second time: a bundle cuts once")
    size = _sides(_of(step, "size"))
    return replace(read, crop=(size[0], size[-1]))


def _cropped_or_padded(read: _Read, step: Any) -> _Read:
    """timm's, with a colour around what is smaller."""
    if getattr(step, "padding_mode", "constant") != "constant":
        raise ModelError(f"transform: {_name(step)} pads by {step.padding_mode}: a bundle has a colour around")
    fill = _of(step, "fill")
    values = list(fill) if isinstance(fill, list | tuple) else [fill] * 3
    values = values * 3 if len(values) == 1 else values
    colour = (int(values[0]), int(values[1]), int(values[2]))
    described = replace(read.description, fill=colour, resize=read.description.resize or "none")
    return replace(_cropped(read, step), description=described)


def _to_tensor(read: _Read, step: Any) -> _Read:
    """To floats in [0, 1]; timm's own ToTensor does not scale."""
    scaled = not (_name(step) == "ToTensor" and type(step).__module__.startswith("timm."))
    return replace(read, form="unit" if scaled else "raw") if read.form == "image" else read


def _to_bytes(read: _Read, step: Any) -> _Read:  # noqa: ARG001
    return replace(read, form="bytes") if read.form == "image" else read


def _to_type(read: _Read, step: Any) -> _Read:
    """``ConvertImageDtype`` scales, ``ToDtype`` by its `scale`."""
    kind, scale = str(_of(step, "dtype")), getattr(step, "scale", True)
    if kind == "torch.uint8" and read.form in ("image", "bytes"):
        return read
    if not kind.startswith(("torch.float", "torch.bfloat")) or read.form == "image":
        raise ModelError(f"transform: {_name(step)} to {kind} of {read.form} is none that a bundle can take over")
    return replace(read, form="unit" if scale else "raw") if read.form == "bytes" else read


def _normalised(read: _Read, step: Any) -> _Read:
    if read.form not in ("unit", "raw"):
        raise ModelError(
            f"transform: Normalize of {read.form}: it comes once, after ToTensor or ToDtype(torch.float32)"
        )
    by = 1.0 if read.form == "unit" else 255.0
    mean, std = (tuple(value / by for value in _numbers(_of(step, name))) for name in ("mean", "std"))
    return replace(read, form="normalised", description=replace(read.description, mean=mean, std=std))


def _greyed(read: _Read, step: Any) -> _Read:
    if _of(step, "num_output_channels") != 1:
        raise ModelError("transform: Grayscale(3) gives three equal channels: no bundle does; Grayscale(1) is taken")
    return replace(read, description=replace(read.description, channels="grey"))


_READERS: dict[str, Callable[[_Read, Any], _Read]] = {
    "Resize": _resize,
    "ResizeKeepRatio": _keeping_ratio,
    "CenterCrop": _cropped,
    "CenterCropOrPad": _cropped_or_padded,
    "ToTensor": _to_tensor,
    "MaybeToTensor": _to_tensor,
    "PILToTensor": _to_bytes,
    "MaybePILToTensor": _to_bytes,
    "ToImage": _to_bytes,
    "ToNumpy": _to_bytes,
    "ConvertImageDtype": _to_type,
    "ToDtype": _to_type,
    "Normalize": _normalised,
    "Grayscale": _greyed,
}


def _name(step: Any) -> str:
    return type(step).__name__


def _of(step: Any, attribute: str) -> Any:
    if not hasattr(step, attribute):
        raise ModelError(
            f"transform: {type(step).__module__}.{_name(step)} has no {attribute}: expected torchvision's or timm's; "
            "describe the input by input=InputSpec(...)"
        )
    return getattr(step, attribute)


def _sides(size: Any) -> list[int]:
    return [size] if isinstance(size, int) else [int(side) for side in size]


def _numbers(values: Any) -> list[float]:
    """Of a list or a tensor."""
    plain = values.tolist() if hasattr(values, "tolist") else values
    return [round(float(value), 7) for value in ([plain] if isinstance(plain, int | float) else plain)]
