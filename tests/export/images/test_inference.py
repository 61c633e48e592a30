"""Collecting the outputs of a set that is larger than a batch."""

from __future__ import annotations

import weakref
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from export.images.inference import BATCH, collect, stream
from export.metrics.observation import observe_known
from runtime.bundle import Bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from tests.small import LABELS, calibration_images
from train.data import ImageSet


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


class Decoded:
    """Images that are decoded when a slice is asked for; counts how many slices are in memory at a time."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.alive = 0
        self.most = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> npt.NDArray[np.uint8]:
        images = calibration_images(len(range(*part.indices(self.count))), seed=part.start)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(images, self._freed)
        return images

    def _freed(self) -> None:
        self.alive -= 1


def test_no_image_is_kept(engine: OnnxRuntimeCpu) -> None:
    """While a batch is read the one before may still be held, and no other."""
    images = Decoded(7 * BATCH)
    outputs = collect(engine, images)
    assert len(outputs.scores) == 7 * BATCH
    assert images.most <= 3
    assert images.alive == 0


def test_evaluation_keeps_no_image(engine: OnnxRuntimeCpu, shared_bundle: Bundle) -> None:
    images = Decoded(5 * BATCH)
    labels = np.zeros(len(images), np.int64)
    unnamed = ("",) * len(images)
    observed = observe_known(
        engine, shared_bundle.manifest, "val", ImageSet(cast(Any, images), labels, LABELS, unnamed)
    )
    assert len(observed) == len(observed.hashes) == 5 * BATCH
    assert observed.logits is None
    assert images.most <= 3
    assert images.alive == 0


def test_stream_pairs_batches_with_their_outputs(engine: OnnxRuntimeCpu) -> None:
    images = calibration_images(BATCH + 3)
    batches = list(stream(engine, images))
    assert [len(batch) for batch, _ in batches] == [len(outputs.accept) for _, outputs in batches] == [BATCH, 3]
    np.testing.assert_array_equal(np.concatenate([batch for batch, _ in batches]), images)
