"""KNN against scikit-learn's neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from export.detectors.distances.knn import Knn, KnnSettings
from export.exceptions import ExportError
from tests.export.detectors.graphs import Example, digits, in_graph, linear, random


@pytest.mark.parametrize("k", [1, 2, 50, 1200])
def test_against_scikit_learn(k: int) -> None:
    example = digits()
    neighbours = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(normalize(example.fitted_on.astype(np.float64)))
    distances, _ = neighbours.kneighbors(normalize(example.scored.astype(np.float64)))
    detector = example.training(settings={Knn: KnnSettings(k)}).fit(Knn)
    np.testing.assert_allclose(detector.reference(example.scored, example.scored), -distances[:, -1], rtol=1e-5)
    np.testing.assert_allclose(in_graph(example.model, detector, example.scored), -distances[:, -1], rtol=1e-5)


def test_an_image_of_the_bank_is_its_own_neighbour() -> None:
    example = random()
    detector = example.training(settings={Knn: KnnSettings(1)}).fit(Knn)
    np.testing.assert_allclose(in_graph(example.model, detector, example.fitted_on[:50]), 0, atol=2e-7)


@pytest.mark.parametrize(("bank", "size"), [(1.0, 1000), (0.25, 250), (2.0, 2), (100.0, 100)])
def test_a_share_or_a_number_of_the_images(bank: float, size: int) -> None:
    example = random()
    detector = example.training(settings={Knn: KnnSettings(2, bank)}).fit(Knn)
    rows = {row.tobytes() for row in detector.bank}
    everything = {row.tobytes() for row in normalize(example.fitted_on.astype(np.float64)).astype(np.float32)}
    assert detector.bank.shape == (size, 32)
    assert len(rows) == size
    assert rows <= everything


def test_another_seed_samples_others() -> None:
    banks = [random().training(seed, {Knn: KnnSettings(2, 0.1)}).fit(Knn).bank for seed in (0, 0, 1)]
    np.testing.assert_array_equal(banks[0], banks[1])
    assert (banks[0] != banks[2]).any()


def test_features_of_zero_length() -> None:
    """They lie at the centre, at distance 1 of everything."""
    example = random()
    detector = example.training(settings={Knn: KnnSettings(2)}).fit(Knn)
    np.testing.assert_allclose(in_graph(example.model, detector, np.zeros((1, 32))), -1, rtol=1e-6)


def test_a_bank_of_one(rng: np.random.Generator) -> None:
    features = rng.random((1, 4)).astype(np.float32)
    example = Example(linear(np.ones((2, 4)), [0, 1]), features, np.zeros(1, np.int64), rng.random((3, 4)))
    detector = example.training(settings={Knn: KnnSettings(1)}).fit(Knn)
    expected = -np.linalg.norm(normalize(example.scored) - normalize(features), axis=1)
    np.testing.assert_allclose(in_graph(example.model, detector, example.scored), expected, rtol=1e-5)


@pytest.mark.parametrize("settings", [KnnSettings(1001), KnnSettings(50, 0.01), KnnSettings(5, 2000)])
def test_more_neighbours_than_bank_or_more_bank_than_images(settings: KnnSettings) -> None:
    with pytest.raises(ExportError, match="choose k <= bank <= images"):
        random().training(settings={Knn: settings}).fit(Knn)


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": 3841}, {"bank": 0}, {"bank": -1}, {"bank": float("nan")}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        KnnSettings(**wrong)
