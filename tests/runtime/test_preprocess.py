"""Image files to arrays: every format, mode and orientation against arrays made by hand, and every refusal."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from runtime.exceptions import (
    EmptyImage,
    ImageError,
    ImageTooLarge,
    NotAnImage,
    UndecodableImage,
    UnsupportedImage,
)
from runtime.manifest import InputSpec, Interpolation, Resize
from runtime.preprocess import FORMATS, SUFFIXES, Limits, encoded, fit, preprocess, preprocess_image
from runtime.preprocess.orientation import upright
from tests import writers
from tests.small import encode

ROOT = Path(__file__).resolve().parents[2]
Pixels = npt.NDArray[np.uint8]
RESIZES: list[Resize] = ["center", "squash", "border"]
FILTERS: list[Interpolation] = ["nearest", "bilinear", "bicubic", "lanczos"]
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "TIFF deflate": {"compression": "tiff_deflate"},
    "WEBP": {"lossless": True},
}
WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


def spec(height: int, width: int, **options: Any) -> InputSpec:
    return InputSpec(height, width, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), **options)


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(noise(12, 16, seed)).resize((width, height), Image.Resampling.BICUBIC)


def png(width: int, height: int, depth: int, color: int, rows: Iterable[bytes], trns: bytes | None = None) -> bytes:
    """A PNG written by hand, row by row; `color` is 0 grey, 2 RGB, 4 grey + alpha, 6 RGBA."""
    compressor = zlib.compressobj(9)
    pixels = b"".join(compressor.compress(b"\0" + row) for row in rows) + compressor.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))]
    chunks += [(b"tRNS", trns)] if trns is not None else []
    chunks += [(b"IDAT", pixels), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def pixels_of(data: bytes, height: int, width: int) -> Pixels:
    """Decoded at the image's own size."""
    return preprocess(data, spec(height, width))


# --- formats


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    image = noise(9, 7)
    data = encode(image, kind.split()[0], **LOSSLESS[kind])
    np.testing.assert_array_equal(pixels_of(data, 9, 7), image)


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_lossy_formats_come_close(format: str) -> None:
    image = np.asarray(smooth(192, 256))
    decoded = pixels_of(encode(image, format, quality=95), 192, 256)
    assert np.abs(decoded.astype(int) - image).mean() < 2


def test_gif_keeps_the_colours_of_its_palette() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2], image[2:] = RED, BLUE
    np.testing.assert_array_equal(pixels_of(encode(image, "GIF"), 4, 4), image)


