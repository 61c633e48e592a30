"""NNGuide by scikit-learn's cosines."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.metrics.pairwise import cosine_similarity

from export.detectors.distances.knn import Knn, KnnSettings
from export.detectors.distances.nnguide import Nnguide, NnguideSettings
from export.exceptions import ExportError
from tests.export.detectors.graphs import Example, digits, linear, run, with_detectors


def test_is_the_energy_times_the_mean_of_the_nearest() -> None:
    example = digits()
    training = example.training(settings={Nnguide: NnguideSettings(k=7)})
    logits = run(example.model, example.scored)["logits"]
    guided = cosine_similarity(example.scored, example.fitted_on) * logsumexp(training.logits, axis=1)
    expected = logsumexp(logits, axis=1) * np.sort(guided, axis=1)[:, -7:].mean(axis=1)
    np.testing.assert_allclose(training.fit(Nnguide).reference(logits, example.scored), expected, rtol=1e-5)


def test_the_bank_is_that_of_knn() -> None:
    example = digits()
    settings = {Nnguide: NnguideSettings(k=7, bank=500), Knn: KnnSettings(k=5, bank=500)}
    training = example.training(settings=settings)
    model = with_detectors(example.model, training.fit(Knn), training.fit(Nnguide))
    assert [list(tensor.dims) for tensor in model.graph.initializer].count([500, 48]) == 1


def test_negative_energies_have_no_product_that_means_anything() -> None:
    example = digits()
    weights, bias = example.training().layers.linear()
    low = Example(linear(weights, bias - 1000), example.fitted_on, example.labels, example.scored)
    with pytest.raises(ExportError, match="the energies of the training images are not positive"):
        low.training().fit(Nnguide)


def test_more_neighbours_than_images() -> None:
    with pytest.raises(ExportError, match=r"nnguide\.k=9 neighbours in a bank of 5 of 1200"):
        digits().training(settings={Nnguide: NnguideSettings(k=9, bank=5)}).fit(Nnguide)
