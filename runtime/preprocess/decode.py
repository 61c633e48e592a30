"""One image file to the pixels that the graph takes."""

from __future__ import annotations

import io
import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import GifImagePlugin, Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from runtime.exceptions import ImageError, ImageTooLarge, NotAnImage, UndecodableImage, UnsupportedImage
from runtime.manifest import InputSpec
from runtime.preprocess import bmp, colour, formats, jpeg, png, tiff
from runtime.preprocess.limits import Limits
from runtime.preprocess.orientation import turn
from runtime.preprocess.resize import fit, padded, resized

_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_SHORTEST = 32  # bytes; no image is shorter
_GZIP = b"\x1f\x8b"

# With ``center``, draft decoding may shrink a JPEG to no less than this multiple of the size wanted, so that the resampling
# filter, not the decoder's box filter, decides what the small image looks like. It is some grey levels from decoding whole,
# by any multiple (docs/measured/pixels.md), and not what another library's network was trained on.
_DRAFT_MARGIN = 2

_Use = Callable[[Image.Image, bytes | None], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class _Opened:
    """An image of which the header is read.

    Attributes:
        image: not decoded yet, but for a bitmap.
        profile: the embedded ICC profile.
        frame: of a JPEG.
        stripped: of a PNG.
    """

    image: Image.Image
    profile: bytes | None
    frame: jpeg.Frame | None = None
    stripped: png.Stripped | None = None


def preprocess(data: bytes, spec: InputSpec, limits: Limits | None = None) -> npt.NDArray[np.uint8]:
    """Decode one image file and bring it to the model's size.

    The format is read from the bytes, never from a name. EXIF orientation is applied, transparency is laid over
    white, palette, greyscale, CMYK and 16-bit images become 8-bit RGB; of an animation the first frame counts. With
    ``spec.colour == "srgb"`` the colours of an embedded ICC profile become sRGB's, at the model's size.

    Args:
        data: the bytes of a file of one of :data:`FORMATS`.
        spec: the size wanted and how to get there (:class:`runtime.manifest.InputSpec`).
        limits: bounds on bytes and pixels; ``Limits()`` by default.

    Returns:
        uint8 array ``[height, width, 3]``, RGB, C-contiguous.

    Raises:
        ImageError: one of its subclasses, for bytes that are no usable image.
    """
    return _guarded(data, spec, limits or Limits(), partial(_brought, spec=spec))


def decoded(data: bytes, spec: InputSpec, limits: Limits | None = None) -> npt.NDArray[np.uint8]:
    """The first half of :func:`preprocess`: the image as it is before it is resized, upright and opaque.

    Args, Raises: as of :func:`preprocess`; by ``center`` a large JPEG is decoded at a fraction of its size.

    Returns:
        uint8 array ``[H, W, 3]``, RGB in the numbers of the file: colour profiles are applied later.
    """
    return _guarded(data, spec, limits or Limits(), lambda image, _: np.array(image.convert("RGB")))


def _guarded(data: bytes, spec: InputSpec, limits: Limits, use: _Use) -> npt.NDArray[np.uint8]:
    try:
        return _pixels(data, spec, limits, use)
    except (ImageError, MemoryError) as error:
        _let_go(error)
        raise


def _let_go(error: BaseException | None) -> None:
    """Empty the frames of a failed decode: an error may live until the next full round of the collector, and they hold
    the image as far as it was decoded."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _brought(image: Image.Image, profile: bytes | None, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """An image of mode L, RGB or CMYK at the model's size."""
    if spec.colour == "srgb" and (transform := colour.to_srgb(profile, image.mode)):
        return padded(transform.apply(resized(image, spec)), spec)
    return fit(image if image.mode == "RGB" else image.convert("RGB"), spec)


def _pixels(data: bytes, spec: InputSpec, limits: Limits, use: _Use) -> npt.NDArray[np.uint8]:
    """What `use` makes of the flattened image and its colour profile."""
    limits.check_bytes(data)
    opened = _open(data, limits)
    try:
        return use(_flattened(opened, _load(opened, spec)), opened.profile)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a decoder fed hostile bytes may raise anything
        frame = opened.frame
        if frame and not frame.scalable:
            raise UnsupportedImage(
                f"the {frame.kind} JPEG is damaged or not read; save it as a baseline one"
            ) from error
        name = opened.image.format or "BMP"
        raise UndecodableImage(f"the {name} image is truncated or damaged") from error


def _open(data: bytes, limits: Limits) -> _Opened:
    """Read the header only: recognise the format, refuse what is not read, count the pixels."""
    kind = formats.kind(data)
    if kind is None or kind not in formats.FORMATS:
        raise _unaccepted(data, kind)
    if kind == "BMP":
        return _Opened(_bitmap(data, limits), bmp.profile(data))
    frame = jpeg.frame(data) if kind == "JPEG" else None
    stripped = png.strip(data, colour.MAX_PROFILE) if kind == "PNG" else None
    if kind == "TIFF":
        tiff.check(data)
    image = _identified(stripped.data if stripped else data, kind, limits)
    if isinstance(image, JpegImagePlugin.JpegImageFile) and (not frame or image.size != (frame.width, frame.height)):
        raise UndecodableImage("the JPEG's header is truncated or damaged")
    limits.check_pixels(*image.size, tiff.tile_pixels(image))
    profile = stripped.profile if stripped else image.info.get("icc_profile")
    return _Opened(image, profile if isinstance(profile, bytes) else None, frame, stripped)


def _bitmap(data: bytes, limits: Limits) -> Image.Image:
    try:
        return bmp.read(data, limits)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # as above
        raise UndecodableImage("the BMP image is truncated or damaged") from error


def _identified(data: bytes, kind: str, limits: Limits) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=(kind,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own limit
        limit = min(limits.max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or limits.max_pixels))
        raise ImageTooLarge(f"the image has more pixels than are taken; the limit is {limit:,} pixels") from error
    except UnidentifiedImageError as error:
        raise _unreadable(data, kind) from error
    except MemoryError:
        raise
    except Exception as error:  # a parser fed hostile bytes may raise anything
        raise UndecodableImage("the image's header is truncated or damaged") from error


def _unaccepted(data: bytes, kind: str | None) -> NotAnImage:
    """What to say of bytes that are of no accepted format."""
    accepted = ", ".join(formats.FORMATS)
    if data.startswith(_GZIP):
        return NotAnImage(f"the bytes are gzip, not an image of an accepted format ({accepted}); send them unpacked")
    if kind:
        return NotAnImage(
            f"{kind} is read where the extra `heif` is installed (pip install 'oodgate[heif]'), which it is not here; "
            f"send an image of an accepted format ({accepted})"
        )
    return NotAnImage(f"the bytes are not an image of an accepted format ({accepted})")


def _unreadable(data: bytes, kind: str) -> ImageError:
    """Why Pillow does not take a file that begins as one of its formats does."""
    if len(data) < _SHORTEST:
        return _unaccepted(data, None)
    if kind == "TIFF" and (layout := tiff.layout(data)):
        return UnsupportedImage(f"TIFF of {layout} is not read; save it as RGB of 8 bits a sample")
    return UndecodableImage(f"the {kind}'s header is truncated or damaged")


def _load(opened: _Opened, spec: InputSpec) -> Image.Image:
    """Decode the pixels, with ``center`` a large JPEG at a fraction of its size, and turn them upright."""
    image, frame = opened.image, opened.frame
    if frame and frame.scalable and spec.resize == "center" and isinstance(image, JpegImagePlugin.JpegImageFile):
        side = math.ceil(max(spec.height, spec.width) / spec.crop_fraction) * _DRAFT_MARGIN
        image.draft(image.mode, (side, side))
    extents = image.tile[0][1] if isinstance(image, GifImagePlugin.GifImageFile) else None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tiff.mend(image)
    xmp = image.info.pop("xmp", None)  # orientation is EXIF's alone, and Pillow turns a TIFF when it loads it
    image.load()
    if extents and extents != (0, 0, *image.size):
        return _on_white_canvas(image, extents)
    if opened.stripped and "transparency" in image.info:
        png.mend_transparency(image, opened.stripped)
    if xmp and frame and "exif" in image.info:
        image = image.copy()  # without what Pillow kept of both when it looked for a JPEG's resolution
    turn(image)
    return image


def _on_white_canvas(frame: Image.Image, extents: tuple[int, int, int, int]) -> Image.Image:
    """A first frame that is smaller than the image, as a browser shows it: nothing is around it."""
    canvas = Image.new("RGBA", frame.size)
    canvas.paste(frame.convert("RGBA").crop(extents), extents)
    return canvas


def _flattened(opened: _Opened, image: Image.Image) -> Image.Image:
    """8 bits a channel and nothing to see through: mode L, RGB or CMYK."""
    if image.mode == "F":
        raise UnsupportedImage("32-bit float pixels have no defined range; send 8- or 16-bit pixels")
    if image.mode in _SIXTEEN_BIT:
        return _high_bytes(image, negative=tiff.white_is_zero(opened.image))
    if image.mode == "La":
        image = image.convert("LA")
    grey = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        white = Image.new("L" if grey else "RGB", image.size, 255 if grey else (255, 255, 255))
        white.paste(image.convert(white.mode), mask=image.getchannel("A"))
        return white
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if grey else "RGB")


def _high_bytes(image: Image.Image, *, negative: bool) -> Image.Image:
    """16-bit grey as 8-bit, as the decoder does for 16-bit RGB."""
    wide = np.asarray(image)
    if wide.max() > 0xFFFF or wide.min() < 0:
        raise UnsupportedImage("32-bit integer pixels have no defined range; send 8- or 16-bit pixels")
    grey = (wide >> 8).astype(np.uint8)
    if negative:
        grey = 255 - grey
    if (transparent := image.info.get("transparency")) is not None:
        grey[wide == transparent] = 255
    return Image.fromarray(grey)
