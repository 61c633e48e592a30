"""Candidates: which there are, and what a fusion's column is."""

from __future__ import annotations

import numpy as np
import pytest

from export.calibrate.selecting import FITTED, Candidate, candidates, compared, fitted_names, with_columns
from export.detectors import DETECTORS
from export.detectors.base import BASE
from export.detectors.combined.merged import fit, merge, parts
from runtime.engines.interface import Outputs
from tests.export.detectors.graphs import digits


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("energy", ("energy",)),
        ("energy+nan", ("energy", "nan")),
        ("mahalanobis++", ("mahalanobis++",)),
        ("energy+mahalanobis++", ("energy", "mahalanobis++")),
        ("mahalanobis+++energy", ("mahalanobis++", "energy")),
        ("rmds+++mahalanobis+++ash-b", ("rmds++", "mahalanobis++", "ash-b")),
        ("mahalanobis+rmds", ("mahalanobis", "rmds")),
        ("msp+", ("msp", "")),
        ("+msp", ("", "msp")),
        ("", ("",)),
    ],
)
def test_the_parts_of_a_name(name: str, expected: tuple[str, ...]) -> None:
    assert parts(name) == expected


def test_every_score_is_a_part_of_its_own() -> None:
    names = [*BASE, *DETECTORS]
    assert [parts(name) for name in names] == [(name,) for name in names]
    assert all(parts(f"{a}+{b}") == (a, b) for a in names for b in names)


def test_candidates_are_the_scores_and_a_few_fusions() -> None:
    found = candidates(("msp", "energy", "nan", "mahalanobis++"), 0.0)
    assert [one.name for one in found] == [
        *("msp", "energy", "nan", "mahalanobis++"),
        *(f"energy+mahalanobis++, {method}" for method in ("min", "harmonic", "fisher")),
        *(f"energy+nan, {method}" for method in ("min", "harmonic", "fisher")),
    ]


def test_a_meaningless_score_is_no_candidate() -> None:
    names = [one.score for one in candidates(("energy", "scale", "react"), 0.5)]
    assert names == ["energy", "react"]


def test_which_detectors_are_fitted() -> None:
    assert fitted_names("multiclass", linear=True) == list(FITTED)
    assert not {"nci", "fdbd", "vim"} & set(fitted_names("multiclass", linear=False))
    assert not {"mahalanobis++", "rmds++"} & set(fitted_names("multilabel", linear=True))
    assert fitted_names("multiclass", linear=False, features=False) == ["kl_uniform", "gen"]
    assert all(DETECTORS[name].needs != "nothing" or name in ("kl_uniform", "gen") for name in FITTED)


def test_detectors_become_columns() -> None:
    example = digits()
    detector = example.training().fit(DETECTORS["ssd"])
    logits = example.training().logits
    outputs = Outputs(logits, np.zeros((len(logits), 1), np.float32), penultimate=example.fitted_on)
    found = with_columns(outputs, ["msp"], {"ssd": detector})
    assert found.scores.shape == (1200, 2)
    np.testing.assert_allclose(found.scores[:, 1], detector.reference(logits, example.fitted_on), rtol=1e-6)
    assert with_columns(outputs, ["ssd"], {"ssd": detector}).scores.shape == (1200, 1)


def test_a_fusion_takes_its_curves_from_the_known_images(rng: np.random.Generator) -> None:
    known, others = (
        Outputs(np.zeros((n, 2), np.float32), rng.normal(size=(n, 2)).astype(np.float32)) for n in (90, 40)
    )
    wanted = [Candidate("b"), Candidate("a+b", "fisher")]
    found, strange = compared(wanted, ("a", "b"), known, {"others": others})
    np.testing.assert_array_equal(found.scores[:, 0], known.scores[:, 1])
    curves = fit(known.scores, ("a", "b"), "fisher")
    for before, after in ((known, found), (others, strange["others"])):
        expected = merge({"a": before.scores[:, 0], "b": before.scores[:, 1]}, curves)
        np.testing.assert_allclose(after.scores[:, 1], expected, rtol=1e-6)
