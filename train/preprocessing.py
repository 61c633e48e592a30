"""How images become a network's input: as its weights were trained, as the options say, or as the training images are."""

from __future__ import annotations

import dataclasses

from runtime.manifest import InputSpec
from train.checkpoint import Checkpoint
from train.data import Images
from train.descriptions.description import Description
from train.exceptions import DataError, ModelError, TrainingError
from train.models import Start
from train.normalize import channel_statistics

_SIDE = 32
_STATISTICS = ("mean", "std")


def of_network(start: Start, given: Description, side: int | None) -> InputSpec | None:
    """The input of a network with weights of its own; None for one that has none yet.

    Args:
        start: the network.
        given: what the options say, which goes before what its library says.
        side: of the input, for which its library's sizes are scaled.

    Raises:
        ModelError: nothing says how its weights were trained, or it is not for three channels of colour.
    """
    if start.built.pretrained is None:
        return None
    said = scaled(start.built.description, side)
    found = given.over(said)
    missing = [f"--{name}" for name in ("size", *_STATISTICS) if getattr(found, name) is None]
    if missing:
        raise ModelError(
            f"{start.built.arch} needs {', '.join(missing)}: nothing says how its weights ({start.built.pretrained}) were "
            "trained; of most ImageNet models it is --size 224 --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225"
        )
    if found.channels not in (None, "rgb"):
        raise ModelError(f"{start.built.arch} takes {found.channels}: training is for networks of three channels, RGB")
    return whole(dataclasses.replace(found, resize=found.resize or "center"))


def of_checkpoint(init: Checkpoint, given: Description, side: int | None) -> InputSpec:
    """The input of a run that starts from another.

    Raises:
        TrainingError: the options say something else of it than its size.
    """
    if said := _options(given):
        raise TrainingError(f"--{said[0]} goes with weights of others; the checkpoint of --init says it itself")
    return whole(scaled(Description.of_input(init.header.input), side))


def of_images(given: Description, side: int | None) -> InputSpec:
    """The input of a network that starts from nothing: square, normalised by :func:`normalised` where nothing else is said.

    Raises:
        ModelError: options that make no sense.
    """
    side = side or _SIDE
    neither = Description(size=(side, side), mean=(0.0,), std=(1.0,), resize="center", colour="srgb")
    return whole(given.over(neither))


def normalised(spec: InputSpec, given: Description, images: Images, source: str) -> InputSpec:
    """With mean and deviation of the training images' channels, as far as the options don't give them.

    Raises:
        DataError: a channel that is the same everywhere.
    """
    if given.mean is not None and given.std is not None:
        return spec
    mean, std = channel_statistics(images)
    if not min(std):
        raise DataError(f"{source}: a colour channel has the same value in all pixels, so it can't be normalised")
    return dataclasses.replace(spec, mean=spec.mean if given.mean else mean, std=spec.std if given.std else std)


def whole(description: Description) -> InputSpec:
    """The specification of an input, of which all is known, whatever the labels are."""
    return dataclasses.replace(description, labels=()).input("--arch")


def describe(spec: InputSpec) -> str:
    """An input in a line."""
    how = {
        "center": "the largest centred box of its shape",
        "shortest": f"the shorter side to {spec.resize_to}, then the centre",
        "squash": f"stretched to {spec.resize_to or 'it'}, then the centre",
        "border": f"fitted into {spec.resize_to or 'it'} with a border",
        "none": "the centre, not resized",
    }[spec.resize]
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (spec.mean, spec.std))
    return f"{spec.height} x {spec.width}, {how}, {spec.interpolation}; mean {mean}, std {std}"


def scaled(said: Description, side: int | None) -> Description:
    """With the size asked for, and what is resized before the centre is cut in proportion."""
    if side is None:
        return said
    to = said.resize_to
    if to is not None and said.size:
        height, width = (side / length for length in said.size)
        to = round(to * height) if isinstance(to, int) else (round(to[0] * height), round(to[1] * width))
    return dataclasses.replace(said, size=(side, side), resize_to=to)


def _options(given: Description) -> list[str]:
    return sorted(name.replace("_", "-") for name, value in vars(given).items() if value and name != "remarks")
