"""Embedded profiles: colours against matrices worked out by hand, wherever the profile stands, and what is ignored."""

from __future__ import annotations

import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from runtime import schema
from runtime.manifest import InputSpec
from runtime.preprocess import preprocess
from runtime.preprocess.colour import MAX_PROFILE
from tests.profiles import ADOBE, P3, SRGB, as_srgb, grey_profile, ink_profile, linear, rgb_profile
from tests.writers import bmp, chunk, png

Pixels = npt.NDArray[np.uint8]
SIDE = 16
COLOURS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
SPACES = {"Display P3": (P3, 0.0), "Adobe RGB": (ADOBE, 2.19921875), "sRGB primaries, gamma 1.8": (SRGB, 1.8)}


def read(data: bytes, colour: Any = "srgb", side: int = SIDE, **options: Any) -> Pixels:
    return preprocess(data, InputSpec(side, side, (0, 0, 0), (1, 1, 1), colour=colour, **options))


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def bitmap(pixels: Pixels, profile: bytes) -> bytes:
    """A BMP of version 5 with a profile behind its pixels."""
    data = bytearray(bmp([row[:, ::-1].tobytes() for row in pixels[::-1]], SIDE, SIDE, 24, size=124))
    data[70:74] = struct.pack("<I", int.from_bytes(b"MBED", "big"))
    data[126:134] = struct.pack("<II", len(data) - 14, len(profile))
    return bytes(data) + profile


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "BMP"])
def test_colours_become_those_of_srgb(format: str, name: str) -> None:
    profile = rgb_profile(*SPACES[name])
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(Image.fromarray(COLOURS), format, icc_profile=profile, **options)
    if format == "BMP":
        data = bitmap(COLOURS, profile)
    expected = as_srgb(COLOURS, *SPACES[name])
    assert np.abs(expected - COLOURS).mean() > 3
    assert np.abs(read(data) - expected).max() <= 2
    np.testing.assert_array_equal(read(data, "ignore"), COLOURS)


def test_colours_of_a_jpeg_with_its_profile_in_pieces() -> None:
    blocks = COLOURS[:2, :2].repeat(8, axis=0).repeat(8, axis=1)
    profile = rgb_profile(*SPACES["Display P3"]) + bytes(150_000)  # three segments
    data = saved(Image.fromarray(blocks), "JPEG", quality=100, subsampling=0, icc_profile=profile)
    assert np.abs(read(data) - as_srgb(blocks, P3, 0.0)).max() <= 6


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_has_profiles_too(mode: str) -> None:
    grey = COLOURS[..., 0]
    image = Image.fromarray(grey).convert(mode)
    light = linear(np.asarray(image.convert("L")) / 255, 1.0)
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    result = read(saved(image, "PNG", icc_profile=grey_profile(1.0)))
    assert np.abs(result - expected[..., np.newaxis]).max() <= 2


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_inks_are_the_colours_that_their_profile_says(format: str) -> None:
    lab = np.zeros((2, 2, 2, 2, 3))
    lab[0, 0, 0, 0] = 100, 0, 0
    lab[1, 0, 0, 0] = 54.29, 80.81, 69.89  # sRGB's red
    data = saved(Image.new("CMYK", (SIDE, SIDE), (255, 0, 0, 0)), format, icc_profile=ink_profile(lab))
    assert np.abs(read(data).astype(int) - [255, 0, 0]).max() <= 8
    assert np.abs(read(data, "ignore").astype(int) - [0, 255, 255]).max() <= 4
    white = saved(Image.new("CMYK", (SIDE, SIDE)), format, icc_profile=ink_profile(lab))
    assert read(white).min() >= 253


def test_palettes_and_transparency_are_of_the_profile_too() -> None:
    profile = rgb_profile(*SPACES["Display P3"])
    palette = Image.new("P", (SIDE, SIDE), 1)
    palette.putpalette([0, 0, 0, 200, 50, 100])
    expected = as_srgb(np.array([[[200, 50, 100]]], np.uint8), P3, 0.0)
    assert np.abs(read(saved(palette, "PNG", icc_profile=profile)) - expected).max() <= 2
    half = saved(Image.new("RGBA", (SIDE, SIDE), (200, 50, 100, 0)), "PNG", icc_profile=profile)
    assert (read(half) == 255).all()


