"""The grid that images are resized on, against other libraries' pixels and their arithmetic done another way."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from benchmarks.pixels.images import DRAWN, drawn, encoded
from runtime import schema
from runtime.manifest import InputSpec
from runtime.preprocess import preprocess
from runtime.preprocess.resize import Grid, fit, grid

RECORDED = json.loads(Path(__file__).with_name("resized.json").read_text())

sides = st.integers(1, 3000)
inputs = st.integers(1, 400)


def spec(height: int, width: int, **options: Any) -> InputSpec:
    return InputSpec(height, width, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), **options)


# --- the same pixels as elsewhere


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["transform"])
def test_the_pixels_are_those_of_the_other_library(case: dict[str, Any]) -> None:
    """Hashes made by the libraries themselves, of images drawn in whole numbers."""
    rule = schema.build(InputSpec, case["input"])
    for size, expected in zip(RECORDED["sizes"], case["pixels"], strict=True):
        assert hashlib.sha256(fit(drawn(*size), rule).tobytes()).hexdigest()[:16] == expected, size


def test_every_rule_of_a_grid_is_recorded() -> None:
    rules = {case["input"]["resize"] for case in RECORDED["cases"]}
    assert rules == {"shortest", "squash", "border", "none"}
    assert {case["input"]["corner"] for case in RECORDED["cases"]} == {"round", "floor"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_is_decoded_whole_and_turned_before_the_grid_is_laid(orientation: int) -> None:
    """1201 x 803 to 64 x 64 by 73: every fraction of the decoder's would put the grid elsewhere."""
    data = encoded(drawn(1201, 803), orientation)
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image)
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels),
    }[orientation]
    whole = (109, 73) if orientation < 5 else (73, 109)
    left, top = (22, 4) if orientation < 5 else (4, 22)
    resized = Image.fromarray(np.ascontiguousarray(turned)).resize(whole, Image.Resampling.BICUBIC)
    expected = np.asarray(resized)[top : top + 64, left : left + 64]
    rule = spec(64, 64, resize="shortest", resize_to=73, interpolation="bicubic")
    np.testing.assert_array_equal(preprocess(data, rule), expected)


# --- the grid


@settings(deadline=None)
@given(width=sides, height=sides, to=inputs, wanted=st.tuples(inputs, inputs))
def test_shortest_is_torchvisions_whole_numbers(width: int, height: int, to: int, wanted: tuple[int, int]) -> None:
    """The long side is a floor of whole numbers; half a pixel goes to the even neighbour, a pad's odd pixel behind."""
    found = grid(width, height, spec(*wanted, resize="shortest", resize_to=to))
    assert (found.width, found.height) == (to * width // min(width, height), to * height // min(width, height))
    for start, whole, side in ((found.left, found.width, wanted[1]), (found.top, found.height, wanted[0])):
        spare = whole - side
        assert start == (spare // 2 + (spare % 4 == 3) if spare >= 0 else -(-spare // 2))


@settings(deadline=None)
@given(width=sides, height=sides, to=st.tuples(inputs, inputs), wanted=st.tuples(inputs, inputs))
@pytest.mark.parametrize("corner", ["round", "floor"])
@pytest.mark.parametrize("resize", ["shortest", "squash", "border", "none"])
def test_the_input_lies_in_the_middle(
    resize: str, corner: str, width: int, height: int, to: tuple[int, int], wanted: tuple[int, int]
) -> None:
    options = {} if resize == "none" else {"resize_to": to}
    found = grid(width, height, spec(*wanted, resize=resize, corner=corner, **options))
    for start, whole, side in ((found.left, found.width, wanted[1]), (found.top, found.height, wanted[0])):
        assert whole >= 1
        assert abs(2 * start - (whole - side)) <= 1
        assert (0 <= start <= whole - side) if whole >= side else (whole - side <= start <= 0)


@settings(deadline=None)
@given(width=sides, height=sides, to=st.tuples(inputs, inputs))
def test_a_pair_is_just_covered_and_a_border_just_fits(width: int, height: int, to: tuple[int, int]) -> None:
    covering = grid(width, height, spec(8, 8, resize="shortest", resize_to=to))
    assert covering.height >= to[0]
    assert covering.width >= to[1]
    assert covering.height == to[0] or covering.width == to[1]
    fitting = grid(width, height, spec(8, 8, resize="border", resize_to=to))
    assert fitting.height <= to[0]
    assert fitting.width <= to[1]
    assert fitting.height == to[0] or fitting.width == to[1]


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((500, 375), {"resize": "shortest", "resize_to": 256}, Grid(341, 256, 58, 16)),
        ((1920, 1080), {"resize": "shortest", "resize_to": 256}, Grid(455, 256, 116, 16)),
        ((1920, 1080), {"resize": "shortest", "resize_to": 256, "corner": "floor"}, Grid(455, 256, 115, 16)),
        ((1080, 1920), {"resize": "shortest", "resize_to": 235}, Grid(235, 417, 6, 96)),
        ((100, 50), {"resize": "squash"}, Grid(224, 224, 0, 0)),
        ((100, 50), {"resize": "squash", "resize_to": (256, 320)}, Grid(320, 256, 48, 16)),
        ((100, 50), {"resize": "border"}, Grid(224, 112, 0, -56)),
        ((100, 51), {"resize": "none"}, Grid(100, 51, -62, -86)),
    ],
    ids=str,
)
def test_grids_by_hand(size: tuple[int, int], options: dict[str, Any], expected: Grid) -> None:
    assert grid(*size, spec(224, 224, **options)) == expected


