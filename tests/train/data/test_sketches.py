"""Looks: what they outlive, what they tell apart, and how a sketch of them is kept."""

from __future__ import annotations

import base64
import io
import zlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.train.sets import noise
from train.data.sketches import LOOKS, Fingerprints, hashes, looks, looks_of, smallest
from train.exceptions import DataError


def pictures(count: int, side: int = 32, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth random images, with the spectrum of photographs: amplitudes fall with the frequency."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    spectrum = np.fft.rfft2(rng.normal(size=(count, 3, side, side))) / (frequency + 1 / side)
    waves = np.fft.irfft2(spectrum, s=(side, side))
    waves /= waves.std(axis=(2, 3), keepdims=True)
    return np.clip(128 + 50 * waves, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1).copy()


def encoded(images: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    decoded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(buffer).convert("RGB")))
    return np.stack(decoded)


def kept(images: npt.NDArray[np.uint8], changed: npt.NDArray[np.uint8]) -> float:
    return float((looks(images) == looks(changed)).mean())


@pytest.mark.parametrize("side", [8, 32, 33, 96])
def test_a_look_is_that_of_the_mirror_image(side: int) -> None:
    images = pictures(100, side)
    assert kept(images, images[:, :, ::-1]) == 1


def test_a_look_outlives_a_changed_bit_which_the_exact_hash_does_not() -> None:
    images = pictures(200)
    changed = images.copy()
    changed[:, 3, 5, 1] ^= 1
    assert kept(images, changed) > 0.99
    assert (hashes(images) != hashes(changed)).all()


@pytest.mark.parametrize(("quality", "least"), [(75, 0.7), (95, 0.9)])
def test_most_looks_outlive_another_encoding(quality: int, least: float) -> None:
    images = pictures(200)
    assert kept(images, encoded(images, quality)) > least


def test_other_images_look_otherwise() -> None:
    assert len(np.unique(looks(pictures(2000)))) >= 1999


def test_upside_down_is_another_image() -> None:
    images = pictures(100)
    assert kept(images, images[:, ::-1]) == 0


def test_images_without_structure_have_a_look_of_their_own() -> None:
    """One colour each, and a change of a colour is another look; so are images of a few pixels."""
    flat = np.arange(200, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    tiny = np.random.default_rng(0).integers(0, 256, (200, 4, 32, 3), dtype=np.uint8)
    for images in (flat, tiny):
        assert len(np.unique(looks(images))) == 200
        np.testing.assert_array_equal(looks(images), hashes(images) >> np.uint64(32))


def test_looks_are_spread_evenly() -> None:
    """So that the smallest of them are a random sample of the images."""
    shares = np.histogram(looks(pictures(2000)), bins=4, range=(0, 2**32))[0] / 2000
    np.testing.assert_allclose(shares, 1 / 4, atol=0.04)


@pytest.mark.parametrize("count", [1, 5, 300, 70_000])
def test_a_sketch_is_kept_as_it_is(count: int) -> None:
    found = np.random.default_rng(0).integers(0, 2**32, count, dtype=np.uint32)
    spec = Fingerprints(np.arange(count, dtype=np.uint64), found).describe("/data/set.tar")
    assert (spec.source, spec.images) == ("set.tar", count)
    np.testing.assert_array_equal(looks_of(spec), smallest(found))
    assert len(looks_of(spec)) == min(count, LOOKS)


def test_a_sketch_of_all_of_a_usual_set_is_small() -> None:
    """Some three bytes an image, so that one training image in a hundred is noticed in a set of a thousand."""
    found = np.random.default_rng(0).integers(0, 2**32, 50_000, dtype=np.uint32)
    assert len(Fingerprints(np.arange(50_000, dtype=np.uint64), found).describe("set.tar").looks) < 160_000


@pytest.mark.parametrize(
    "damaged",
    [b"no zlib", bytes(30), zlib.compress(bytes(40))[:-5], zlib.compress(bytes(7)), zlib.compress(bytes(10**6))],
    ids=["other bytes", "zeros", "truncated", "no whole numbers", "a bomb"],
)
def test_a_damaged_sketch_is_refused(damaged: bytes) -> None:
    spec = replace(Fingerprints.of(noise(5)).describe("set.tar"), looks=base64.b64encode(damaged).decode())
    with pytest.raises(DataError, match=r"the sketch of set\.tar is damaged"):
        looks_of(spec)


def test_an_earlier_version_s_record_has_no_looks() -> None:
    assert len(looks_of(replace(Fingerprints.of(noise(5)).describe("set.tar"), looks=""))) == 0


def test_fingerprints_are_of_every_image_in_order() -> None:
    images = noise(150)
    found = Fingerprints.of(images)
    np.testing.assert_array_equal(found.exact, hashes(images))
    np.testing.assert_array_equal(found.looks, looks(images))