@pytest.mark.parametrize("format", FORMATS)
def test_result_is_contiguous_uint8_rgb(format: str) -> None:
    result = preprocess(encode(noise(20, 30), format), spec(8, 12))
    assert result.shape == (8, 12, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_a_suffix(format: str) -> None:
    assert {suffix for suffix, name in Image.registered_extensions().items() if name == format} & SUFFIXES


# --- EXIF orientation: how the camera stored an image that is upright when shown

STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


def oriented(upright: Pixels, orientation: int, format: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(np.ascontiguousarray(STORED[orientation](upright)), format, exif=exif, **options)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF deflate", "WEBP"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    upright = noise(16, 24)
    data = oriented(upright, orientation, kind.split()[0], **LOSSLESS[kind])
    np.testing.assert_array_equal(pixels_of(data, 16, 24), upright)


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_of_a_jpeg_is_applied(orientation: int) -> None:
    upright = noise(2, 3).repeat(8, axis=0).repeat(8, axis=1)
    data = oriented(upright, orientation, "JPEG", quality=100, subsampling=0)
    assert np.abs(pixels_of(data, 16, 24).astype(int) - upright).max() <= 4


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_survives_draft_decoding(orientation: int) -> None:
    upright = noise(2, 3).repeat(320, axis=0).repeat(320, axis=1)
    data = oriented(upright, orientation, "JPEG", quality=95, subsampling=0)
    corners = preprocess(data, spec(16, 24))[4::8, 4::8]
    assert np.abs(corners.astype(int) - upright[160::320, 160::320]).max() <= 6


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
TURNED = Image.Exif()
TURNED[0x0112] = 6
MADE = Image.Exif()
MADE[0x010F] = "a maker"  # and no orientation
TEXTS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": ("JPEG", {"xmp": XMP, "quality": 100, "subsampling": 0}),
    "JPEG with EXIF": ("JPEG", {"xmp": XMP, "exif": MADE, "quality": 100, "subsampling": 0}),
    "WEBP": ("WEBP", {"xmp": XMP, "lossless": True}),
    "TIFF": ("TIFF", {"tiffinfo": {700: XMP}}),
    "TIFF deflate": ("TIFF", {"tiffinfo": {700: XMP}, "compression": "tiff_deflate"}),
    **({"AVIF": ("AVIF", {"xmp": XMP, "quality": 100, "subsampling": "4:4:4"})} if "AVIF" in FORMATS else {}),
}
PNG_TEXTS = {
    "XMP": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "EXIF": (b"tEXt", b"Raw profile type exif\0\nexif\n32\n" + TURNED.tobytes().hex().encode()),
}


def with_texts() -> dict[str, bytes]:
    """Files of one image whose texts alone say that it has to be turned."""
    image = Image.fromarray(noise(2, 3).repeat(8, axis=0).repeat(8, axis=1))
    files = {name: saved(image, format, **options) for name, (format, options) in TEXTS.items()}
    for name, text in PNG_TEXTS.items():
        files[f"PNG, {name}"] = writers.png(np.asarray(image), 8, 2, before=[text])
        files[f"PNG, {name} at the end"] = writers.png(np.asarray(image), 8, 2, after=[text])
    return files


@pytest.mark.parametrize("name", with_texts())
def test_no_text_turns_an_image(name: str) -> None:
    """Nor one that is in memory, and keeps its texts."""
    stored, data = noise(2, 3).repeat(8, axis=0).repeat(8, axis=1), with_texts()[name]
    assert np.abs(pixels_of(data, 16, 24).astype(int) - stored).max() <= 4
    image = Image.open(io.BytesIO(data))
    assert np.abs(np.asarray(upright(image)).astype(int) - stored).max() <= 4
    assert image.info.items() >= Image.open(io.BytesIO(data)).info.items()
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size == (16, 24)  # what Pillow makes of it


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_without_a_meaning_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = noise(5, 7)
    np.testing.assert_array_equal(pixels_of(encode(image, "PNG", exif=exif), 5, 7), image)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_does_not_cost_the_image(format: str) -> None:
    """Nor that of one in memory."""
    image = np.full((8, 8, 3), 90, np.uint8)
    data = encode(image, format, exif=b"Exif\0\0not a directory of tags")
    np.testing.assert_allclose(pixels_of(data, 8, 8), image, atol=2)
    np.testing.assert_allclose(preprocess_image(Image.open(io.BytesIO(data)), spec(8, 8)), image, atol=2)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of data that end too early
def test_exif_that_is_damaged_anywhere_turns_a_file_and_its_image_alike(rng: np.random.Generator) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    whole = exif.tobytes()
    image = np.kron(noise(2, 3), np.ones((8, 8, 1), np.uint8))
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(6, len(whole), 3):
            damaged[place] = rng.integers(256)
        data = saved(Image.fromarray(image), "JPEG", exif=bytes(damaged))
        expected = preprocess(data, spec(16, 16))
        np.testing.assert_array_equal(preprocess_image(Image.open(io.BytesIO(data)), spec(16, 16)), expected)


def test_inks_are_kept_as_they_are(tmp_path: Path) -> None:
    """Of a TIFF that was compressed as JPEG, too."""
    Image.fromarray(noise(32, 32)).convert("CMYK").save(tmp_path / "a.tif", compression="jpeg", quality=30)
    with Image.open(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded(image)))), np.asarray(image))
    with Image.open(tmp_path / "a.tif") as image:
        pass
    with pytest.raises(UndecodableImage, match="can't be decoded"):
        preprocess_image(image, spec(8, 8))


# --- modes


