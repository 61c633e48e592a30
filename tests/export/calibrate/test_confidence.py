"""Expected calibration error by hand, the temperature by a search of another kind."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit, log_softmax, softmax

from export.calibrate.confidence import choose, expected_calibration_error, fit
from runtime.manifest import Task


@pytest.mark.parametrize(
    ("confidence", "correct", "expected"),
    [
        ([0.9, 0.9, 0.9, 0.9, 0.9], [1, 1, 1, 1, 0], 0.1),  # one bin: accuracy 0.8
        ([1.0, 1.0], [1, 1], 0.0),
        ([1.0, 1.0], [0, 0], 1.0),
        ([0.0, 0.0], [0, 0], 0.0),  # the first bin has 0 too
        ([0.5, 0.98], [1, 1], (0.5 + 0.02) / 2),  # two bins of one
        ([0.61, 0.66], [1, 0], 0.135),  # both in (0.6, 0.667]: |0.5 - 0.635|
        ([0.59, 0.61], [1, 0], (0.41 + 0.61) / 2),  # apart: (0.533, 0.6] and (0.6, 0.667]
        ([0.2, 0.19], [1, 0], 0.305),  # 3/15 belongs to the bin below it: |0.5 - 0.195|
    ],
)
def test_ece_by_hand(confidence: list[float], correct: list[int], expected: float) -> None:
    found = expected_calibration_error(np.array(confidence), np.array(correct, bool))
    assert found == pytest.approx(expected, abs=1e-12)


def test_ece_by_a_loop_over_bins(rng: np.random.Generator) -> None:
    confidence = rng.random(2000)
    correct = rng.random(2000) < confidence**2
    total = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        total += abs(correct[inside].mean() - confidence[inside].mean()) * inside.mean()
    assert expected_calibration_error(confidence, correct) == pytest.approx(total)


def drawn(rng: np.random.Generator, temperature: float, task: Task) -> tuple[npt.NDArray[np.float32], ...]:
    """Logits of 4,000 images whose labels follow softmax(f / T), or of which one label is likely."""
    logits = rng.normal(0, 3, (4000, 5)).astype(np.float32)
    if task == "multiclass":
        p = softmax(logits.astype(float) / temperature, axis=1)
        labels = (p.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1).clip(0, 4)
    else:
        labels = (logits + rng.normal(0, 3, logits.shape)).argmax(axis=1)
    return logits, labels


def nll(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], temperature: float, task: Task) -> float:
    f = logits.astype(float) / temperature
    if task == "multiclass":
        return float(-log_softmax(f, axis=1)[np.arange(len(f)), labels].mean())
    truth = np.eye(f.shape[1])[labels]
    return float(-(truth * np.log(expit(f)) + (1 - truth) * np.log(expit(-f))).sum(axis=1).mean())


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_temperature_is_the_most_likely(task: Task, scale: float, rng: np.random.Generator) -> None:
    logits, labels = drawn(rng, 2.0, task)
    fitted = fit(logits * np.float32(scale), labels, task)
    assert fitted is not None
    grid = scale * np.geomspace(0.5, 50, 500)
    best = grid[np.argmin([nll(logits * np.float32(scale), labels, t, task) for t in grid])]
    assert fitted.temperature == pytest.approx(best, rel=0.01)
    assert fitted.n == 4000


def test_the_temperature_that_made_the_labels_is_found_again(rng: np.random.Generator) -> None:
    fitted = fit(*drawn(rng, 2.0, "multiclass"), "multiclass")
    assert fitted is not None
    assert fitted.temperature == pytest.approx(2.0, rel=0.05)
    assert fitted.ece_after < 0.03 < 0.15 < fitted.ece_before


def test_ece_is_that_of_the_largest_probability(rng: np.random.Generator) -> None:
    logits, labels = drawn(rng, 2.0, "multilabel")
    fitted = fit(logits, labels, "multilabel")
    assert fitted is not None
    for temperature, found in ((1.0, fitted.ece_before), (fitted.temperature, fitted.ece_after)):
        confidence = expit(logits.astype(float) / temperature).max(axis=1)
        assert found == pytest.approx(expected_calibration_error(confidence, logits.argmax(axis=1) == labels))


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ([[3, -1], [-1, 3]], [0, 1]),  # all right: the colder the better
        ([[3, -1], [-1, 3]], [1, 0]),  # all wrong: the hotter the better
        ([[0, 0], [0, 0]], [0, 1]),  # no temperature matters
    ],
    ids=["right", "wrong", "constant"],
)
def test_no_temperature_is_the_most_likely(task: Task, logits: list[list[float]], labels: list[int]) -> None:
    assert fit(np.array(logits, np.float32), np.array(labels), task) is None


def test_large_logits_do_not_overflow(rng: np.random.Generator) -> None:
    logits, labels = drawn(rng, 2.0, "multiclass")
    fitted = fit(logits * np.float32(1e4), labels, "multiclass")
    assert fitted is not None
    assert fitted.temperature == pytest.approx(2e4, rel=0.05)


def test_images_may_have_several_labels_or_none(rng: np.random.Generator) -> None:
    """Each label is there with probability sigmoid(f / 3)."""
    logits = rng.normal(0, 4, (4000, 5)).astype(np.float32)
    labels = rng.random(logits.shape) < expit(logits.astype(float) / 3)
    fitted = fit(logits, labels, "multilabel")
    assert fitted is not None
    assert fitted.temperature == pytest.approx(3, rel=0.05)
    assert fitted.ece_after < 0.03 < 0.1 < fitted.ece_before


def test_one_label_is_the_same_as_multi_hot(rng: np.random.Generator) -> None:
    logits, labels = drawn(rng, 2.0, "multilabel")
    assert fit(logits, labels, "multilabel") == fit(logits, np.eye(5, dtype=bool)[labels], "multilabel")


# --- the temperature that is used


def test_the_reported_error_is_of_images_that_did_not_set_the_temperature(rng: np.random.Generator) -> None:
    """Each half by the other half's temperature, by hand."""
    logits, labels = drawn(rng, 2.0, "multiclass")
    found = choose(logits, labels, "multiclass")
    whole = fit(logits, labels, "multiclass")
    assert found is not None
    assert whole is not None
    assert (found.temperature, found.n, found.held_out) == (whole.temperature, 4000, True)
    order = np.random.default_rng(0).permutation(4000)
    errors = []
    for mine, others in ((order[:2000], order[2000:]), (order[2000:], order[:2000])):
        other = fit(logits[others], labels[others], "multiclass")
        assert other is not None
        confidence = softmax(logits[mine].astype(float) / other.temperature, axis=1).max(axis=1)
        errors.append(expected_calibration_error(confidence, logits[mine].argmax(axis=1) == labels[mine]))
    assert found.ece_after == pytest.approx(np.mean(errors))


