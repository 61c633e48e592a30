"""NCI by a loop over images."""

from __future__ import annotations

import numpy as np
import pytest

from export.detectors.interface import Observed, Training
from export.detectors.weights.nci import Nci, NciSettings
from tests.export.detectors.graphs import digits, in_graph, run


def test_is_the_projection_on_the_weights_of_the_predicted_class() -> None:
    example = digits()
    training = example.training(settings={Nci: NciSettings(0.05)})
    weights, _ = training.layers.linear()
    logits, mean = run(example.model, example.scored)["logits"], example.fitted_on.astype(np.float64).mean(axis=0)
    expected = [
        weights[row.argmax()] @ (x - mean) / np.linalg.norm(x - mean) + 0.05 * np.abs(x).sum()
        for row, x in zip(logits, example.scored.astype(np.float64), strict=True)
    ]
    np.testing.assert_allclose(training.fit(Nci).reference(logits, example.scored), expected, rtol=1e-10)


def test_features_at_the_mean_have_the_norm_alone() -> None:
    example = digits()
    detector = example.training(settings={Nci: NciSettings(0.5)}).fit(Nci)
    x = detector.mean[None].astype(np.float32)
    exact = Nci(detector.weights, x[0].astype(np.float64), 0.5)
    assert in_graph(example.model, exact, x).item() == pytest.approx(0.5 * x.sum(), rel=1e-6)


@pytest.mark.parametrize(("factor", "counts"), [(0.01, True), (100.0, False)])
def test_alpha_is_chosen_by_outliers(factor: float, counts: bool) -> None:
    """Outliers of small norm make the norm count, those of large norm take it out."""
    example = digits()
    few = example.fitted_on * np.float32(factor)
    plain = example.training()
    outliers = {"scaled": Observed(plain.layers(few).astype(np.float32), few)}
    training = Training(plain.logits, plain.penultimate, plain.labels, plain.layers, outliers=outliers)
    detector = training.fit(Nci)
    assert (detector.alpha > 0) == counts
    assert training.parameters_of(detector) == {"alpha": detector.alpha}


@pytest.mark.parametrize("alpha", [-1.0, float("inf"), float("nan")])
def test_settings_out_of_range(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be at least 0"):
        NciSettings(alpha)