@pytest.mark.parametrize(
    ("alpha", "expected"), [(255, (200, 100, 0)), (0, WHITE), (51, (244, 224, 204)), (128, (227, 177, 127))]
)
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_rgba_is_laid_over_white(format: str, alpha: int, expected: tuple[int, int, int]) -> None:
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    data = saved(Image.new("RGBA", (2, 2), (200, 100, 0, alpha)), format, **options)
    assert np.abs(pixels_of(data, 2, 2).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("alpha", "expected"), [(255, 40), (0, 255), (51, 212)])
def test_grey_with_alpha_is_laid_over_white(alpha: int, expected: int) -> None:
    data = saved(Image.new("LA", (2, 2), (40, alpha)), "PNG")
    assert np.abs(pixels_of(data, 2, 2).astype(int) - expected).max() <= 1


def test_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putdata([0, 1])
    data = saved(image, "PNG", transparency=1)
    assert pixels_of(data, 1, 2).tolist() == [[list(RED), list(WHITE)]]


def test_half_transparent_palette_entry_is_mixed_with_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putdata([0, 1])
    data = saved(image, "PNG", transparency=bytes([255, 128]))
    assert np.abs(pixels_of(data, 1, 2).astype(int) - [[RED, (127, 127, 255)]]).max() <= 1


def test_transparent_gif_colour_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putdata([0, 1])
    assert pixels_of(saved(image, "GIF", transparency=1), 1, 2).tolist() == [[list(RED), list(WHITE)]]


def test_transparent_rgb_colour_is_white() -> None:
    data = png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], trns=struct.pack(">3H", 1, 2, 3))
    assert pixels_of(data, 1, 2).tolist() == [[list(WHITE), [4, 5, 6]]]


def test_transparent_grey_level_is_white() -> None:
    data = png(2, 1, 8, 0, [bytes([1, 4])], trns=struct.pack(">H", 1))
    assert pixels_of(data, 1, 2).tolist() == [[list(WHITE), [4, 4, 4]]]


def test_transparent_16_bit_grey_level_is_white() -> None:
    data = png(2, 1, 16, 0, [struct.pack(">2H", 0x1234, 0x5678)], trns=struct.pack(">H", 0x1234))
    assert pixels_of(data, 1, 2).tolist() == [[list(WHITE), [0x56] * 3]]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "JPEG"])
def test_greyscale_gives_three_equal_channels(format: str) -> None:
    grey = np.arange(0, 240, 15, dtype=np.uint8).reshape(4, 4).repeat(8, axis=0).repeat(8, axis=1)
    result = pixels_of(saved(Image.fromarray(grey), format), 32, 32)
    np.testing.assert_allclose(result, np.stack([grey] * 3, axis=2), atol=3 if format == "JPEG" else 0)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_shallow_grey_spans_black_to_white(depth: int) -> None:
    data = png(2, 1, depth, 0, [bytes([0, 255]) if depth == 8 else bytes([(1 << depth) - 1 << 8 - 2 * depth])])
    assert pixels_of(data, 1, 2).tolist() == [[[0] * 3, [255] * 3]]


def test_palette_is_looked_up() -> None:
    image = noise(4, 4)
    paletted = Image.fromarray(image).quantize(16)
    np.testing.assert_array_equal(pixels_of(saved(paletted, "PNG"), 4, 4), np.asarray(paletted.convert("RGB")))


@pytest.mark.parametrize(
    ("inks", "rgb"),
    [
        ((0, 0, 0, 0), WHITE),
        ((0, 255, 255, 0), RED),
        ((255, 255, 0, 0), BLUE),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0, 0, 0, 100), (155, 155, 155)),
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_inks_become_light(format: str, inks: tuple[int, int, int, int], rgb: tuple[int, int, int]) -> None:
    data = saved(Image.new("CMYK", (16, 16), inks), format)
    assert np.abs(pixels_of(data, 16, 16).astype(int) - rgb).max() <= 4


def test_16_bit_grey_png_keeps_the_high_byte() -> None:
    data = png(4, 1, 16, 0, [struct.pack(">4H", 0x0000, 0x12FF, 0xFE00, 0xFFFF)])
    assert pixels_of(data, 1, 4)[0].tolist() == [[0] * 3, [0x12] * 3, [0xFE] * 3, [0xFF] * 3]


