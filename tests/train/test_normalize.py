"""Normalisation, against the textbook formula in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from runtime.manifest import InputSpec
from train.normalize import Normalize

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
