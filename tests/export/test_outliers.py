"""The synthetic outliers: what each kind keeps of an image, and what it does not."""

from __future__ import annotations

import numpy as np

from export.outliers import blended, noise, permuted, synthetic
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


def test_noise_has_every_value_equally_often(rng: np.random.Generator) -> None:
    found = noise(np.zeros((200, 16, 16, 3), np.uint8), rng)
    counts = np.bincount(found.ravel(), minlength=256)
    assert abs(counts / counts.mean() - 1).max() < 0.2


def test_a_blend_is_the_mean_of_two_different_images(rng: np.random.Generator) -> None:
    found = blended(IMAGES, rng)
    for index, image in enumerate(found):
        partners = [
            other for other in range(12) if (image == np.floor((IMAGES[index].astype(float) + IMAGES[other]) / 2)).all()
        ]
        assert len(partners) == 1
        assert partners != [index]


def test_the_same_images_give_the_same_outliers() -> None:
    first, again, other = synthetic(IMAGES), synthetic(IMAGES), synthetic(IMAGES, seed=1)
    assert list(first) == ["permuted", "noise", "blended"]
    for name, images in first.items():
        assert (images.dtype, images.shape) == (np.uint8, IMAGES.shape)
        np.testing.assert_array_equal(images, again[name])
        assert (images != other[name]).any()


def test_one_image_can_not_be_blended() -> None:
    assert list(synthetic(IMAGES[:1])) == ["permuted", "noise"]


def test_the_images_stay_as_they_are() -> None:
    before = IMAGES.copy()
    synthetic(IMAGES)
    np.testing.assert_array_equal(IMAGES, before)
