"""What timm says of a model: its data configuration and the ``config.json`` of a hub directory, as dictionaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.manifest import Channels
from train.descriptions.description import GREY_FIRST, Description, named
from train.descriptions.interpolations import interpolation
from train.exceptions import ModelError

Json = Mapping[str, Any]

_CHANNELS: dict[int, Channels] = {1: "grey", 3: "rgb"}


def of_data_config(config: Json) -> Description:
    """The input, from what ``timm.data.resolve_model_data_config`` returns.

    Raises:
        ModelError: another number of channels than one or three.
    """
    count, height, width = config["input_size"]
    if count not in _CHANNELS:
        raise ModelError(f"timm's input_size has {count} channels; expected 1 or 3")
    scaled = math.floor(height / config["crop_pct"]), math.floor(width / config["crop_pct"])
    mode = config.get("crop_mode") or "center"
    mean, std = (_of_channels(config[name], count) for name in ("mean", "std"))
    resizing = Description(resize="shortest", resize_to=scaled[0] if scaled[0] == scaled[1] else scaled)
    if mode == "squash":
        resizing = Description(resize="squash", resize_to=scaled)
    elif mode == "border":
        fill = [round(255 * value) for value in (mean if count == 3 else mean * 3)]
        resizing = Description(resize="border", resize_to=scaled, fill=(fill[0], fill[1], fill[2]))
    return Description(
        size=(height, width),
        mean=mean,
        std=std,
        interpolation=interpolation(config["interpolation"]),
        colour="ignore",
        channels=_CHANNELS[count],
        remarks=(
            f"input from timm: {height} x {width}, crop_pct {config['crop_pct']:g}, crop_mode {mode}",
            *([GREY_FIRST] if count == 1 else []),
        ),
    ).over(resizing)


def _of_channels(values: Sequence[float], count: int) -> tuple[float, ...]:
    """The average of those of RGB for one channel, as timm's loader has it (``adapt_to_chs``)."""
    found = tuple(map(float, values))
    return (math.fsum(found) / len(found),) if count == 1 else found


def of_hub_config(config: Json) -> Description:
    """The labels of a hub directory's ``config.json``, if it has them."""
    names: object = config.get("label_names") or (config.get("pretrained_cfg") or {}).get("label_names")
    if isinstance(names, Mapping):
        names = [names[key] for key in sorted(names, key=int)]
    if not isinstance(names, Sequence) or not names:
        return Description()
    descriptions = config.get("label_descriptions") or {}
    return named([_described(str(name), descriptions) for name in names], "config.json")


def _described(name: str, descriptions: object) -> str:
    """The name, or its description where the names are WordNet's numbers."""
    wnid = name[:1] == "n" and name[1:].isdigit()
    return str(descriptions[name]) if wnid and isinstance(descriptions, Mapping) and name in descriptions else name
