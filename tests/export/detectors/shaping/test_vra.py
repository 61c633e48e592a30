"""VRA by hand: rectify at both ends, apply the layer, take the energy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from export.detectors.shaping.vra import Vra, VraSettings
from tests.export.detectors.graphs import digits, run


def test_is_the_energy_of_rectified_activations() -> None:
    example = digits()
    training = example.training(settings={Vra: VraSettings(70, 90, 0.5)})
    low, high = (np.percentile(example.fitted_on, p, method="higher") for p in (70, 90))
    assert 0 < low < high
    x = example.scored.astype(np.float64)
    rectified = np.select([x < low, x > high], [0, high], x)
    weights, bias = training.layers.linear()
    expected = 0.5 * logsumexp((rectified @ weights.T + bias) / 0.5, axis=1)
    np.testing.assert_allclose(training.fit(Vra).reference(x, x), expected, rtol=1e-12)


def test_is_the_energy_where_nothing_is_rectified() -> None:
    example = digits()
    detector = example.training(settings={Vra: VraSettings(0, 100)}).fit(Vra)
    logits = run(example.model, example.fitted_on)["logits"]
    expected = logsumexp(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(detector.reference(logits, example.fitted_on), expected, rtol=1e-5)


def test_one_end_given_the_other_is_chosen() -> None:
    training = digits().training(settings={Vra: VraSettings(low=85)})
    parameters = training.parameters_of(training.fit(Vra))
    assert parameters["low"] == 85
    assert parameters["high"] in (90, 95, 99)


@pytest.mark.parametrize(
    "wrong", [{"low": -1.0}, {"high": 101.0}, {"low": 90.0, "high": 80.0}, {"temperature": 0.0}], ids=str
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        VraSettings(**wrong)
