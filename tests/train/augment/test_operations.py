"""Operations on whole batches, against Pillow's on each image, and geometry against indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from train.augment import colours, operations

COUNT, HEIGHT, WIDTH = 4, 11, 14


@pytest.fixture
def images() -> Tensor:
    """uint8 values as float32, of several contrasts, one image flat."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, (COUNT, 3, HEIGHT, WIDTH)).astype(np.float32)
    drawn[1] = drawn[1] // 4 + 60
    drawn[2] = 77
    drawn[3] = rng.integers(0, 8, (3, HEIGHT, WIDTH)) ** 2
    return torch.from_numpy(drawn)


def pillow(image: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """What Pillow makes of one image."""
    given = Image.fromarray(image.permute(1, 2, 0).numpy().astype(np.uint8))
    return torch.from_numpy(np.array(change(given))).permute(2, 0, 1).float()


@pytest.mark.parametrize(
    ("operation", "enhancer", "tolerance"),
    [
        (colours.brightened, ImageEnhance.Brightness, 1.0),
        (colours.saturated, ImageEnhance.Color, 2.0),
        (colours.contrasted, ImageEnhance.Contrast, 2.0),
        (operations.sharpened, ImageEnhance.Sharpness, 2.0),
    ],
)
def test_enhancements(images: Tensor, operation: Any, enhancer: Any, tolerance: float) -> None:
    """Pillow rounds the grey image and the smoothed one, which a factor of 2 doubles."""
    factors = torch.tensor([0.0, 0.4, 1.0, 1.9])
    for image, factor, found in zip(images, factors.tolist(), operation(images, factors), strict=True):
        expected = pillow(image, lambda given, factor=factor: enhancer(given).enhance(factor))  # type: ignore[misc]
        assert (found - expected).abs().max() <= tolerance


def test_what_needs_no_magnitude(images: Tensor) -> None:
    nothing = torch.zeros(COUNT)
    for image, even, wide in zip(
        images, operations.equalized(images, nothing), operations.autocontrasted(images, nothing), strict=True
    ):
        torch.testing.assert_close(even, pillow(image, ImageOps.equalize), rtol=0, atol=0)
        torch.testing.assert_close(wide, pillow(image, ImageOps.autocontrast), rtol=0, atol=1)


def test_solarized_and_posterized(images: Tensor) -> None:
    thresholds, bits = [0, 60, 128, 255], [1, 2, 4, 8]
    inverted = operations.solarized(images, torch.tensor(thresholds).float())
    coarse = operations.posterized(images, torch.tensor(bits).float())
    for i, image in enumerate(images):
        torch.testing.assert_close(inverted[i], pillow(image, lambda g, t=thresholds[i]: ImageOps.solarize(g, t)))  # type: ignore[misc]
        torch.testing.assert_close(coarse[i], pillow(image, lambda g, b=bits[i]: ImageOps.posterize(g, b)))  # type: ignore[misc]


@pytest.mark.parametrize("axis", [2, 3])
def test_translations(images: Tensor, axis: int) -> None:
    operation = operations.translated_x if axis == 3 else operations.translated_y
    by = [0, 3, -2, 40]
    for image, shift, found in zip(images, by, operation(images, torch.tensor(by).float()), strict=True):
        length = image.shape[axis - 1]
        places = torch.arange(length) - shift
        inside = (places >= 0) & (places < length)
        taken = image.index_select(axis - 1, places.clamp(0, length - 1))
        expected = taken * (inside[:, None] if axis == 2 else inside)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-2)


def test_shears(images: Tensor) -> None:
    by = torch.tensor([1.0, -1.0, 0.0, 2.0])
    rows, columns = operations.sheared_x(images, by), operations.sheared_y(images, by)
    for i, slope in enumerate(by.int().tolist()):
        for v in range(HEIGHT):
            for u in range(WIDTH):
                across, down = u + slope * v, v + slope * u
                expected = images[i, :, v, across] if 0 <= across < WIDTH else torch.zeros(3)
                torch.testing.assert_close(rows[i, :, v, u], expected, rtol=0, atol=1e-2)
                expected = images[i, :, down, u] if 0 <= down < HEIGHT else torch.zeros(3)
                torch.testing.assert_close(columns[i, :, v, u], expected, rtol=0, atol=1e-2)


def test_rotations(images: Tensor) -> None:
    square = images[..., :HEIGHT]
    found = operations.rotated(square, torch.tensor([90.0, 180.0, -90.0, 0.0]))
    for image, turns, turned in zip(square, (1, 2, -1, 0), found, strict=True):
        torch.testing.assert_close(turned, image.rot90(turns, (1, 2)), rtol=0, atol=2e-2)


def test_a_small_rotation_is_pillows() -> None:
    """Bilinear, of a smooth image, away from the border."""
    v, u = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    smooth = torch.stack([4 * u + 2 * v, 7 * v, 120 + 2 * u])[None]
    found = operations.rotated(smooth, torch.tensor([25.0]))[0]
    expected = pillow(smooth[0], lambda image: image.rotate(25, Image.Resampling.BILINEAR))
    assert (found - expected)[:, 8:24, 8:24].abs().max() <= 1.0


def test_every_image_by_its_own_operation(images: Tensor) -> None:
    chosen, by = torch.tensor([1, 0, 1, 2]), torch.tensor([2.0, 0.0, -1.0, 0.5])
    found = operations.apply([operations.unchanged, operations.translated_x, operations.BRIGHTNESS], images, chosen, by)
    torch.testing.assert_close(found[1], images[1])
    torch.testing.assert_close(found[0, :, :, 2:], images[0, :, :, :-2], rtol=0, atol=1e-2)
    torch.testing.assert_close(found[2, :, :, :-1], images[2, :, :, 1:], rtol=0, atol=1e-2)
    torch.testing.assert_close(found[3], (images[3] * 1.5).clamp(0, 255))
