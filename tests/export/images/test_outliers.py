"""The synthetic outliers: what each kind keeps of an image, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest

from export.images.outliers import KINDS, blended, jigsaw, permuted, scrambled, swapped, swirled, synthetic, zoomed
from tests.small import calibration_images

IMAGES = calibration_images(12)


def test_a_permuted_image_has_the_pixels_of_its_own(rng: np.random.Generator) -> None:
    found = permuted(IMAGES, rng)
    for before, after in zip(IMAGES.reshape(12, -1, 3), found.reshape(12, -1, 3), strict=True):
        assert sorted(map(tuple, before.tolist())) == sorted(map(tuple, after.tolist()))
    assert (found != IMAGES).any(axis=(1, 2, 3)).all()


def test_every_image_is_permuted_in_its_own_way(rng: np.random.Generator) -> None:
    same = np.repeat(IMAGES[:1], 5, axis=0)
    assert len({image.tobytes() for image in permuted(same, rng)}) == 5


def test_a_blend_is_the_mean_of_three_images(rng: np.random.Generator) -> None:
    found = blended(IMAGES, rng).astype(int)
    for index, image in enumerate(found):
        a = IMAGES[index].astype(int)
        others = [b for b in range(12) for c in range(12) if (image == (a + IMAGES[b] + IMAGES[c]) // 3).all()]
        assert others
        assert index not in others


def test_a_jigsaw_has_the_pieces_of_its_image(rng: np.random.Generator) -> None:
    """Of constant pieces, four pixels a side, here."""
    found = jigsaw(IMAGES, rng)
    for before, after in zip(
        IMAGES[:, ::4, ::4].reshape(12, -1, 3), found[:, ::4, ::4].reshape(12, -1, 3), strict=True
    ):
        assert sorted(map(tuple, before.tolist())) == sorted(map(tuple, after.tolist()))
    np.testing.assert_array_equal(found[:, ::4].repeat(4, axis=1)[:, :, ::4].repeat(4, axis=2), found)
    assert (found != IMAGES).any(axis=(1, 2, 3)).all()


def test_amplitudes_come_from_another_image(rng: np.random.Generator) -> None:
    """Where nothing leaves the range of a pixel: around grey, with little contrast."""
    soft = (IMAGES.astype(int) // 8 + 112).astype(np.uint8)
    found = swapped(soft, rng)
    spectra, own = (np.abs(np.fft.fft2(x.astype(float), axes=(1, 2))) for x in (soft, found))
    for index, amplitude in enumerate(own):
        errors = np.abs(spectra - amplitude).mean(axis=(1, 2, 3))
        assert errors.argmin() != index
        assert errors.min() < 0.1 * errors[index]
    before, after = (np.fft.fft2(x.astype(float), axes=(1, 2)) for x in (soft, found))
    low = np.angle(after[:, :3, :3] * before[:, :3, :3].conj())
    assert np.median(np.abs(low)) < 0.1


def test_a_scrambled_image_keeps_its_mean_and_amplitudes(rng: np.random.Generator) -> None:
    soft = (IMAGES.astype(int) // 8 + 112).astype(np.uint8)
    found = scrambled(soft, rng)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), soft.mean(axis=(1, 2)), atol=0.5)
    spectra = (np.abs(np.fft.fft2(x.astype(float), axes=(1, 2))).sum(axis=(1, 2, 3)) for x in (soft, found))
    np.testing.assert_allclose(*spectra, rtol=0.2)
    assert np.abs(np.corrcoef(soft[0].ravel(), found[0].ravel())[0, 1]) < 0.9


def test_a_swirl_leaves_the_corners_and_turns_the_centre(rng: np.random.Generator) -> None:
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[None, :, None, None] * 8, (1, 32, 32, 3))
    found = swirled(ramp, rng)
    assert found.shape == ramp.shape
    assert set(np.unique(found)) <= set(np.unique(ramp))
    assert np.abs(found[0, :2, :2].astype(int) - ramp[0, :2, :2]).max() < 100
    assert (found[0, 12:20, 12:20] != ramp[0, 12:20, 12:20]).mean() > 0.5


def test_a_zoom_is_a_part_enlarged(rng: np.random.Generator) -> None:
    ramp = np.broadcast_to(np.arange(30, dtype=np.uint8)[None, :, None, None] * 8, (20, 30, 30, 3))
    found = zoomed(ramp, rng).astype(int)
    spans = found[:, -1, 0, 0] - found[:, 0, 0, 0]
    assert spans.max() <= 80
    assert spans.min() >= 64
    assert len(set(found[:, 0, 0, 0].tolist())) > 5


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (3, 5, 9, 3), (2, 33, 17, 3)])
def test_images_of_any_size(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for found in synthetic(images).values():
        assert (found.shape, found.dtype) == (shape, np.uint8)


def test_the_same_images_give_the_same_outliers() -> None:
    first, again, other = synthetic(IMAGES), synthetic(IMAGES), synthetic(IMAGES, seed=1)
    assert list(first) == list(KINDS)
    for name, images in first.items():
        assert (images.dtype, images.shape) == (np.uint8, IMAGES.shape)
        np.testing.assert_array_equal(images, again[name])
        assert (images != other[name]).any() or name == "swirled"


def test_one_image_can_not_be_mixed() -> None:
    assert list(synthetic(IMAGES[:1])) == [name for name in KINDS if name not in ("blended", "swapped")]


def test_the_images_stay_as_they_are() -> None:
    before = IMAGES.copy()
    synthetic(IMAGES)
    np.testing.assert_array_equal(IMAGES, before)
