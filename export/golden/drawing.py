"""The images themselves: drawn in whole numbers, each with something that a port of the decoder or the resize gets wrong."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime.manifest import InputSpec

_UPRIGHT, _TURNED = 0x0112, 6  # the EXIF tag, and "turn right to see it upright"
_BLOCK = 8  # of a JPEG; what is of one colour there is the same for every decoder
_CELLS = 7
_COLOURS = (73_856_093, 19_349_663, 83_492_791)


def draw(spec: InputSpec) -> dict[str, bytes]:
    """Image files by name, of sizes that are around the model's.

    ``line.png`` is so thin that only a box of it is resampled, ``tall.png`` loses more rows than columns, which Pillow then
    resamples first, and ``alpha.png`` is clear or opaque, for there decoders agree. No JPEG is so large that a decoder would
    shrink it.

    Args:
        spec: the model's input.
    """
    return {name: _encoded(name, make(*_size(spec, *scale))) for name, (scale, make) in _IMAGES.items()}


def _size(spec: InputSpec, across: float, down: float) -> tuple[int, int]:
    """Width and height; whole numbers stand for pixels, others for multiples of the model's."""
    sides = ((across, spec.width), (down, spec.height))
    width, height = (int(share) if isinstance(share, int) else max(1, round(share * side)) for share, side in sides)
    return width, height


def _encoded(name: str, image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    if name.endswith(".jpg"):
        exif = Image.Exif()
        exif[_UPRIGHT] = _TURNED
        image.save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
    else:
        image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _pixels(width: int, height: int) -> npt.NDArray[np.uint8]:
    """Cells of many colours, a slope across them, and thin stripes: edges wherever a resize can put them."""
    y, x = np.mgrid[:height, :width]
    cells = (x * _CELLS // width, y * _CELLS // height)
    mixed = (cells[0] * _COLOURS[0]) ^ (cells[1] * _COLOURS[1]) ^ _COLOURS[2]
    colours = np.stack([mixed >> shift & 255 for shift in (3, 9, 15)], axis=-1)
    colours[..., 0] = (colours[..., 0] + x * 64 // width) % 256
    stripes = (x + 2 * y) % 23 < 3
    return np.where(stripes[..., None], 255 - colours, colours).astype(np.uint8)


def _colour(width: int, height: int) -> Image.Image:
    return Image.fromarray(_pixels(width, height))


def _alpha(width: int, height: int) -> Image.Image:
    """Holes, and under them another colour than the white that is to be seen."""
    y, x = np.mgrid[:height, :width]
    clear = (x * 5 // width + y * 3 // height) % 3 == 0
    return Image.fromarray(np.dstack([_pixels(width, height), np.where(clear, 0, 255).astype(np.uint8)]))


def _grey(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(_pixels(width, height)[..., 1]))


def _palette(width: int, height: int) -> Image.Image:
    return _colour(width, height).quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def _bits(width: int, height: int) -> Image.Image:
    return Image.fromarray(_pixels(width, height)[..., 2] > 127)


def _blocks(width: int, height: int) -> Image.Image:
    """One colour a block."""
    small = _pixels(-(-width // _BLOCK), -(-height // _BLOCK))
    return Image.fromarray(small.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)[:height, :width])


_IMAGES: Mapping[str, tuple[tuple[float, float], Callable[[int, int], Image.Image]]] = {
    "same.png": ((1.0, 1.0), _colour),
    "larger.png": ((2.3, 1.9), _colour),
    "smaller.png": ((0.6, 0.45), _colour),
    "wide.png": ((3.1, 0.7), _colour),
    "tall.png": ((0.8, 2.7), _colour),
    "line.png": ((2, 131), _colour),
    "pixel.png": ((1, 1), _colour),
    "alpha.png": ((1.3, 1.1), _alpha),
    "grey.png": ((1.2, 1.7), _grey),
    "palette.png": ((1.5, 1.4), _palette),
    "bits.png": ((0.9, 1.4), _bits),
    "rotated.jpg": ((1.6, 1.2), _blocks),
}
