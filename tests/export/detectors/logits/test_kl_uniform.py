"""KL to uniform against scipy's relative entropy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from export.detectors.logits.kl_uniform import KlUniform


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_is_the_relative_entropy_of_uniform_to_prediction(classes: int, rng: np.random.Generator) -> None:
    logits = rng.normal(0, 3, (20, classes))
    uniform = np.full((20, classes), 1 / classes)
    found = KlUniform(classes).reference(logits, logits)
    np.testing.assert_allclose(found, entropy(uniform, softmax(logits, axis=1), axis=1), rtol=1e-10, atol=1e-14)


def test_is_zero_for_equal_logits_and_finite_for_large_ones() -> None:
    found = KlUniform(3).reference(np.array([[7.0, 7, 7], [1e4, -1e4, 0], [1e4, 1e4, 1e4]]), np.ones((3, 1)))
    np.testing.assert_allclose(found, [0, 1e4 - np.log(3), 0], atol=1e-12)
