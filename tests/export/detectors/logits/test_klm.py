"""KL matching against SciPy, and where float32 would lose it."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax
from scipy.stats import entropy

from export.detectors.columns import verify
from export.detectors.interface import Training
from export.detectors.logits.klm import Klm
from export.graph.last_layers import LastLayers
from tests.export.detectors.graphs import digits, in_graph, linear, relative_difference, run


def test_is_the_divergence_from_the_nearest_typical_prediction() -> None:
    example = digits()
    training = example.training()
    p = softmax(training.logits.astype(np.float64), axis=1)
    typical = [p[p.argmax(axis=1) == k].mean(axis=0) for k in range(10)]
    logits = run(example.model, example.scored)["logits"]
    expected = [-min(entropy(row, d) for d in typical) for row in softmax(logits.astype(np.float64), axis=1)]
    np.testing.assert_allclose(training.fit(Klm).reference(logits, example.scored), expected, rtol=1e-9)


def test_a_class_that_is_never_predicted_has_no_part() -> None:
    example = digits()
    training = example.training()
    training.logits[:, 4] = -50
    assert training.fit(Klm).logarithms.shape == (9, 10)


def test_sure_and_flat_predictions_keep_their_digits(rng: np.random.Generator) -> None:
    """Of sure ones 1 - p is below what float32 tells from 1; of flat ones all terms cancel."""
    model = linear(np.eye(4), np.zeros(4))
    sure = rng.normal(0, 1, (40, 4)) + 25 * np.eye(4)[np.arange(40) % 4]
    flat = rng.normal(0, 0.1, (40, 4))
    for f in (sure.astype(np.float32), flat.astype(np.float32)):
        typical = np.stack(
            [softmax(f.astype(np.float64), axis=1)[f.argmax(axis=1) == k].mean(axis=0) for k in range(4)]
        )
        detector = Klm(np.log(typical))
        assert relative_difference(in_graph(model, detector, f), detector.reference(f, f)) < 1e-4


def test_logits_of_a_great_magnitude_are_finite() -> None:
    f = np.array([[1e4, -1e4, 0, 0], [1e4] * 4, [0.0] * 4], np.float32)
    detector = digits().training().fit(Klm)
    small = Klm(detector.logarithms[:4, :4])
    assert np.isfinite(in_graph(linear(np.eye(4), np.zeros(4)), small, f)).all()


def test_one_training_image_of_each_class(rng: np.random.Generator) -> None:
    """Most of what a fit is verified on are then the typical predictions themselves, and what rounding leaves is all."""
    model, f = linear(np.eye(9), np.zeros(9)), rng.normal(0, 1, (9, 9)) + 5 * np.eye(9)
    f = np.concatenate([f, rng.normal(0, 1, (4, 9))]).astype(np.float32)
    detector = Training(f[:9], f[:9], np.arange(9), LastLayers(model)).fit(Klm)
    reference, found = verify({"klm": detector}, in_graph(model, detector, f)[:, None], f, f)
    assert np.abs(reference[:9]).max() < 1e-12
    assert np.abs(reference[9:]).min() > 0.1
    assert found["klm"] < 1e-4
