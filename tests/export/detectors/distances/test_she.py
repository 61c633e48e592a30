"""SHE by a loop over images and classes."""

from __future__ import annotations

import numpy as np

from export.detectors.distances.she import She
from tests.export.detectors.graphs import Example, digits, run


def test_is_the_inner_product_with_the_mean_of_its_class() -> None:
    example = digits()
    training = example.training()
    predicted = training.logits.argmax(axis=1)
    logits = run(example.model, example.scored)["logits"]
    expected = []
    for row, x in zip(logits, example.scored.astype(np.float64), strict=True):
        own = (example.labels == row.argmax()) & (predicted == row.argmax())
        expected.append(x @ example.fitted_on[own].astype(np.float64).mean(axis=0))
    np.testing.assert_allclose(training.fit(She).reference(logits, example.scored), expected, rtol=1e-12)


def test_a_class_that_is_never_right_takes_the_mean_over_all() -> None:
    example = digits()
    labels = np.where(example.labels == 7, 1, example.labels)
    detector = Example(example.model, example.fitted_on, labels, example.scored).training().fit(She)
    np.testing.assert_allclose(detector.patterns[7], example.fitted_on.astype(np.float64).mean(axis=0), rtol=1e-12)
