"""Choosing by AUROC: against brute force over pairs, ties and scores that are not finite included.

And the synthetic outliers: what each kind keeps of an image, and what it does not.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from export.calibrate import choice
from export.calibrate.choice import blended, noise, permuted, synthetic_outliers
from export.detectors.base import Energy
from runtime.engines.interface import Outputs
from runtime.manifest import Choice
from tests.small import calibration_images

Array = npt.NDArray[np.float32]


def pairs(known: Array, outliers: Array) -> float:
    above = (known[:, None] > outliers).mean()
    return float(above + (known[:, None] == outliers).mean() / 2)


def outputs(logits: Array, scores: Array | None = None) -> Outputs:
    return Outputs(logits, logits[:, :1] if scores is None else scores, np.ones(len(logits), bool))


def test_auroc_by_pairs_with_ties(rng: np.random.Generator) -> None:
    known, outliers = (rng.normal(mean, 1, 150).round(1).astype(np.float32) for mean in (1, 0))
    assert choice.auroc(known, outliers) == pytest.approx(pairs(known, outliers))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("lowest", [-3e38, 0.0])
def test_an_outlier_that_is_not_finite_is_below_everything(bad: float, lowest: float) -> None:
    known, outliers = np.array([1.0, lowest], np.float32), np.array([bad, lowest], np.float32)
    assert choice.auroc(known, outliers) == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert choice.auroc(known, np.array([bad], np.float32)) == 1


def test_temperatures_are_compared_by_the_mean_over_sets(rng: np.random.Generator) -> None:
    known = outputs(rng.normal(0, 2, (60, 4)).astype(np.float32))
    sets = {name: outputs(rng.normal(0, 1, (count, 4)).astype(np.float32)) for name, count in (("a", 40), ("b", 7))}
    found = choice.compare_temperatures(known, sets)
    assert tuple(found) == choice.TEMPERATURES
    for temperature in (0.01, 1.0, 100.0):
        scores = {name: Energy(temperature).reference(part.logits, part.logits) for name, part in sets.items()}
        own = Energy(temperature).reference(known.logits, known.logits)
        expected = np.mean([pairs(own, values) for values in scores.values()])
        assert found[temperature] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("table", "best"),
    [
        ({0.1: 0.5, 1.0: 0.7, 10.0: 0.6}, 1.0),
        ({0.1: 0.9, 1.0: 0.7, 10.0: 0.6}, 0.1),
        ({0.1: 0.7, 1.0: 0.7, 10.0: 0.7}, 1.0),
        ({0.01: 0.7, 0.1: 0.7, 1.0: 0.6, 10.0: 0.7}, 0.1),
    ],
)
def test_the_best_temperature(table: dict[float, float], best: float) -> None:
    assert choice.best_temperature(table) == best


def test_the_energy_column_alone_changes(rng: np.random.Generator) -> None:
    before = outputs(rng.normal(0, 2, (5, 4)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32))
    kept = before.scores.copy()
    after = choice.with_energy(before, 1, 0.1)
    np.testing.assert_array_equal(before.scores, kept)
    np.testing.assert_array_equal(after.scores[:, [0, 2]], kept[:, [0, 2]])
    np.testing.assert_allclose(after.scores[:, 1], Energy(0.1).reference(before.logits, before.logits), rtol=1e-6)


def test_the_table_has_every_score_and_set(rng: np.random.Generator) -> None:
    names = ("msp", "nan")
    known, a, b = (outputs(scores, scores) for scores in rng.normal(size=(3, 30, 2)).astype(np.float32))
    found = choice.compare(names, known, {"a": a, "b": b}, {0.5: 0.75})
    assert (found.n, found.outliers, found.temperatures) == (30, {"a": 30, "b": 30}, {"0.5": 0.75})
    for name, part in (("a", a), ("b", b)):
        for column, score in enumerate(names):
            assert found.auroc[name][score] == pytest.approx(pairs(known.scores[:, column], part.scores[:, column]))


@pytest.mark.parametrize(
    ("auroc", "best"),
    [
        ({"a": {"msp": 0.9, "nan": 0.8}}, "msp"),
        ({"a": {"msp": 0.9, "nan": 0.8}, "b": {"msp": 0.5, "nan": 0.7}}, "nan"),  # by the mean
        ({"a": {"msp": 0.9, "nan": 0.9}}, "msp"),  # of equals the first
    ],
)
def test_the_best_score(auroc: dict[str, dict[str, float]], best: str) -> None:
    assert choice.best_score(Choice(10, dict.fromkeys(auroc, 10), auroc)) == best


# --- synthetic outliers

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
    first, again, other = synthetic_outliers(IMAGES), synthetic_outliers(IMAGES), synthetic_outliers(IMAGES, seed=1)
    assert list(first) == ["permuted", "noise", "blended"]
    for name, images in first.items():
        assert (images.dtype, images.shape) == (np.uint8, IMAGES.shape)
        np.testing.assert_array_equal(images, again[name])
        assert (images != other[name]).any()


def test_one_image_can_not_be_blended() -> None:
    assert list(synthetic_outliers(IMAGES[:1])) == ["permuted", "noise"]


def test_the_images_stay_as_they_are() -> None:
    before = IMAGES.copy()
    synthetic_outliers(IMAGES)
    np.testing.assert_array_equal(IMAGES, before)