def test_16_bit_rgb_png_keeps_the_high_bytes() -> None:
    data = png(2, 1, 16, 2, [struct.pack(">6H", 0x1234, 0xFEDC, 0x80FF, 0x00FF, 0x0100, 0xFFFF)])
    assert pixels_of(data, 1, 2).tolist() == [[[0x12, 0xFE, 0x80], [0x00, 0x01, 0xFF]]]


def test_16_bit_grey_with_alpha_is_laid_over_white() -> None:
    data = png(2, 1, 16, 4, [struct.pack(">4H", 0x1234, 0xFFFF, 0x4000, 0)])
    assert pixels_of(data, 1, 2).tolist() == [[[0x12] * 3, list(WHITE)]]


def test_16_bit_rgba_is_laid_over_white() -> None:
    data = png(2, 1, 16, 6, [struct.pack(">8H", 0x1234, 0xFEDC, 0x80FF, 0xFFFF, 0, 0, 0, 0)])
    assert pixels_of(data, 1, 2).tolist() == [[[0x12, 0xFE, 0x80], list(WHITE)]]


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bit_grey_tiff_keeps_the_high_byte(dtype: str) -> None:
    grey = np.array([[0x0000, 0x12FF], [0xFE00, 0xFFFF]], dtype)
    result = pixels_of(saved(Image.fromarray(grey), "TIFF"), 2, 2)
    assert result[..., 0].tolist() == [[0x00, 0x12], [0xFE, 0xFF]]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG", "MPO"])
def test_first_frame_of_several_counts(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:])
    assert np.abs(pixels_of(data, 8, 8).astype(int) - RED).max() <= 2


def test_float_pixels_are_refused() -> None:
    data = saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    with pytest.raises(UnsupportedImage, match="32-bit float"):
        preprocess(data, spec(4, 4))


# --- refusals


def test_no_bytes_are_an_empty_image() -> None:
    with pytest.raises(EmptyImage):
        preprocess(b"", spec(4, 4))


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"not an image",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"\x89PNG",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"RIFF\x10\0\0\0WAVEfmt ",
        bytes(10_000),
    ],
    ids=lambda data: repr(data[:10]),
)
def test_other_bytes_are_no_image(data: bytes) -> None:
    with pytest.raises(NotAnImage, match="JPEG, PNG, WEBP, BMP, GIF, TIFF"):
        preprocess(data, spec(4, 4))


@pytest.mark.parametrize("format", ["PPM", "ICO", "TGA", "PDF", "SGI", "DIB"])
def test_other_image_formats_are_no_image(format: str) -> None:
    with pytest.raises(NotAnImage):
        preprocess(encode(noise(16, 16), format), spec(16, 16))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("format", FORMATS)
def test_truncated_image_is_undecodable(format: str, share: float) -> None:
    data = encode(noise(64, 64), format)
    data = data[: int(share * len(data))] if format != "JPEG" else data[: int((0.2 + 0.8 * share) * len(data))]
    with pytest.raises(UndecodableImage, match="truncated or damaged"):
        preprocess(data, spec(64, 64))


