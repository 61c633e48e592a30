"""Plots that are pictures, the same each time, whatever the scores."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from export.metrics.evaluation import Evaluation
from export.metrics.observation import Observed
from export.report.plots import histogram, pictures, roc
from tests.export.figures import EVALUATION, MANIFEST


def scores(seed: int, count: int = 100) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(5, 2, count).astype(np.float32)


def observed(energy: npt.NDArray[np.float32]) -> Observed:
    both = np.stack([np.zeros_like(energy), energy], axis=1)
    n = len(energy)
    return Observed("", both, energy > 4, np.zeros(n, np.int64), np.ones(n), np.zeros(n, np.uint64))


def picture(data: bytes) -> npt.NDArray[np.uint8]:
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    return np.asarray(image.convert("L"))


SETS = {"ID": scores(0), "textures": scores(1) - 4, "noise": scores(2) - 9}


def drawn(evaluation: Evaluation = EVALUATION) -> dict[str, bytes]:
    unknown = {name: observed(SETS[name]) for name in ("textures", "noise")}
    return pictures(MANIFEST, evaluation, observed(SETS["ID"]), unknown)


def test_each_is_a_picture_and_the_same_each_time() -> None:
    files = drawn()
    assert list(files) == ["histogram.png", "roc.png", "risk_coverage.png"]
    for data in files.values():
        pixels = picture(data)
        assert pixels.shape[1] > 400
        assert len(np.unique(pixels)) > 10
    assert drawn() == files
    assert histogram(EVALUATION, SETS) == files["histogram.png"]  # of the gate's score, not of msp


def test_no_risk_of_a_multilabel_model() -> None:
    evaluation = replace(EVALUATION, id=replace(EVALUATION.id, risk_coverage={}))
    assert list(drawn(evaluation)) == ["histogram.png", "roc.png"]


@pytest.mark.parametrize(
    "sets",
    [
        {"ID": scores(0), "noise": np.full(100, np.finfo(np.float32).min)},
        {"ID": scores(0), "noise": np.full(100, -1e30, np.float32)},
        {"ID": scores(0, 1), "noise": scores(1, 1)},
        {"ID": np.full(9, 4.25, np.float32), "noise": np.full(9, 4.25, np.float32)},
    ],
    ids=["rejected as not finite", "far away", "one image each", "all on the threshold"],
)
def test_unusual_scores(sets: dict[str, npt.NDArray[np.float32]]) -> None:
    picture(histogram(EVALUATION, sets))
    picture(roc(EVALUATION, sets))
