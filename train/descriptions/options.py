"""The options that say how a network's input was made where its weights were trained."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import get_args

from runtime.manifest import Colour, Interpolation, Resize
from train.descriptions.description import Description
from train.exceptions import ModelError

_WHITE = "what --resize border leaves of the input is white; --fill says otherwise, such as 114 for YOLO's letterbox"


def add_input_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add what :func:`said_of_input` reads."""
    parser.add_argument(
        "--mean", type=float, nargs="+", metavar=("R", "G B"), help="of pixels in [0, 1]; one for a grey input"
    )
    parser.add_argument(
        "--std", type=float, nargs="+", metavar=("R", "G B"), help="0 and 0.00392 take pixels to [0, 255]"
    )
    parser.add_argument(
        "--resize-to",
        metavar="SIDE|HxW",
        help="before the centre is cut: 256 for ImageNet's habit, 235 = floor(224 / 0.95) for timm's crop_pct of 0.95",
    )
    parser.add_argument(
        "--resize",
        choices=get_args(Resize),
        help="default: shortest for a --resize-to of one side, squash for HxW",
    )
    parser.add_argument(
        "--fill",
        type=int,
        nargs="+",
        metavar=("R", "G B"),
        help="from 0 to 255, around an image that the input is larger than; one for grey (default: white with --resize "
        "border, or else black)",
    )
    parser.add_argument("--interpolation", choices=get_args(Interpolation), help="default: bilinear")
    parser.add_argument(
        "--colour",
        choices=get_args(Colour),
        help="of images with an ICC profile: converted to sRGB, or the numbers as they are, as torchvision, timm and "
        "transformers take them (default: theirs for their models, else srgb)",
    )


def said_of_input(args: argparse.Namespace) -> Description:
    """What a command's options say of the input, its size excepted.

    Raises:
        ModelError: a size or a colour that is none.
    """
    try:
        resize_to = side_or_size(args.resize_to) if args.resize_to else None
    except ValueError as error:
        raise ModelError(f"--resize-to {args.resize_to}: expected a side such as 256, or HxW ({error})") from error
    resize: Resize | None = args.resize
    if resize is None and resize_to is not None:
        resize = "squash" if isinstance(resize_to, tuple) else "shortest"
    fill = _colour(args.fill) if args.fill else None
    return Description(
        mean=tuple(args.mean) if args.mean else None,
        std=tuple(args.std) if args.std else None,
        resize=resize,
        resize_to=resize_to,
        fill=fill,
        interpolation=args.interpolation,
        colour=args.colour,
        remarks=(_WHITE,) if resize == "border" and fill is None else (),
    )


def _colour(values: Sequence[int]) -> tuple[int, int, int]:
    given = f"--fill {' '.join(map(str, values))}"
    if len(values) not in (1, 3) or not all(0 <= value <= 255 for value in values):
        raise ModelError(f"{given}: expected a grey level, or R, G and B, from 0 to 255")
    red, green, blue = [*values] * 3 if len(values) == 1 else values
    return red, green, blue


def side_or_size(text: str) -> int | tuple[int, int]:
    """``256`` as one side, ``224x336`` as (height, width).

    Raises:
        ValueError: neither.
    """
    height, separator, width = text.partition("x")
    return (int(height), int(width)) if separator else int(height)
