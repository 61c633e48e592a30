"""Embedded colour profiles to sRGB, by LittleCMS."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE = 4 * 1024 * 1024  # bytes; profiles of displays have some kB, of printing presses up to 3 MB

_SPACES = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}
_CLASSES = frozenset({"mntr", "scnr", "prtr", "spac"})  # of a profile that says what the pixels of an image mean
_STEPS = 9  # levels a channel at which a profile is compared with sRGB


def to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the colours that `profile` says an image has to mode RGB in sRGB.

    Args:
        profile: an ICC profile.
        mode: of the image, L, RGB or CMYK.

    Returns:
        None where there is nothing to do: the profile is missing, damaged, too large, of another colour space than the
        image, or sRGB's own.
    """
    return _transform(profile, mode) if profile and len(profile) <= MAX_PROFILE else None


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The few that cameras use are made once."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES[mode] or source.profile.device_class not in _CLASSES:
            return None
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE  # its table for grey is too coarse
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", flags=flags)
        return None if _is_srgb(transform, mode) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # not a profile that LittleCMS takes
        return None


def _is_srgb(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether what is done to a grid of colours is within rounding of nothing, as by the many profiles of sRGB itself."""
    if mode == "CMYK":
        return False
    levels = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    image = Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis] if mode == "L" else grid)
    before, after = (np.asarray(i, dtype=int) for i in (image.convert("RGB"), transform.apply(image)))
    return int(np.abs(before - after).max()) <= 1
