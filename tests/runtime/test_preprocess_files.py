"""What stands in a file beside its pixels: kinds of JPEG, what follows one, texts of a PNG, other containers."""

from __future__ import annotations

import gc
import gzip
import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, JpegImagePlugin

from runtime.exceptions import ImageError, ImageTooLarge, NotAnImage, UndecodableImage, UnsupportedImage
from runtime.manifest import InputSpec, Resize
from runtime.preprocess import FORMATS, Limits, formats, jpeg, preprocess
from tests.writers import chunk, png, segment, tiff_of

Pixels = npt.NDArray[np.uint8]
GREY = np.random.default_rng(0).integers(0, 256, (9, 11), dtype=np.uint8)
SIX = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def read(data: bytes, height: int = 9, width: int = 11, **limits: int) -> Pixels:
    return preprocess(data, InputSpec(height, width, (0, 0, 0), (1, 1, 1)), Limits(**limits))


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


# --- JPEG


def lossless(planes: npt.NDArray[np.integer], names: bytes = b"RGB") -> bytes:
    """SOF3 (T.81 annex H) of [height, width, channels]: each sample less its left neighbour, Huffman codes of 4 bits."""
    height, width, channels = planes.shape
    values = planes.astype(int)
    left = np.empty_like(values)
    left[:, 1:] = values[:, :-1]
    left[1:, 0] = values[:-1, 0]
    left[0, 0] = 128
    bits: list[str] = []
    for difference in (values - left).ravel().tolist():
        length = abs(difference).bit_length()
        bits.append(f"{length:04b}")
        if length:
            bits.append(f"{difference if difference > 0 else difference + (1 << length) - 1:0{length}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    entropy = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    components = names[:channels] if channels > 1 else b"\1"
    frame = struct.pack(">BHHB", 8, height, width, channels) + b"".join(bytes([c, 0x11, 0]) for c in components)
    table = bytes([0, 0, 0, 0, 9] + [0] * 12) + bytes(range(9))
    scan = bytes([channels]) + b"".join(bytes([c, 0]) for c in components) + bytes([1, 0, 0])
    return b"\xff\xd8" + segment(0xC3, frame) + segment(0xC4, table) + segment(0xDA, scan) + entropy + b"\xff\xd9"


@pytest.fixture
def drafts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked to be drafted."""
    asked: list[str] = []
    draft = JpegImagePlugin.JpegImageFile.draft

    def watched(image: Any, *arguments: Any) -> Any:
        asked.append(image.mode)
        return draft(image, *arguments)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", watched)
    return asked


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("small", [False, True])
def test_a_lossless_jpeg_is_decoded_whole(channels: int, small: bool, drafts: list[str]) -> None:
    """The decoder cannot shrink it as it decodes: Pillow up to 12.3 wrote beyond its buffer."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, channels), dtype=np.uint8)
    whole = np.broadcast_to(pixels, (200, 300, 3))
    size = (8, 12) if small else (200, 300)
    expected = np.asarray(Image.fromarray(np.ascontiguousarray(whole)).resize(size[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read(lossless(pixels), *size), expected)
    assert not drafts


@pytest.mark.parametrize(
    ("marker", "kind"),
    [
        (0xC0, None), (0xC1, "extended"), (0xC2, None), (0xC3, "lossless"),
        (0xC9, "arithmetic"), (0xCA, "arithmetic"), (0xCB, "arithmetic"),
    ],
)  # fmt: skip
def test_only_baseline_and_progressive_are_drafted(marker: int, kind: str | None, drafts: list[str]) -> None:
    data = bytearray(saved(Image.new("RGB", (640, 480)), "JPEG"))
    data[data.index(b"\xff\xc0") + 1] = marker
    found = jpeg.frame(bytes(data))
    assert found is not None
    assert found.scalable == (kind is None)
    try:
        read(bytes(data))
    except ImageError as error:
        assert kind is None or str(error).startswith(f"the {kind}")  # noqa: PT017  the decoder may also make something of it
    assert bool(drafts) == (kind is None)


@pytest.mark.parametrize("resize", ["center", "shortest", "squash", "border", "none"])
def test_the_rule_of_our_own_training_alone_drafts(resize: Resize, drafts: list[str]) -> None:
    """What the decoder shrinks is not what other libraries' networks were trained on."""
    image = Image.radial_gradient("L").resize((1280, 960)).convert("RGB")
    spec = InputSpec(8, 8, (0, 0, 0), (1, 1, 1), resize=resize, resize_to=9 if resize == "shortest" else None)
    preprocess(saved(image, "JPEG"), spec)
    assert bool(drafts) == (resize == "center")


@pytest.mark.parametrize("marker", [0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE])
def test_a_hierarchical_jpeg_is_refused_by_name(marker: int, drafts: list[str]) -> None:
    data = bytearray(saved(Image.new("RGB", (64, 48)), "JPEG"))
    place = data.index(b"\xff\xc0")
    if marker == 0xDE:
        data[place:place] = b"\xff\xde" + data[place + 2 : place + 19]
    else:
        data[place + 1] = marker
    with pytest.raises(UnsupportedImage, match="a hierarchical JPEG is not read"):
        read(bytes(data))
    assert not drafts


def test_a_second_frame_of_another_size_is_refused() -> None:
    data = saved(Image.new("RGB", (64, 48)), "JPEG")
    place = data.index(b"\xff\xc0")
    second = segment(0xC0, struct.pack(">BHHB", 8, 4, 4, 1) + bytes([1, 0x11, 0]))
    with pytest.raises(UnsupportedImage, match="hierarchical"):
        read(data[:place] + second + data[place:])


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (4, 12, "a JPEG of 12 bits a sample is not read; save it with 8"),
        (9, 2, "a JPEG of 2 components is not read"),
        (6, 0, "tells its height only after the pixels"),
    ],
)
def test_what_a_jpeg_may_be_and_is_not_read_is_named(at: int, value: int, message: str) -> None:
    data = bytearray(saved(Image.new("RGB", (64, 48)), "JPEG"))
    data[data.index(b"\xff\xc0") + at] = value
    with pytest.raises(UnsupportedImage, match=message):
        read(bytes(data))


@pytest.mark.parametrize(
    "tail", [b"\xff\xda" * 5000, b"ftypmp42" + b"\0\xff\xda\xff\xc3" * 400, bytes(10_000), b"\xff\xd8\xff\xda" * 300]
)
@pytest.mark.parametrize("progressive", [False, True])
def test_what_follows_the_end_of_a_jpeg_is_none_of_it(progressive: bool, tail: bytes) -> None:
    """As the films that telephones append to photographs."""
    data = saved(Image.new("RGB", (32, 32), (200, 30, 30)), "JPEG", progressive=progressive)
    np.testing.assert_array_equal(read(data + tail), read(data))


def test_scans_are_counted_up_to_the_end_and_not_in_other_segments() -> None:
    data = saved(Image.new("RGB", (32, 32), (200, 30, 30)), "JPEG", progressive=True)
    comment = segment(0xFE, b"\xff\xda" * 2000)
    np.testing.assert_array_equal(read(data[:2] + comment + data[2:]), read(data))
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(UnsupportedImage, match="more than 100 scans"):
        read(data[:-2] + 101 * scan + data[-2:])


def test_a_jpeg_of_millions_of_segments_or_restarts_is_refused_in_time() -> None:
    data = saved(Image.new("RGB", (32, 32)), "JPEG")
    started = time.thread_time()
    with pytest.raises(UnsupportedImage, match="10,000 segments"):
        read(data[:2] + segment(0xFE, b"") * 1_000_000 + data[2:])
    assert read(data[:-2] + b"\xff\xd0" * 1_000_000 + data[-2:] + b"\xff\xda" * 200).shape == (9, 11, 3)
    assert time.thread_time() - started < 2


# --- PNG

LONG = bytes(1_048_577)
TEXTS = {
    "zTXt": (b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
    "iTXt": (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LONG)),
    "iTXt, plain": (b"iTXt", b"Comment\0\0\0\0\0" + LONG),
    "tEXt": (b"tEXt", b"Comment\0" + LONG),
    "iCCP": (b"iCCP", b"profile\0\0" + zlib.compress(LONG)),
    "zTXt of no known method": (b"zTXt", b"Comment\0\7abc"),
    "iCCP of no known method": (b"iCCP", b"profile\0\7abc"),
    "iCCP without a name": (b"iCCP", b""),
    "short gAMA": (b"gAMA", b"\0"),
    "short cHRM": (b"cHRM", b"\0"),
    "short pHYs": (b"pHYs", b"\0"),
    "short acTL": (b"acTL", b"\0"),
    "private": (b"prVt", LONG),
}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("name", TEXTS)
def test_what_the_pixels_of_a_png_do_not_need_is_not_read(name: str, place: Any) -> None:
    data = png(GREY[..., np.newaxis], 8, 0, **{place: [TEXTS[name]]})
    np.testing.assert_array_equal(read(data)[..., 0], GREY)


def test_a_text_with_a_wrong_checksum_is_not_read() -> None:
    data = png(GREY[..., np.newaxis], 8, 0, before=[(b"tEXt", b"Comment\0abc")])
    np.testing.assert_array_equal(read(data.replace(b"abc", b"abd"))[..., 0], GREY)


def test_the_animation_of_a_png_is_not_read() -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for default in (False, True):
        data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=default)
        np.testing.assert_array_equal(read(data)[..., 0], GREY)


