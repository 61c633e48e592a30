"""Accuracy with its interval, and the mistake that would explain a low one: found where there is one, never by luck."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from export.checks.accuracy import (
    accuracy_text,
    better,
    measure,
    orders_of,
    quality,
    remarks,
    reordered,
    unlabelled_remarks,
)

NAMES = ("owl", "Cat", "ant", "dog", "bee", "eel")
Logits = npt.NDArray[np.float64]


def answers(labels: npt.NDArray[np.int64], classes: int, right: float = 0.9, seed: int = 0) -> Logits:
    """Logits (n, K) whose largest is the label's in about so many images."""
    rng = np.random.default_rng(seed)
    predicted = np.where(rng.random(len(labels)) < right, labels, rng.integers(0, classes, len(labels)))
    return rng.normal(0, 1, (len(labels), classes)) + 10 * np.eye(classes)[predicted]


LABELS = np.arange(120) % 6
GOOD = answers(LABELS, 6)


def said(logits: Logits, labels: npt.NDArray[np.int64] = LABELS, names: tuple[str, ...] = NAMES) -> list[str]:
    found = measure(logits, labels)
    assert found is not None
    return list(remarks(logits, labels, names, found))


def test_accuracy_and_its_interval() -> None:
    found = measure(GOOD, LABELS)
    assert found is not None
    right = int((GOOD.argmax(axis=1) == LABELS).sum())
    interval = binomtest(right, 120).proportion_ci(0.95, method="exact")
    assert found.value == right / 120
    assert found.interval == pytest.approx((interval.low, interval.high))
    assert (found.images, found.classes, found.chance) == (120, 6, 1 / 6)
    text = accuracy_text(vars(found))
    assert text.startswith(
        f"accuracy {100 * right / 120:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f} %"
    )
    assert text.endswith("on 120 labelled calibration images of 6 classes")
    assert said(GOOD) == []


def test_average_precision_of_several_labels() -> None:
    rng = np.random.default_rng(3)
    hot = rng.random((80, 4)) < 0.4
    logits = rng.normal(0, 1, (80, 4)) + hot
    found = measure(logits, hot)
    assert found is not None
    assert found.value == pytest.approx(np.mean([average_precision_score(hot[:, k], logits[:, k]) for k in range(4)]))
    assert found.interval[0] < found.value < found.interval[1]
    assert accuracy_text(vars(found)).startswith("mean average precision ")
    assert list(remarks(logits, hot, ("b", "a", "d", "c"), found)) == []
    assert measure(logits, np.zeros((80, 4), np.bool_)) is None


def test_an_accuracy_near_chance_is_warned_of() -> None:
    message = said(np.random.default_rng(0).normal(0, 1, (120, 6)))[0]
    assert "is little more than chance, 16.7 %: are the labels in the logits' order" in message


def test_one_class_alone_is_said() -> None:
    labels = np.full(50, 3)
    assert said(answers(labels, 6), labels) == [
        "all labelled calibration images are of one class, 'dog', of 6: what the gate promises is of that class alone"
    ]


@pytest.mark.parametrize(
    ("order", "how"),
    [
        (sorted(NAMES), "sorted, as torchvision's ImageFolder numbers folders"),
        (sorted(NAMES, key=str.casefold), "sorted without regard to case"),
        (NAMES[::-1], "in reverse"),
        ((NAMES[-1], *NAMES[:-1]), "moved down by one"),
        ((*NAMES[1:], NAMES[0]), "moved up by one"),
    ],
)
def test_labels_in_another_order_are_recognised(order: tuple[str, ...], how: str) -> None:
    """The model's outputs are in `order`, its labels were given in the order of NAMES."""
    logits = answers(np.array([tuple(order).index(NAMES[label]) for label in LABELS]), 6)
    *_, message = said(logits)
    assert message.startswith(f"--labels {how}")
    share = 100 * (reordered(logits, NAMES, order).argmax(axis=1) == LABELS).mean()
    assert f"would be right on {share:.1f} % of 120 labelled images" in message
    assert share > 85


def test_numbers_sorted_as_text_are_recognised() -> None:
    names = tuple(map(str, range(12)))
    labels = np.arange(240) % 12
    by_text = sorted(names)
    logits = answers(np.array([by_text.index(names[label]) for label in labels]), 12)
    assert said(logits, labels, names)[-1].startswith("--labels sorted, as torchvision's ImageFolder")
    orders = orders_of(tuple(by_text))
    assert orders["sorted by number"] == names


def test_an_order_of_any_kind_is_recognised_by_assignment() -> None:
    order = ("bee", "owl", "eel", "Cat", "dog", "ant")
    logits = answers(np.array([order.index(NAMES[label]) for label in LABELS]), 6)
    *_, message = said(logits)
    assert message.startswith("--labels in another order (")
    assert "'bee' for 'owl'" in message


def test_two_classes_that_are_exchanged() -> None:
    labels = np.arange(60) % 2
    assert said(answers(1 - labels, 2), labels, ("no", "yes"))[-1].startswith("--labels in reverse")


@pytest.mark.parametrize("seed", range(20))
def test_luck_finds_nothing(seed: int) -> None:
    """A poor model with its labels in order, or few images of many classes: no order is much better than by chance."""
    rng = np.random.default_rng(seed)
    many = rng.integers(0, 200, 150)
    assert said(answers(LABELS, 6, 0.4, seed)) == []
    assert [
        line for line in said(answers(many, 200, 0.3, seed), many, tuple(map(str, range(200)))) if "--labels" in line
    ] == []


def test_the_sign_test_is_that_of_its_definition() -> None:
    """6 images better and none worse: p = 2^-6 = 0.016, significant among three alternatives and not among four."""
    own = np.array([0.0] * 6 + [1.0] * 34)
    best, same = np.ones(40), own.copy()
    assert len(list(better(own, {"best": best, "b": same, "c": same}))) == 1
    assert list(better(own, {"best": best, "b": same, "c": same, "d": same})) == []
    assert list(better(own, {"best": np.array([1.0] + [0.0] * 5 + [1.0] * 34)})) == []  # too little to be worth a line


def test_the_quality_of_several_labels_is_the_rank_of_the_images_own() -> None:
    hot = np.array([[True, False, True, False], [False, True, False, False]])
    logits = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 0.0, 3.0, 2.0]])
    np.testing.assert_allclose(quality(logits, hot), [(1 + 2 / 3) / 2, 1 / 4])


def test_unlabelled_images_that_are_nearly_all_of_one_class_are_said() -> None:
    logits = np.zeros((40, 3), np.float32)
    logits[:, 1] = 1
    logits[:2] = np.eye(3)[[0, 2]] * 5
    (said,) = unlabelled_remarks(logits, ("cat", "dog", "ship"))
    assert said.startswith("38 of 40 calibration images are predicted as 'dog': are they of many classes")
    logits[2] = [5, 0, 0]
    assert not [*unlabelled_remarks(logits, ("cat", "dog", "ship"))]
    assert not [*unlabelled_remarks(logits[3:30], ("cat", "dog", "ship"))]
    assert not [*unlabelled_remarks(np.ones((40, 2), np.float32), ("no", "yes"))]
