"""DICE by a loop over the weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from export.detectors.weights.dice import Dice, DiceSettings
from tests.export.detectors.graphs import digits, run


@pytest.mark.parametrize("sparsity", [0.3, 0.9, 0.99])
def test_keeps_the_weights_that_contribute_most(sparsity: float) -> None:
    example = digits()
    training = example.training(settings={Dice: DiceSettings(sparsity)})
    weights, bias = training.layers.linear()
    mean = example.fitted_on.mean(axis=0, dtype=np.float64)
    contributions = sorted(
        (weights[k, d] * mean[d], k, d) for k in range(weights.shape[0]) for d in range(weights.shape[1])
    )
    for _, k, d in contributions[: round(sparsity * weights.size)]:
        weights[k, d] = 0
    expected = logsumexp(example.scored.astype(np.float64) @ weights.T + bias, axis=1)
    np.testing.assert_allclose(training.fit(Dice).reference(weights, example.scored), expected, rtol=1e-12)


def test_is_the_energy_where_all_weights_are_kept() -> None:
    example = digits()
    detector = example.training(settings={Dice: DiceSettings(0, 0.5)}).fit(Dice)
    logits = run(example.model, example.scored)["logits"]
    expected = 0.5 * logsumexp(2 * logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(detector.reference(logits, example.scored), expected, rtol=1e-5)


@pytest.mark.parametrize("wrong", [{"sparsity": 1}, {"sparsity": -0.1}, {"temperature": 0}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        DiceSettings(**wrong)