@pytest.mark.parametrize("format", FORMATS)
def test_no_prefix_of_an_image_raises_anything_else(format: str) -> None:
    data = encode(noise(24, 24), format)
    for length in range(1, len(data), max(1, len(data) // 60)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                preprocess(data[:length], spec(24, 24))
            except ImageError as error:
                assert str(error)  # noqa: PT017  a prefix may also be a whole image


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_bytes_raise_nothing_but_image_errors(format: str, rng: np.random.Generator) -> None:
    data = np.frombuffer(encode(noise(24, 24), format), np.uint8)
    for _ in range(60):
        damaged = data.copy()
        where = rng.integers(0, len(data), 8)
        damaged[where] = rng.integers(0, 256, 8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                preprocess(damaged.tobytes(), spec(24, 24), Limits(max_pixels=10**6))
            except ImageError as error:
                assert str(error)  # noqa: PT017  damage may also go unnoticed


# --- limits


def test_bytes_up_to_the_limit_are_taken() -> None:
    data = encode(noise(8, 8))
    assert preprocess(data, spec(8, 8), Limits(max_bytes=len(data))).shape == (8, 8, 3)


def test_bytes_beyond_the_limit_are_refused() -> None:
    data = encode(noise(8, 8))
    with pytest.raises(ImageTooLarge, match=f"{len(data)} bytes; the limit is {len(data) - 1}"):
        preprocess(data, spec(8, 8), Limits(max_bytes=len(data) - 1))


@pytest.mark.parametrize("format", FORMATS)
def test_pixels_up_to_the_limit_are_taken(format: str) -> None:
    data = encode(noise(10, 12), format)
    assert preprocess(data, spec(4, 4), Limits(max_pixels=120)).shape == (4, 4, 3)


@pytest.mark.parametrize("format", FORMATS)
def test_pixels_beyond_the_limit_are_refused(format: str) -> None:
    data = encode(noise(10, 12), format)
    with pytest.raises(ImageTooLarge, match="12 x 10 pixels; the limit is 119 "):
        preprocess(data, spec(4, 4), Limits(max_pixels=119))


def test_default_limits_take_a_48_megapixel_photograph_of_20_megabytes() -> None:
    assert Limits().max_pixels >= 8000 * 6000
    assert Limits().max_bytes == 20 * 2**20


@pytest.mark.parametrize("action", ["ignore", "error"])
@pytest.mark.parametrize("side", [7100, 10_000, 20_000, 2**31 - 1])
def test_refusal_of_many_pixels_does_not_depend_on_the_warning_filter(side: int, action: Any) -> None:
    data = png(side, side, 8, 2, [])
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(ImageTooLarge, match="limit is 50,000,000 pixels"):
            preprocess(data, spec(4, 4))


PEAK = """
import re, sys
from pathlib import Path
from runtime import ImageTooLarge
from runtime.manifest import InputSpec
from runtime.preprocess import preprocess

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

data = Path(sys.argv[1]).read_bytes()
before = peak()
for resize in ("center", "squash", "border"):
    try:
        print(preprocess(data, InputSpec(16, 16, (0, 0, 0), (1, 1, 1), resize)).shape)
    except ImageTooLarge:
        print("ImageTooLarge")
print(peak() - before)
"""


def outcome_and_peak(data: bytes, folder: Path) -> tuple[set[str], float]:
    """What preprocessing comes to by any rule, in a process of its own, and the MiB by which its peak memory grows."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's account of peak memory")
    file = folder / "image"
    file.write_bytes(data)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(file)], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    *outcomes, growth = run.stdout.splitlines()
    return set(outcomes), float(growth)


def test_a_decompression_bomb_is_refused_without_decoding(tmp_path: Path) -> None:
    data = png(10_000, 15_000, 1, 0, (bytes(1250) for _ in range(15_000)))
    assert len(data) < 100_000
    outcomes, growth = outcome_and_peak(data, tmp_path)
    assert outcomes == {"ImageTooLarge"}
    assert growth < 50


def test_an_extreme_aspect_ratio_needs_little_memory(tmp_path: Path) -> None:
    """By shorter side, 1 x 1,000,000 pixels would first become 16 x 16,000,000."""
    outcomes, growth = outcome_and_peak(png(1, 1_000_000, 8, 0, (b"\x80" for _ in range(1_000_000))), tmp_path)
    assert outcomes == {"(16, 16, 3)"}
    assert growth < 50


# --- large JPEGs


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return smooth(3000, 4000)


def _full_decode(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).resize((32, 32), Image.Resampling.BILINEAR, (500, 0, 3500, 3000)))


@pytest.fixture(scope="module")
def large_jpeg(photograph: Image.Image) -> bytes:
    return saved(photograph, "JPEG", quality=90)


def test_draft_decoding_is_close_to_a_full_decode(large_jpeg: bytes) -> None:
    difference = np.abs(preprocess(large_jpeg, spec(32, 32)).astype(int) - _full_decode(large_jpeg))
    assert difference.mean() < 1
    assert difference.max() <= 6


def test_draft_decoding_is_much_quicker_than_a_full_decode(large_jpeg: bytes) -> None:
    def seconds(function: Callable[[], object]) -> float:
        times = []
        for _ in range(3):
            start = time.thread_time()
            function()
            times.append(time.thread_time() - start)
        return min(times)

    draft = seconds(lambda: preprocess(large_jpeg, spec(32, 32)))
    assert draft < 0.6 * seconds(lambda: _full_decode(large_jpeg))


def test_draft_decoding_leaves_enough_detail_for_a_small_crop() -> None:
    """Stripes finer than the draft's coarsest scale, seen through a crop of a tenth."""
    stripes = np.zeros((1600, 1600, 3), np.uint8)
    stripes[:, (np.arange(1600) // 10) % 2 == 1] = 255
    data = encode(stripes, "JPEG", quality=95)
    result = preprocess(data, spec(80, 80, crop_fraction=0.1)).astype(int)
    expected = np.asarray(Image.fromarray(stripes).resize((80, 80), Image.Resampling.BILINEAR, (720, 720, 880, 880)))
    assert np.abs(result - expected).mean() < 8


# --- the resize rules


def _triangle(size: int, start: float, stop: float, out: int) -> npt.NDArray[np.float64]:
    """Antialiased bilinear resampling of [start, stop) as a matrix (out, size)."""
    scale = (stop - start) / out
    centres = start + (np.arange(out) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(scale, 1))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("height", "width", "out", "crop_fraction", "box"),
    [
        (40, 100, (16, 16), 1.0, (30, 0, 70, 40)),
        (100, 40, (16, 16), 1.0, (0, 30, 40, 70)),
        (100, 40, (16, 16), 0.8, (4, 34, 36, 66)),
        (60, 60, (15, 20), 1.0, (0, 7.5, 60, 52.5)),
        (33, 57, (16, 24), 1.0, (3.75, 0, 53.25, 33)),
        (10, 30, (20, 20), 1.0, (10, 0, 20, 10)),
        (256, 320, (28, 28), 0.875, (48, 16, 272, 240)),
    ],
)
def test_center_is_the_triangle_filter_over_the_box(
    height: int, width: int, out: tuple[int, int], crop_fraction: float, box: tuple[float, float, float, float]
) -> None:
    image = noise(height, width)
    left, top, right, bottom = box
    rows, columns = _triangle(height, top, bottom, out[0]), _triangle(width, left, right, out[1])
    expected = np.einsum("hy,yxc,wx->hwc", rows, image.astype(float), columns)
    result = fit(Image.fromarray(image), spec(*out, crop_fraction=crop_fraction))
    assert np.abs(result - expected).max() <= 1.1


SIZES = [(40, 100), (100, 40), (16, 24), (17, 31), (5, 3), (300, 301)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("crop_fraction", [1.0, 0.5])
def test_center_equals_pillows_fit(size: tuple[int, int], interpolation: Interpolation, crop_fraction: float) -> None:
    image = Image.fromarray(noise(*size))
    filter_ = Image.Resampling[interpolation.upper()]
    expected = ImageOps.fit(image, (24, 16), filter_, bleed=(1 - crop_fraction) / 2)
    result = fit(image, spec(16, 24, interpolation=interpolation, crop_fraction=crop_fraction))
    np.testing.assert_allclose(result, np.asarray(expected), atol=1)


def test_center_of_seven_eighths_cuts_224_of_256() -> None:
    image = noise(256, 256)
    result = fit(Image.fromarray(image), spec(224, 224, crop_fraction=0.875))
    np.testing.assert_array_equal(result, image[16:240, 16:240])


@pytest.mark.parametrize("side", [16, 28, 224, 299, 331])
@pytest.mark.parametrize("crop_fraction", [1.0, 0.875])
def test_center_takes_an_image_of_any_size(side: int, crop_fraction: float) -> None:
    target = spec(side, side, crop_fraction=crop_fraction, interpolation="nearest")
    for width in range(1, 400):
        assert fit(Image.new("RGB", (width, width + 1)), target).shape == (side, side, 3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", FILTERS)
def test_squash_is_pillows_resize(size: tuple[int, int], interpolation: Interpolation) -> None:
    image = Image.fromarray(noise(*size))
    expected = image.resize((24, 16), Image.Resampling[interpolation.upper()])
    result = fit(image, spec(16, 24, resize="squash", interpolation=interpolation))
    np.testing.assert_array_equal(result, np.asarray(expected))


@pytest.mark.parametrize(
    ("size", "out"), [((16, 32), (16, 16)), ((32, 16), (16, 16)), ((100, 50), (20, 30)), ((4, 8), (32, 32))]
)
@pytest.mark.parametrize("interpolation", FILTERS)
def test_border_equals_pillows_pad_with_white(
    size: tuple[int, int], out: tuple[int, int], interpolation: Interpolation
) -> None:
    image = Image.fromarray(noise(*size))
    filter_ = Image.Resampling[interpolation.upper()]
    expected = ImageOps.pad(image, (out[1], out[0]), filter_, color="white")
    result = fit(image, spec(*out, resize="border", interpolation=interpolation))
    np.testing.assert_array_equal(result, np.asarray(expected))


def test_crop_fraction_matters_to_center_alone() -> None:
    image = Image.fromarray(noise(40, 60))
    for resize, same in (("center", False), ("squash", True), ("border", True)):
        whole, cropped = (fit(image, spec(16, 16, resize=resize, crop_fraction=share)) for share in (1.0, 0.5))
        assert np.array_equal(whole, cropped) == same


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("interpolation", FILTERS)
def test_an_image_of_the_right_size_is_left_alone(resize: Resize, interpolation: Interpolation) -> None:
    image = noise(16, 24)
    result = fit(Image.fromarray(image), spec(16, 24, resize=resize, interpolation=interpolation))
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("resize", ["center", "squash"])
def test_one_pixel_fills_the_result(resize: Resize) -> None:
    data = encode(np.array([[[10, 20, 30]]], np.uint8))
    result = preprocess(data, spec(16, 16, resize=resize))
    np.testing.assert_array_equal(result, np.broadcast_to([10, 20, 30], (16, 16, 3)))


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
@pytest.mark.parametrize("resize", RESIZES)
def test_a_line_of_pixels_keeps_its_colour(resize: Resize, size: tuple[int, int]) -> None:
    data = encode(np.full((*size, 3), 90, np.uint8))
    result = preprocess(data, spec(16, 16, resize=resize))
    assert set(np.unique(result)) == ({90, 255} if resize == "border" else {90})


def test_border_keeps_a_line_one_pixel_wide() -> None:
    result = fit(Image.new("RGB", (1, 20_000), RED), spec(16, 16, resize="border"))
    assert (result == RED).all(axis=2).sum() == 16


def test_a_jpeg_of_a_thousand_scans_is_refused_before_it_costs_time() -> None:
    data = encode(noise(64, 64), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(UnsupportedImage, match="more than 100 scans"):
        preprocess(data[:-2] + 1000 * scan + data[-2:], spec(8, 8))
    assert preprocess(data, spec(64, 64)).shape == (64, 64, 3)


def test_a_small_tiff_of_one_huge_tile_is_refused() -> None:
    """A 16 x 16 image whose only tile has 16,000 x 16,000 pixels."""
    tile = zlib.compress(bytes(16_000))  # never decoded
    tags = [
        (256, 4, 16), (257, 4, 16), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1),
        (322, 4, 16_000), (323, 4, 16_000), (324, 4, 8), (325, 4, len(tile)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag[:2], 1, tag[2]) for tag in tags)
    data = b"II*\0" + struct.pack("<I", 8 + len(tile)) + tile + directory + bytes(4)
    with pytest.raises(ImageTooLarge):
        preprocess(data, spec(8, 8))


@pytest.mark.parametrize("value", [-1, 65_536])
def test_32_bit_integers_beyond_16_bits_are_refused(value: int) -> None:
    pixels = np.full((4, 4), value, np.int32)
    with pytest.raises(UnsupportedImage, match="32-bit integer"):
        preprocess(encode(pixels, "TIFF"), spec(4, 4))  # type: ignore[arg-type]


def test_32_bit_integers_within_16_bits_are_taken_as_such() -> None:
    pixels = np.full((4, 4), 0x80FF, np.int32)
    assert (preprocess(encode(pixels, "TIFF"), spec(4, 4)) == 0x80).all()  # type: ignore[arg-type]
