"""ReAct by hand: clip, apply the layer, take the energy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from export.detectors.combined.nan import NanReact
from export.detectors.shaping.react import React, ReactSettings
from export.exceptions import ExportError
from tests.export.detectors.graphs import digits, run


@pytest.mark.parametrize(("percentile", "temperature"), [(90, 1), (60, 0.1), (99.9, 10)])
def test_is_the_energy_of_clipped_activations(percentile: float, temperature: float) -> None:
    example = digits()
    training = example.training(settings={React: ReactSettings(percentile, temperature)})
    clip = np.sort(example.fitted_on.ravel())[int(np.ceil(percentile / 100 * (example.fitted_on.size - 1)))]
    weights, bias = training.layers.linear()
    logits = np.minimum(example.scored, clip).astype(np.float64) @ weights.T + bias
    expected = temperature * logsumexp(logits / temperature, axis=1)
    np.testing.assert_allclose(training.fit(React).reference(logits, example.scored), expected, rtol=1e-12)


def test_is_the_energy_where_nothing_is_clipped() -> None:
    example = digits()
    detector = example.training(settings={React: ReactSettings(100)}).fit(React)
    logits = run(example.model, example.fitted_on)["logits"]
    expected = logsumexp(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(detector.reference(logits, example.fitted_on), expected, rtol=1e-5)


def test_nan_of_clipped_activations() -> None:
    example = digits()
    detector = example.training().fit(NanReact)
    clipped = np.minimum(example.scored, detector.react.clip).astype(np.float64)
    expected = clipped.sum(axis=1) / (clipped > 0).sum(axis=1)
    np.testing.assert_allclose(detector.reference(clipped, example.scored), expected, rtol=1e-12)


def test_a_percentile_that_clips_everything() -> None:
    """Where most activations are zero."""
    with pytest.raises(ExportError, match=r"react.percentile=5 of the activations is their smallest, 0: .* raise it"):
        digits().training(settings={React: ReactSettings(5)}).fit(React)


@pytest.mark.parametrize("wrong", [{"percentile": 0}, {"percentile": 101}, {"temperature": 0}, {"temperature": -1}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        ReactSettings(**wrong)
