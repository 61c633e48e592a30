"""Image bytes to the uint8 RGB array that the graph takes.

Training, calibration and serving all decode here, so that a photograph means the same pixels to each of them.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,  # noqa: F401  importing a plugin registers its format
    GifImagePlugin,  # noqa: F401
    Image,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from runtime.exceptions import (
    EmptyImage,
    ImageError,
    ImageTooLarge,
    NotAnImage,
    UndecodableImage,
    UnsupportedImage,
)
from runtime.manifest import InputSpec

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}  # which files of a folder are images

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# A scan of a few bytes makes the decoder walk over the whole image once more. Encoders write about ten; the marker
# never occurs inside compressed data.
_JPEG_SCAN = b"\xff\xda"
_MAX_SCANS = 100

_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF tags

_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")

# Draft decoding may shrink a JPEG to no less than this multiple of the size wanted, so that the resampling
# filter, not the decoder's box filter, decides what the small image looks like.
_DRAFT_MARGIN = 2


@dataclass(frozen=True)
class Limits:
    """What one image may cost. Both are checked before a pixel is decoded."""

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000  # above the 48-megapixel photographs of telephones; 200 MB decoded, a copy as much


def preprocess(data: bytes, spec: InputSpec, limits: Limits | None = None) -> npt.NDArray[np.uint8]:
    """Decode one image file and bring it to the model's size.

    The format is read from the bytes, never from a name. EXIF orientation is applied, transparency is laid over
    white, palette, greyscale, CMYK and 16-bit images become 8-bit RGB; of an animation the first frame counts.

    Args:
        data: the bytes of a JPEG, PNG, WebP, BMP, GIF or TIFF file.
        spec: the size wanted and how to get there (:class:`runtime.manifest.InputSpec`).
        limits: bounds on bytes and pixels; ``Limits()`` by default.

    Returns:
        uint8 array ``[height, width, 3]``, RGB, C-contiguous.

    Raises:
        ImageError: one of its subclasses, for bytes that are no usable image.
    """
    limits = limits or Limits()
    if not data:
        raise EmptyImage("the image is empty: send the bytes of an image file")
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"the image has {len(data):,} bytes; the limit is {limits.max_bytes:,}")
    image = _open(data, limits)
    try:
        return fit(_to_rgb(_load(image, spec)), spec)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a decoder fed hostile bytes may raise anything
        raise UndecodableImage(f"the {image.format} image is truncated or damaged ({_reason(error)})") from error


def fit(image: Image.Image, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Resize an RGB image of any size by the manifest's rule.

    ``center`` cuts the largest centred box of the model's aspect ratio (times ``crop_fraction``), ``squash``
    stretches the whole image, ``border`` fits the whole image and pads with white. The box is resampled in one
    step, so an extreme aspect ratio never makes a large intermediate image.

    Returns:
        uint8 array ``[height, width, 3]``.
    """
    target = (spec.width, spec.height)
    width, height = image.size
    box = (0.0, 0.0, float(width), float(height))
    if spec.resize == "center":
        scale = min(width / spec.width, height / spec.height) * spec.crop_fraction
        box_width, box_height = spec.width * scale, spec.height * scale
        left, top = max(0.0, (width - box_width) / 2), max(0.0, (height - box_height) / 2)
        box = (left, top, min(left + box_width, width), min(top + box_height, height))
    filter_ = _FILTERS[spec.interpolation]
    if spec.resize == "border":
        scale = min(spec.width / width, spec.height / height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = Image.new("RGB", target, (255, 255, 255))
        corner = ((spec.width - inner[0]) // 2, (spec.height - inner[1]) // 2)
        canvas.paste(image.resize(inner, filter_), corner)
        return np.array(canvas)
    if image.size != target or box != (0.0, 0.0, *map(float, target)):
        image = image.resize(target, filter_, box)
    return np.array(image)


def _open(data: bytes, limits: Limits) -> Image.Image:
    """Read the header only: recognise the format and count the pixels."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own, higher limits
        raise ImageTooLarge(f"{error}; the limit is {limits.max_pixels:,} pixels") from error
    except UnidentifiedImageError as error:
        accepted = ", ".join(FORMATS)
        raise NotAnImage(f"the bytes are not an image of an accepted format ({accepted})") from error
    except MemoryError:
        raise
    except Exception as error:  # a parser fed hostile bytes may raise anything
        raise UndecodableImage(f"the image's header is truncated or damaged ({_reason(error)})") from error
    if isinstance(image, JpegImagePlugin.JpegImageFile) and data.count(_JPEG_SCAN) > _MAX_SCANS:
        raise UnsupportedImage(f"the JPEG has more than {_MAX_SCANS} scans, each of which costs a pass; save it again")
    width, height = image.size
    if max(width * height, _tile_pixels(image)) > limits.max_pixels:
        raise ImageTooLarge(f"the image has {width} x {height} pixels; the limit is {limits.max_pixels:,} pixels")
    return image


def _tile_pixels(image: Image.Image) -> int:
    """Pixels of one tile of a TIFF, which is decoded whole however little of it is shown; 0 for other images."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0
    try:
        return int(image.tag_v2.get(_TILE_WIDTH, 0)) * int(image.tag_v2.get(_TILE_LENGTH, 0))
    except (TypeError, ValueError) as error:
        raise UndecodableImage(f"the TIFF's tile size is damaged ({error})") from error


def _load(image: Image.Image, spec: InputSpec) -> Image.Image:
    """Decode the pixels, a large JPEG at a fraction of its size."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        side = math.ceil(max(spec.height, spec.width) / spec.crop_fraction) * _DRAFT_MARGIN
        image.draft(image.mode, (side, side))
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata of a good image: its orientation stays unknown
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise UnsupportedImage("32-bit float pixels have no defined range; send 8- or 16-bit pixels")
    if image.mode in _SIXTEEN_BIT:  # keep the high byte, as the decoder does for 16-bit RGB
        wide = np.asarray(image)
        if wide.max() > 0xFFFF or wide.min() < 0:
            raise UnsupportedImage("32-bit integer pixels have no defined range; send 8- or 16-bit pixels")
        grey = (wide >> 8).astype(np.uint8)
        if (transparent := image.info.get("transparency")) is not None:
            grey[wide == transparent] = 255
        image = Image.fromarray(grey)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