# --- what is around, and what is far too long


def test_a_small_image_is_laid_on_the_fill() -> None:
    image = Image.new("RGB", (10, 3), (10, 20, 30))
    for fill, colour in ((None, (0, 0, 0)), ((1, 2, 3), (1, 2, 3))):
        result = fit(image, spec(8, 8, resize="none", fill=fill))
        assert (result[2:5] == (10, 20, 30)).all()
        assert (result[:2] == colour).all()
        assert (result[5:] == colour).all()


@pytest.mark.parametrize("colour", ["ignore", "srgb"])
def test_the_fill_is_no_colour_of_the_images_profile(colour: str) -> None:
    """A grey image takes a coloured fill, whatever its own colours become."""
    buffer = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("L", (16, 8), 200).save(buffer, "PNG", icc_profile=profile)
    result = preprocess(buffer.getvalue(), spec(16, 16, resize="border", fill=(200, 10, 0), colour=colour))
    assert (result[:4] == (200, 10, 0)).all()
    assert (result[12:] == (200, 10, 0)).all()


@pytest.mark.parametrize("resampler", ["pillow", "torch"])
@pytest.mark.parametrize("turned", [False, True])
def test_an_endless_image_makes_no_endless_one(turned: bool, resampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resize(256) would make five million pixels a row of it. The input shows its middle: two and a half pixels."""
    pixels = np.zeros((3, 60_001, 3), np.uint8)
    pixels[:, 30_000] = 255
    image = Image.fromarray(np.ascontiguousarray(pixels.swapaxes(0, 1) if turned else pixels))
    made: list[int] = []
    resize = Image.Image.resize

    def watched(self: Image.Image, size: tuple[int, int], *arguments: Any) -> Image.Image:
        made.append(size[0] * size[1])
        return resize(self, size, *arguments)

    monkeypatch.setattr(Image.Image, "resize", watched)
    result = fit(image, spec(224, 224, resize="shortest", resize_to=256, resampler=resampler))
    assert sum(made) <= 224 * 224
    row = (result.swapaxes(0, 1) if turned else result)[0, :, 0].astype(float)
    expected = 255 * np.maximum(0, 1 - np.abs(np.arange(224) - 111.5) * 3 / 256)  # a triangle of two pixels' width
    np.testing.assert_allclose(row, expected, atol=3)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_box_alone_is_within_grey_levels_of_the_whole(interpolation: str) -> None:
    image = drawn(3000, 40)
    assert 3000 > 64 * 40
    rule = spec(32, 32, resize="shortest", resize_to=36, interpolation=interpolation)
    assert grid(3000, 40, rule) == Grid(2700, 36, 1334, 2)
    whole = image.resize((2700, 36), Image.Resampling[interpolation.upper()])
    expected = np.asarray(whole)[2:34, 1334:1366].astype(int)
    assert np.abs(fit(image, rule) - expected).max() <= 4


def test_drawn_images_have_every_aspect_ratio() -> None:
    assert len({round(width / height, 1) for width, height in DRAWN[::3]}) == 8
