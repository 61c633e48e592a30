"""Energy-based sampling against a loop over the clusters, and where there is little to choose from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.cluster import KMeans

from train.exceptions import TrainingError
from train.methods.sampling import Sample, ends_of_clusters, energy_based_sample, unit_length

Floats = npt.NDArray[np.floating]


def brute_force(labels: npt.NDArray[np.integer], energies: Floats) -> tuple[list[int], list[int]]:
    """Algorithm 1, lines 4 to 7, as it is written: the first of the lowest and the last of the highest energies."""
    lowest, highest = [], []
    for label in sorted(set(labels.tolist())):
        members = [i for i in range(len(labels)) if labels[i] == label]
        low = high = members[0]
        for i in members[1:]:
            low = i if energies[i] < energies[low] else low
            high = i if energies[i] >= energies[high] else high
        lowest.append(low)
        highest.append(high)
    return lowest, highest


def lists(sample: Sample) -> tuple[list[int], list[int]]:
    return sample.lowest.tolist(), sample.highest.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_ends_of_clusters_are_those_of_the_loop(seed: int) -> None:
    """A hundred cases each, a third of them with many ties."""
    rng = np.random.default_rng(seed)
    for case in range(100):
        count = int(rng.integers(1, 60))
        labels = rng.integers(0, rng.integers(1, 20), count)
        energies = rng.integers(0, 4, count).astype(float) if case % 3 == 0 else rng.normal(size=count) * 20
        assert lists(ends_of_clusters(labels, energies)) == brute_force(labels, energies)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_whole_takes_the_ends_of_k_means_clusters(dtype: type) -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        count = int(rng.integers(2, 80))
        clusters = int(rng.integers(1, count))
        features = np.abs(rng.normal(size=(count, 6))).astype(dtype)
        energies = rng.normal(size=count).astype(dtype)
        sample = energy_based_sample(features, energies, clusters, seed)
        unit = features / np.sqrt((features**2).sum(axis=1, keepdims=True))
        labels = KMeans(clusters, n_init=1, random_state=seed).fit_predict(unit)
        assert lists(sample) == brute_force(labels, energies)
        assert len(sample.lowest) == len(sample.highest) == clusters
        assert len(set(sample.lowest)) == len(set(sample.highest)) == clusters
        assert all(0 <= i < count for i in (*sample.lowest, *sample.highest))
        assert (energies[sample.lowest] <= energies[sample.highest]).all()


def test_clusters_are_of_directions() -> None:
    """Three rays far apart, with lengths that differ a thousandfold along each."""
    rng = np.random.default_rng(0)
    rays = np.repeat(np.eye(3), 10, axis=0) * np.logspace(-1, 2, 10)[np.tile(np.arange(10), 3)][:, None]
    energies = rng.normal(size=30)
    sample = energy_based_sample(rays, energies, 3, seed=0)
    by_ray = energies.reshape(3, 10)
    assert sorted(sample.lowest) == [i * 10 + by_ray[i].argmin() for i in range(3)]
    assert sorted(sample.highest) == [i * 10 + by_ray[i].argmax() for i in range(3)]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_no_more_candidates_than_clusters_are_a_cluster_each(count: int) -> None:
    rng = np.random.default_rng(0)
    sample = energy_based_sample(rng.normal(size=(count, 4)), rng.normal(size=count), 5, seed=0)
    assert lists(sample) == (list(range(count)), list(range(count)))


def test_one_candidate_more_than_clusters() -> None:
    """Two of them must share a cluster: here the two whose directions are the same."""
    features = np.array([[1.0, 0, 0], [0, 1, 0], [0, 2, 0], [0, 0, 1]])
    sample = energy_based_sample(features, np.array([0.0, 5, 4, 1]), 3, seed=0)
    assert sorted(sample.lowest) == [0, 2, 3]
    assert sorted(sample.highest) == [0, 1, 3]


def test_candidates_of_the_same_direction_are_one_cluster() -> None:
    features = np.outer(2.0 ** np.arange(8), [1.0, 2.0, 0.5])
    sample = energy_based_sample(features, np.array([3.0, 1, 4, 1, 5, 9, 2, 9]), 4, seed=0)
    assert lists(sample) == ([1], [7])


def test_rows_of_zeros_are_a_direction_of_their_own() -> None:
    features = np.array([[0.0, 0], [1, 0], [0, 0], [5, 0]])
    sample = energy_based_sample(features, np.array([1.0, 2, 3, 4]), 2, seed=0)
    assert sorted(sample.lowest) == [0, 1]
    assert sorted(sample.highest) == [2, 3]


def test_unit_length() -> None:
    np.testing.assert_array_equal(unit_length(np.array([[3.0, 4], [0, 0]])), [[0.6, 0.8], [0, 0]])


def test_equal_energies_everywhere() -> None:
    sample = energy_based_sample(np.repeat(np.eye(2), 3, axis=0), np.zeros(6), 2, seed=0)
    assert sorted(sample.lowest) == [0, 3]
    assert sorted(sample.highest) == [2, 5]


def test_the_same_seed_gives_the_same_sample() -> None:
    rng = np.random.default_rng(0)
    features, energies = np.abs(rng.normal(size=(400, 16))), rng.normal(size=400)
    samples = [lists(energy_based_sample(features, energies, 64, seed)) for seed in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["features", "energies"])
def test_values_that_are_not_finite(value: float, where: str) -> None:
    features, energies = np.ones((9, 4)), np.ones(9)
    (features if where == "features" else energies).flat[5] = value
    with pytest.raises(TrainingError, match="no longer finite; lower --learning-rate"):
        energy_based_sample(features, energies, 3, seed=0)
