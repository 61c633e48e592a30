"""A PIL image as a file, so that one held in memory goes the way of every file."""

from __future__ import annotations

import io

from PIL import Image

from runtime.exceptions import UnsupportedImage
from runtime.preprocess.orientation import upright

# Modes that no file has, and the one that keeps what they hold.
_KEPT_AS = {"YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "PA": "RGBA", "La": "LA"}


def encoded(image: Image.Image, *, compress_level: int = 1) -> bytes:
    """A file with the same pixels, upright, and the same profile: a PNG, or a TIFF of inks.

    Args:
        image: of any of PIL's modes.
        compress_level: of a PNG, 0 to 9.

    Raises:
        UnsupportedImage: values without a range.
        OSError: a file behind the image that can't be read.
    """
    if image.mode in ("I", "F"):
        raise UnsupportedImage(
            f"expected an image of 8 or 16 bits a channel, found PIL's mode {image.mode}, which has no white: bring it to "
            "0 to 255 and convert it to L"
        )
    turned, buffer = upright(image), io.BytesIO()
    profile = turned.info.get("icc_profile") if turned.mode != "LAB" else None
    turned = turned.convert(_KEPT_AS.get(turned.mode, turned.mode))
    if turned.mode == "CMYK":
        turned.save(buffer, "TIFF", icc_profile=profile)
    else:
        turned.save(buffer, "PNG", icc_profile=profile, compress_level=compress_level)
    return buffer.getvalue()
