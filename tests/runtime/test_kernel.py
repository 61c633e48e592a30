"""torch's resampling of uint8 tensors, against torch itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.pixels.images import drawn
from runtime.preprocess.kernel import resample

sides = st.integers(1, 150)


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="torch takes other kernels here"
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@settings(max_examples=60, deadline=None)
@given(width=sides, height=sides, to_width=sides, to_height=sides, share=st.floats(0, 0.9))
def test_equals_torch(interpolation: str, width: int, height: int, to_width: int, to_height: int, share: float) -> None:
    pixels = np.asarray(drawn(width, height))
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(tensor, (to_height, to_width), mode=interpolation, antialias=True)
    left, top = int(share * to_width), int(share * to_height)
    found = resample(pixels, (to_width, to_height), (left, top, to_width, to_height), interpolation)
    np.testing.assert_array_equal(found, expected[0].permute(1, 2, 0).numpy()[top:, left:])


@settings(max_examples=30, deadline=None)
@given(width=sides, height=sides, to_width=sides, to_height=sides)
def test_nearest_equals_torchs_exact_one(width: int, height: int, to_width: int, to_height: int) -> None:
    pixels = np.asarray(drawn(width, height))
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(tensor, (to_height, to_width), mode="nearest-exact")
    found = resample(pixels, (to_width, to_height), (0, 0, to_width, to_height), "nearest")
    np.testing.assert_array_equal(found, expected[0].permute(1, 2, 0).numpy())


def test_a_grey_image_stays_one() -> None:
    grey = np.asarray(drawn(50, 40).convert("L"))
    colours = np.repeat(grey[..., None], 3, axis=2)
    for interpolation in ("nearest", "bilinear", "bicubic", "lanczos"):
        found = resample(grey, (20, 30), (2, 3, 18, 27), interpolation)
        assert found.shape == (24, 16)
        np.testing.assert_array_equal(found, resample(colours, (20, 30), (2, 3, 18, 27), interpolation)[..., 0])
