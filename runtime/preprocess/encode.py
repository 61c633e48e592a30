"""A PIL image goes the way of its file: what is held in memory means the same pixels."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.exceptions import ImageError, UndecodableImage, UnsupportedImage
from runtime.manifest import InputSpec
from runtime.preprocess.decode import preprocess
from runtime.preprocess.limits import Limits
from runtime.preprocess.orientation import upright
from runtime.preprocess.resize import fit

# Modes that no file has, and the one that keeps what they hold.
_KEPT_AS = {"YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "PA": "RGBA", "La": "LA"}

_ANY = 2**63  # bytes, of what is in memory already


def preprocess_image(image: Image.Image, spec: InputSpec, limits: Limits | None = None) -> npt.NDArray[np.uint8]:
    """A PIL image at the model's size, as :func:`runtime.preprocess.preprocess` brings a file to it: upright, over white,
    with its profile.

    The pixels are those that PIL holds. Of a file they may be others: of PNGs with a transparent grey or colour, of TIFFs
    whose white is 0 in 16 bits, of GIFs that are larger than their first frame, of BMPs with an alpha that is nowhere seen,
    and, by a grey level, of JPEGs several times as large as the input with ``center``.

    Args:
        image: of any of PIL's modes but ``I`` and ``F``, which have no range.
        spec: the manifest's input.
        limits: bounds on pixels; ``Limits()`` by default.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        ImageError: what no file of it would be decided on for, or a file behind the image that can't be decoded.
    """
    limits = limits or Limits()
    limits.check_pixels(*image.size)
    try:
        if image.mode == "RGB" and not image.info.get("icc_profile") and not image.has_transparency_data:
            return fit(upright(image), spec)
        data = encoded(image, compress_level=0)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # of a file that is damaged, or closed, Pillow raises many kinds
        raise UndecodableImage(f"the image can't be decoded: {error or type(error).__name__}") from error
    return preprocess(data, spec, dataclasses.replace(limits, max_bytes=_ANY))


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
        turned.save(buffer, "TIFF", icc_profile=profile, compression="raw")
    else:
        turned.save(buffer, "PNG", icc_profile=profile, compress_level=compress_level)
    return buffer.getvalue()