def test_sixty_thousand_texts_cost_little() -> None:
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000)))
    data = png(GREY[..., np.newaxis], 8, 0)
    started = time.thread_time()
    np.testing.assert_array_equal(read(data[:33] + text * 60_000 + data[33:])[..., 0], GREY)
    assert time.thread_time() - started < 2
    with pytest.raises(UnsupportedImage, match="100,000 chunks"):
        read(data[:33] + chunk(b"zTXt", b"") * 100_001 + data[33:])


# --- other containers


def test_gzip_says_so() -> None:
    with pytest.raises(NotAnImage, match=r"the bytes are gzip, .*send them unpacked"):
        read(gzip.compress(saved(Image.fromarray(GREY), "PNG")))


def container(*brands: bytes) -> bytes:
    body = brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I4s", 8 + len(body), b"ftyp") + body + bytes(64)


@pytest.mark.parametrize(
    ("brands", "name"),
    [((b"heic", b"mif1"), "HEIF"), ((b"mif1", b"heic"), "HEIF"), ((b"avif", b"mif1"), "AVIF"), ((b"mif1", b"avif"), "AVIF")],
)  # fmt: skip
def test_heif_and_avif_name_the_extra_that_reads_them(
    brands: tuple[bytes, ...], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "FORMATS", SIX)
    with pytest.raises(NotAnImage, match=rf"{name} is read where the extra `heif` is installed .*JPEG, PNG, WEBP, BMP"):
        read(container(*brands))