def test_it_is_no_rosier_than_on_new_images() -> None:
    """On average over calibration sets of 300 images; in-sample it is."""
    own, held, new = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        logits, labels = drawn(rng, 2.0, "multiclass")
        found, whole = (f(logits[:300], labels[:300], "multiclass") for f in (choose, fit))
        assert found is not None
        assert whole is not None
        confidence = softmax(logits[300:].astype(float) / whole.temperature, axis=1).max(axis=1)
        right = logits[300:].argmax(axis=1) == labels[300:]
        parts = [slice(i, i + 150) for i in range(0, 3600, 150)]
        new.append(np.mean([expected_calibration_error(confidence[part], right[part]) for part in parts]))
        own.append(whole.ece_after)
        held.append(found.ece_after)
    assert np.mean(held) >= np.mean(own)
    assert np.mean(held) == pytest.approx(np.mean(new), rel=0.15)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_temperature_that_does_not_help_is_not_used(task: Task, rng: np.random.Generator) -> None:
    """The labels follow the logits as they are: what is fitted differs from 1 by chance alone."""
    seen = []
    for _ in range(6):
        logits = rng.normal(0, 2, (300, 5)).astype(np.float32)
        if task == "multiclass":
            p = softmax(logits.astype(float), axis=1)
            labels = (p.cumsum(axis=1) < rng.random((300, 1))).sum(axis=1).clip(0, 4)
        else:
            labels = rng.random(logits.shape) < expit(logits.astype(float))
        found = choose(logits, labels, task)
        assert found is not None
        seen.append(found.temperature)
        if found.temperature == 1:
            assert found.ece_after == found.ece_before
    assert seen.count(1.0) >= 3


def test_a_temperature_that_only_likelihood_wants_is_not_used() -> None:
    """Right ones are sure and wrong ones too: cooling helps the likelihood and spoils the error of the confidence."""
    rng = np.random.default_rng(0)
    logits = np.zeros((2000, 2), np.float32)
    logits[:, 0] = np.where(np.arange(2000) % 2, 0.8, 9.0)
    labels = np.where(np.arange(2000) % 2, rng.random(2000) > 0.69, rng.random(2000) > 0.96).astype(np.int64)
    found, whole = (f(logits, labels, "multiclass") for f in (choose, fit))
    assert found is not None
    assert whole is not None
    assert whole.ece_after > whole.ece_before
    assert (found.temperature, found.ece_after) == (1.0, found.ece_before)


def test_no_temperature_of_a_half_is_none_of_the_whole() -> None:
    assert choose(np.array([[3, -1], [-1, 3], [3, -1]], np.float32), np.array([0, 1, 1]), "multiclass") is None
