"""Normalisation, against the textbook formula in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from runtime.manifest import InputSpec
from train import normalize
from train.data import Images
from train.data.images import JoinedImages
from train.normalize import Normalize, channel_statistics

SPEC = InputSpec(4, 6, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    "spec", [SPEC, InputSpec(4, 6, mean=(0.0, 0.5, 1.0), std=(1.0, 0.01, 3.0))], ids=["usual", "extreme"]
)
def test_equals_the_formula(spec: InputSpec, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    expected = (images / 255.0 - np.array(spec.mean)) / np.array(spec.std)
    found = Normalize(spec)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


def test_all_256_values_of_a_pixel() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1).repeat(3, axis=3)
    expected = (images / 255.0 - np.array(SPEC.mean)) / np.array(SPEC.std)
    found = Normalize(SPEC)(torch.from_numpy(images)).numpy()
    assert np.abs(found - expected.transpose(0, 3, 1, 2)).max() < 1e-6


def test_is_channels_last_in_memory() -> None:
    result = Normalize(SPEC)(torch.zeros(2, 4, 6, 3, dtype=torch.uint8))
    assert result.shape == (2, 3, 4, 6)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_has_nothing_to_learn_or_to_save() -> None:
    layer = Normalize(SPEC)
    assert not list(layer.parameters())
    assert not layer.state_dict()


def check_statistics(images: Images, pixels: np.ndarray) -> None:
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (pixels / 255.0).mean(axis=(0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(std, (pixels / 255.0).std(axis=(0, 1, 2)), rtol=1e-9)


def test_channel_statistics_are_those_of_all_pixels(rng: np.random.Generator) -> None:
    images = rng.integers(0, (100, 200, 256), (600, 3, 5, 3), dtype=np.uint8)
    check_statistics(images, images)


def test_of_a_large_set_images_evenly_apart_count(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an array still all of them."""
    images = rng.integers(0, 256, (41, 3, 5, 3), dtype=np.uint8)
    monkeypatch.setattr(normalize, "_SAMPLE", 5)
    check_statistics(JoinedImages([images[:20], images[20:]]), images[[0, 10, 20, 30, 40]])
    check_statistics(images, images)


def test_channel_statistics_are_those_of_numpy(rng: np.random.Generator) -> None:
    images = rng.integers((0, 100, 50), (256, 200, 51), (20, 5, 7, 3)).astype(np.uint8)
    images[0, 0, 0, 2] = 77  # a deviation of zero is tested elsewhere
    mean, std = channel_statistics(images)
    scaled = images / 255.0
    assert mean == pytest.approx(scaled.mean(axis=(0, 1, 2)).tolist(), rel=1e-12)
    assert std == pytest.approx(scaled.std(axis=(0, 1, 2)).tolist(), rel=1e-9)


def test_channel_statistics_of_constant_channels() -> None:
    mean, std = channel_statistics(np.full((2, 4, 4, 3), (0, 128, 255), dtype=np.uint8))
    assert mean == pytest.approx((0, 128 / 255, 1))
    assert std == pytest.approx((0, 0, 0), abs=1e-9)