def test_a_film_is_no_image() -> None:
    with pytest.raises(NotAnImage, match="not an image of an accepted format"):
        read(container(b"mp42", b"isom"))


with_heif = pytest.mark.skipif(not formats.HEIF, reason="the extra `heif` is not installed")
SMOOTH = np.asarray(Image.fromarray(GREY).resize((64, 48), Image.Resampling.BICUBIC).convert("RGB"))


@with_heif
@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
def test_heif_and_avif_are_read_within_the_same_limits(format: str) -> None:
    data = saved(Image.fromarray(SMOOTH), format, quality=95)
    assert np.abs(read(data, 48, 64).astype(int) - SMOOTH).mean() < 3
    with pytest.raises(ImageTooLarge, match="64 x 48 pixels; the limit is 3,071 pixels"):
        read(data, max_pixels=64 * 48 - 1)
    for length in (40, len(data) // 2, len(data) - 20):
        with pytest.raises(UndecodableImage):
            read(data[:length])


@with_heif
@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
def test_heif_and_avif_are_upright_and_over_white(format: str) -> None:
    """An orientation in the EXIF data of HEIF says what was, not what is to be done (ISO 23008-12)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = SMOOTH if format == "HEIF" else np.rot90(SMOOTH).copy()
    data = saved(Image.fromarray(stored), format, exif=exif, quality=95)
    assert np.abs(read(data, 48, 64).astype(int) - SMOOTH).mean() < 3
    clear = saved(Image.new("RGBA", (32, 32), (255, 0, 0, 0)), format)
    assert read(clear, 32, 32).min() >= 253


# --- words

LIBRARIES = ("MAX_", "Plugin", "PIL", "libtiff", "libpng", "decoder error", "buffer", "0x")


def test_no_message_speaks_of_a_librarys_inside() -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    files = [saved(picture, format) for format in SIX] + [
        tiff_of(GREY[..., np.newaxis].astype(int), 8, 1, compression=8)
    ]
    messages = set()
    for data in files:
        for trial in range(60):
            damaged = bytearray(data[: len(data) - int(rng.integers(0, len(data)))] if trial % 2 else data)
            for place in rng.integers(0, min(len(damaged), 200), 4):
                damaged[place] = rng.integers(0, 256)
            try:
                read(bytes(damaged), max_pixels=10_000)
            except ImageError as error:
                messages.add(str(error))
    assert len(messages) > 8
    assert not [message for message in messages if any(word in message for word in LIBRARIES)]


@pytest.mark.parametrize("side", [101, 20_000, 2**31 - 1])
def test_a_message_about_a_limit_names_one(side: int) -> None:
    header = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    with pytest.raises(ImageTooLarge) as caught:
        read(header + chunk(b"IDAT", b""), max_pixels=10_000)
    assert str(caught.value).count("limit") == 1
    assert "10,000" in str(caught.value)


def test_formats_are_those_that_are_documented() -> None:
    assert FORMATS[:6] == SIX
    assert FORMATS[6:] == (("HEIF", "AVIF") if formats.HEIF else ())


def test_an_error_that_is_kept_keeps_no_image() -> None:
    """Whoever answers keeps it for a while; 5,000 damaged files made a service grow by hundreds of megabytes."""

    def images() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Image.Image) for thing in gc.get_objects())

    kept, before = [], images()
    for format in SIX:
        data = saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), format)
        for length in (len(data) // 2, len(data) * 3 // 4):
            with pytest.raises(ImageError) as caught:
                read(data[:length])
            kept.append(caught.value)
    assert len(kept) == 12
    assert images() == before
