"""Noise of every grain, and that the bundle that ships takes none of it for what it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.noise import main, noise
from benchmarks.paths import BUNDLE
from runtime import Gate


def test_the_same_seed_makes_the_same_images(tmp_path: Path) -> None:
    assert main([str(tmp_path / "new" / "noise.npz"), "--count", "20", "--side", "24"]) == 0
    with np.load(tmp_path / "new" / "noise.npz") as stored:
        images = stored["images"]
        assert stored["labels"].shape == (20,)
    assert (images.shape, images.dtype) == ((20, 24, 24, 3), np.uint8)
    np.testing.assert_array_equal(images, noise(20, 24))
    assert (noise(20, 24, seed=1) != images).any()


def test_grains_colours_and_contrasts_vary() -> None:
    images = noise(400, 16).astype(float)
    steps = np.abs(np.diff(images, axis=2)).mean(axis=(1, 2, 3))
    assert steps.min() < 2  # as smooth as a sky
    assert steps.max() > 100  # of two levels, pixel by pixel
    grey = (images == images[..., :1]).all(axis=(1, 2, 3)).mean()
    assert 0.15 < grey < 0.35
    assert images.mean(axis=(1, 2, 3)).std() > 10


@pytest.fixture(scope="module")
def shipped() -> Gate:
    return Gate.load(BUNDLE, engine="onnxruntime-cpu", threads=1)


def _kinds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    shape = (100, 32, 32, 3)
    return {
        "uniform": rng.integers(0, 256, shape),
        "normal": np.clip(rng.normal(127, 64, shape), 0, 255),
        "two levels": 255 * rng.integers(0, 2, shape),
        "one colour": np.broadcast_to(rng.integers(0, 256, (100, 1, 1, 3)), shape),
        "squares": np.kron(rng.integers(0, 256, (100, 4, 4, 3)), np.ones((1, 8, 8, 1))),
        "other seed": noise(100, 32, seed=7),
    }


@pytest.mark.parametrize("kind", _kinds())
def test_the_shipped_bundle_rejects_noise(shipped: Gate, kind: str) -> None:
    decisions = shipped.decide(_kinds()[kind].astype(np.uint8))
    assert sum(decision.decision == "accept" for decision in decisions) <= 3
