"""Figures of a ranking small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.choice_rank import Ranking, kinds, means, networks, report
from export.calibrate.selecting import Candidate

CANDIDATES = (Candidate("energy"), Candidate("mahalanobis++"), Candidate("energy+mahalanobis++", "fisher"))


def ranked(synthetic: list[float], real: list[float], fpr95: list[float]) -> Ranking:
    made, auroc, fpr = (np.array(values) for values in (synthetic, real, fpr95))
    return Ranking(
        CANDIDATES,
        {"blended": made - 0.1, "jigsaw": made + 0.1},
        {"svhn": auroc - 0.02, "textures": auroc + 0.02},
        {"svhn": fpr - 0.1, "textures": fpr + 0.1},
        (0.8, 0.5),
        "small, D = 3",
    )


GOOD = ranked([0.6, 0.7, 0.8], [0.7, 0.8, 0.9], [0.6, 0.3, 0.4])
BAD = ranked([0.8, 0.7, 0.6], [0.7, 0.8, 0.9], [0.5, 0.4, 0.2])


def test_ranking() -> None:
    assert GOOD.rho == 1
    assert BAD.rho == -1
    assert (GOOD.chosen, BAD.chosen) == (2, 0)
    assert GOOD.figures(2) == (pytest.approx(0.9), pytest.approx(0.4))
    assert GOOD.singles == [0, 1]  # the plus signs of mahalanobis++ merge nothing
    assert GOOD.best(range(3)) == 1
    assert BAD.best(range(3)) == 2
    assert BAD.best(BAD.singles) == 1


def test_page() -> None:
    both = {"good": GOOD, "bad": BAD}
    (good,) = (line for line in networks(both).splitlines() if line.startswith("| good"))
    cells = [cell.strip() for cell in good.strip("|").split("|")]
    assert cells[2:6] == ["1.00", "energy+mahalanobis++, fisher", "90.0 / 40.0", "80.0 / 50.0"]
    assert cells[6:8] == ["mahalanobis++", "80.0 / 30.0"]
    assert "-1.00" in kinds(both)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in means(both).splitlines()]
    assert ["auto", "80.0", "45.0"] in rows  # (90 + 70) / 2, (40 + 50) / 2
    assert ["mahalanobis++", "80.0", "35.0"] in rows
    assert "(1; designed by: good): mean -1.00, least -1.00, at least 0.7 on 0" in report(both, ["good"], "a command")
