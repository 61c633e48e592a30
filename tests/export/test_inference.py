"""Collecting the outputs of a set that is larger than a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.inference import BATCH, collect
from runtime.bundle import Bundle
from runtime.engines.onnxruntime_cpu import OnnxRuntimeCpu
from tests.small import SPEC, calibration_images, encode
from train.data import load


@pytest.fixture(scope="module")
def engine(shared_bundle: Bundle) -> OnnxRuntimeCpu:
    return OnnxRuntimeCpu(shared_bundle.model, threads=1)


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 3])
def test_every_image_in_order(engine: OnnxRuntimeCpu, count: int) -> None:
    images = calibration_images(count)
    outputs = collect(engine, images, penultimate=True)
    assert len(outputs.logits) == len(outputs.scores) == len(outputs.accept) == count
    for i in {0, count // 2, count - 1}:
        alone = engine.run(images[i : i + 1], penultimate=True)
        for name in ("logits", "scores", "accept", "penultimate"):
            np.testing.assert_allclose(getattr(outputs, name)[i], getattr(alone, name)[0], rtol=1e-5)


def test_activations_are_left_out_unless_asked_for(engine: OnnxRuntimeCpu) -> None:
    assert collect(engine, calibration_images(3)).penultimate is None


def test_images_decoded_as_they_are_used(engine: OnnxRuntimeCpu, tmp_path: Path) -> None:
    images = calibration_images(BATCH + 3)
    (tmp_path / "cat").mkdir()
    for i, image in enumerate(images):
        (tmp_path / "cat" / f"{i:03}.png").write_bytes(encode(image))
    lazy = load(str(tmp_path), SPEC, in_memory=False).images
    np.testing.assert_array_equal(collect(engine, lazy).logits, collect(engine, images).logits)
