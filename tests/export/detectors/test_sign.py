"""Which detectors say what of features that are negative too."""

from __future__ import annotations

import numpy as np
import pytest

from export.detectors import DETECTORS
from export.detectors.base import BASE
from export.detectors.interface import negative_share
from export.detectors.sign import is_meaningless, objection, objections


def test_the_share_of_the_magnitude_that_is_negative(rng: np.random.Generator) -> None:
    centred = rng.normal(size=(9000, 8))
    assert negative_share(np.maximum(centred, 0)) == 0
    assert negative_share(centred) == pytest.approx(0.5, abs=0.01)
    assert negative_share(np.array([[3.0, -1.0], [0.0, 0.0]])) == 0.25
    assert negative_share(np.zeros((5, 3))) == 0
    assert negative_share(np.zeros((0, 3))) == 0


@pytest.mark.parametrize(
    ("name", "share", "said"),
    [
        ("scale", 0.0, None),
        ("scale", 0.005, None),
        ("scale", 0.05, "scale is weaker here"),
        ("scale", 0.5, "scale is meaningless here"),
        ("ash-b", 0.5, "ash-b is meaningless here"),
        ("ash-s", 0.5, "ash-s is meaningless here"),
        ("react", 0.5, "react is weaker here"),
        ("vra", 0.5, "vra is weaker here"),
        ("nan", 0.5, "nan is weaker here"),
        ("nan_react_ssd", 0.5, "nan_react_ssd is weaker here"),
        ("mahalanobis++", 0.5, None),
        ("energy", 0.5, None),
    ],
)
def test_what_is_said(name: str, share: float, said: str | None) -> None:
    kind = (BASE | DETECTORS)[name]
    text = objection(name, kind, share)
    assert (text and text.split(":")[0]) == said
    assert is_meaningless(kind, share) == (said is not None and "meaningless" in said)
    if text and share == 0.5:
        assert "as behind a ReLU, and 50 % of their magnitude is negative; " in text


def test_several_in_one_line() -> None:
    assert objections({"knn": DETECTORS["knn"]}, 0.5) is None
    text = objections({name: DETECTORS[name] for name in ("knn", "react", "vra")}, 0.5)
    assert text is not None
    assert text.count(" is weaker here: ") == 2
