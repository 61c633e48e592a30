"""What a TIFF is, read from its tags before a decoder sees it (TIFF 6.0)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImagePalette, TiffImagePlugin

from runtime.exceptions import UndecodableImage, UnsupportedImage

# Pillow's own reader of uncompressed files takes 16-bit planes for 8-bit ones and thinned-out chroma for full; libtiff,
# which reads all others, reads these too.
TiffImagePlugin.READ_LIBTIFF = True
# Pillow knows it little-endian only.
TiffImagePlugin.OPEN_INFO.setdefault((b"MM", 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))

_BITS, _COMPRESSION, _PHOTOMETRIC, _COLOUR_MAP = 258, 259, 262, 320
_PLANAR, _TILE_WIDTH, _TILE_LENGTH, _EXTRA, _FORMAT = 284, 322, 323, 338, 339

_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_DEPTHS = frozenset({1, 2, 4, 8, 16, 32})
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000, 50001})
_COMPRESSION_NAMES = {
    32766: "NeXT", 32771: "CCITT RLE", 32809: "ThunderScan", 34661: "JBIG", 34676: "SGI Log", 34677: "SGI Log",
    34712: "JPEG 2000", 34887: "LERC", 52546: "JPEG XL",
}  # fmt: skip
_SEPARATE = 2
_ONE_CHANNEL = frozenset({0, 1, 3})
_PHOTOMETRICS = frozenset({0, 1, 2, 3, 5, 6})
_PHOTOMETRIC_NAMES = {
    0: "grey", 1: "grey", 2: "RGB", 3: "palette colours", 5: "CMYK", 6: "YCbCr",
    4: "transparency mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32803: "colour filter array",
    32844: "CIE Log L", 32845: "CIE Log Luv", 34892: "linear raw", 51177: "depth map",
}  # fmt: skip


def check(data: bytes) -> None:
    """Refuse what is not read, by its name. A damaged header is the decoder's to refuse.

    Raises:
        UnsupportedImage.
    """
    try:
        tags = _tags(data)
        bits = tuple(map(int, tags.get(_BITS, (1,))))
        kinds = set(map(int, tags.get(_FORMAT, (1,))))
        compression, photometric = int(tags.get(_COMPRESSION, 1)), int(tags.get(_PHOTOMETRIC, 0))
        planar = int(tags.get(_PLANAR, 1)) == _SEPARATE and any(tags.get(_EXTRA, ()))
    except Exception:  # a parser fed hostile bytes may raise anything
        return
    if _FLOAT in kinds:
        raise UnsupportedImage(f"{bits[0]}-bit float pixels have no defined range; send 8- or 16-bit pixels")
    if compression not in _COMPRESSIONS:
        name = _COMPRESSION_NAMES.get(compression, f"number {compression}")
        raise UnsupportedImage(f"TIFF compression {name} is not read; save it with LZW or deflate, or uncompressed")
    if odd := sorted(set(bits) - _DEPTHS):
        raise UnsupportedImage(f"TIFF of {odd[0]} bits a sample is not read; convert to 8 or 16")
    if len(set(bits)) > 1:
        raise UnsupportedImage(
            f"TIFF of {' + '.join(map(str, bits))} bits a pixel is not read; convert to 8 or 16 each"
        )
    if kinds - {_UNSIGNED} and bits[0] != 32:
        raise UnsupportedImage(f"TIFF of signed {bits[0]}-bit samples is not read; convert to unsigned ones")
    if planar and photometric in _ONE_CHANNEL:
        raise UnsupportedImage("TIFF of one channel and alpha in planes of their own is not read; save it interleaved")
    if photometric not in _PHOTOMETRICS:
        name = _PHOTOMETRIC_NAMES.get(photometric, f"photometric interpretation {photometric}")
        raise UnsupportedImage(f"TIFF in {name} is not read; convert it to RGB")


def layout(data: bytes) -> str | None:
    """What kind of TIFF a file is, in words; None where its header is damaged."""
    try:
        tags = _tags(data)
        bits = "+".join(map(str, tags.get(_BITS, (1,))))
        kind = _PHOTOMETRIC_NAMES.get(int(tags.get(_PHOTOMETRIC, 0)), "colours of an unknown kind")
        return f"{bits} bits a pixel in {kind}"
    except Exception:  # a parser fed hostile bytes may raise anything
        return None


def tile_pixels(image: Image.Image) -> int:
    """Pixels of one tile, which is decoded whole however little of it is shown; 0 for images without."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0
    try:
        return int(image.tag_v2.get(_TILE_WIDTH, 0)) * int(image.tag_v2.get(_TILE_LENGTH, 0))
    except (TypeError, ValueError) as error:
        raise UndecodableImage("the TIFF's tile size is damaged") from error


def mend(image: TiffImagePlugin.TiffImageFile) -> None:
    """A colour map of 0 to 255, as some programs write it, where TIFF says 0 to 65535."""
    colours = image.tag_v2.get(_COLOUR_MAP, ())
    if image.mode in ("P", "PA") and colours and max(colours) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))


def white_is_zero(image: Image.Image) -> bool:
    """Whether 16-bit grey is stored as a negative, which the decoder leaves as it is."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0


def _tags(data: bytes) -> Mapping[int, Any]:
    big = 43 in data[2:4]
    directory = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if big else 8])
    file = io.BytesIO(data)
    file.seek(directory.next)
    directory.load(file)
    return directory