@pytest.mark.parametrize("resize", ["center", "squash", "border"])
def test_the_border_stays_white(resize: str) -> None:
    for image, profile in (
        (Image.new("RGB", (40, 10), (9, 200, 30)), rgb_profile(*SPACES["Adobe RGB"])),
        (Image.new("L", (40, 10), 30), grey_profile(1.0)),
    ):
        result = read(saved(image, "PNG", icc_profile=profile), resize=resize)
        assert ((result == 255).all(axis=2).sum() == 12 * SIDE) == (resize == "border")


def test_srgbs_own_profiles_cost_nothing() -> None:
    for profile in (rgb_profile(SRGB, 0.0), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        data = saved(Image.fromarray(COLOURS), "PNG", icc_profile=profile)
        np.testing.assert_array_equal(read(data), COLOURS)


DAMAGED = rgb_profile(*SPACES["Display P3"])
IGNORED = {
    "empty": b"",
    "noise": bytes(range(256)) * 4,
    "cut short": DAMAGED[:200],
    "no tags": DAMAGED[:128] + bytes(4),
    "tags beyond the end": DAMAGED[:128] + struct.pack(">I", 10_000_000) + DAMAGED[132:],
    "of greys": grey_profile(1.0),
    "a device link": rgb_profile(*SPACES["Display P3"], kind=b"link"),
    "too large": DAMAGED + bytes(MAX_PROFILE),
}


@pytest.mark.parametrize("name", IGNORED)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG"])
def test_a_profile_that_makes_no_sense_is_ignored(format: str, name: str) -> None:
    plain = saved(Image.fromarray(COLOURS), format)
    np.testing.assert_array_equal(
        read(saved(Image.fromarray(COLOURS), format, icc_profile=IGNORED[name])), read(plain, "ignore")
    )


@pytest.mark.parametrize("name", [*(name for name in IGNORED if name != "of greys"), "of RGB"])
def test_inks_with_a_profile_that_makes_no_sense_are_those_of_no_profile(name: str) -> None:
    """They are resized after they became RGB either way, which is not the same as before."""
    inks = np.random.default_rng(0).integers(0, 256, (3 * SIDE, 4 * SIDE, 4), dtype=np.uint8)
    image = Image.frombytes("CMYK", (4 * SIDE, 3 * SIDE), inks.tobytes())
    data = saved(image, "TIFF", icc_profile={**IGNORED, "of RGB": DAMAGED}[name])
    light = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(read(data, resize="squash"), light)


def test_a_profile_of_rgb_on_grey_is_ignored() -> None:
    grey = Image.fromarray(COLOURS[..., 0])
    data = saved(grey, "PNG", icc_profile=rgb_profile(*SPACES["Display P3"]))
    np.testing.assert_array_equal(read(data)[..., 0], COLOURS[..., 0])


def test_gamma_and_chromaticities_of_a_png_are_ignored() -> None:
    before = [(b"gAMA", struct.pack(">I", 100_000)), (b"cHRM", struct.pack(">8I", *[30_000] * 8))]
    np.testing.assert_array_equal(read(png(COLOURS, 8, 2, before=before)), COLOURS)


def test_a_profile_of_gigabytes_in_a_small_png_is_not_unpacked() -> None:
    packed = zlib.compress(bytes(200_000_000), 1)
    before = [(b"iCCP", b"bomb\0\0" + packed)]
    started = time.thread_time()
    np.testing.assert_array_equal(read(png(COLOURS, 8, 2, before=before)), COLOURS)
    assert time.thread_time() - started < 1
    assert len(chunk(b"iCCP", packed)) > 100_000


def test_a_large_image_is_converted_at_the_models_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    apply = ImageCms.ImageCmsTransform.apply
    monkeypatch.setattr(
        ImageCms.ImageCmsTransform, "apply", lambda t, image: sizes.append(image.size) or apply(t, image)
    )
    read(saved(Image.new("RGB", (900, 700)), "PNG", icc_profile=rgb_profile(*SPACES["Display P3"])))
    assert sizes[-1] == (SIDE, SIDE)
    assert (900, 700) not in sizes


def test_manifests_of_before_ignore_profiles() -> None:
    document = {"height": 4, "width": 4, "mean": [0.0] * 3, "std": [1.0] * 3}
    assert schema.build(InputSpec, document).colour == "ignore"
    assert schema.build(InputSpec, {**document, "colour": "srgb"}).colour == "srgb"
    with pytest.raises(ValueError, match="colour: expected one of"):
        schema.build(InputSpec, {**document, "colour": "p3"})
