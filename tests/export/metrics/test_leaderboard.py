"""Means over the sets of a split, by hand."""

from __future__ import annotations

import pytest

from export.metrics.detection import Detection
from export.metrics.leaderboard import Mean, lines


def figures(auroc: float, fpr95: float) -> Detection:
    return Detection(auroc, 0.0, 0.0, 0.99, fpr95)


FIGURES = {
    "cifar100": {"msp": figures(0.8, 0.6), "energy": figures(0.9, 0.4)},
    "tin": {"msp": figures(0.7, 0.2), "energy": figures(0.8, 0.1)},
    "svhn": {"msp": figures(0.95, 0.05), "energy": figures(0.99, 0.01)},
}


def test_every_set_counts_the_same() -> None:
    msp, energy = lines(["cifar100", "tin"], ["mnist", "svhn"], FIGURES, 0.94)
    assert (msp.score, energy.score) == ("msp", "energy")
    assert energy.near == Mean(pytest.approx(0.85), pytest.approx(0.25), ("cifar100", "tin"))
    assert msp.far == Mean(0.95, 0.05, ("svhn",))  # what is there
    assert msp.accuracy == 0.94
    assert not msp.full_spectrum


def test_a_split_of_which_nothing_is_there() -> None:
    (line, _) = lines(["a", "b"], ["svhn"], FIGURES, None, full_spectrum=True)
    assert line.near is None
    assert line.accuracy is None
    assert line.full_spectrum


def test_no_set_at_all() -> None:
    assert lines(["a"], ["b"], {}, 0.9) == ()
