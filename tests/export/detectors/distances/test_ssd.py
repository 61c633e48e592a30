"""SSD against scikit-learn's covariance and k-means."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance
from sklearn.preprocessing import normalize

from export.detectors.distances.ssd import Ssd, SsdSettings
from export.exceptions import ExportError
from tests.export.detectors.graphs import Example, random


def settings(clusters: int) -> dict[type[Ssd], SsdSettings]:
    return {Ssd: SsdSettings(clusters)}


def test_one_cluster_against_scikit_learn() -> None:
    example = random()
    fitted = EmpiricalCovariance().fit(normalize(example.fitted_on.astype(np.float64)))
    expected = -fitted.mahalanobis(normalize(example.scored.astype(np.float64)))
    found = example.training().fit(Ssd).reference(example.scored, example.scored)
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_clusters_that_lie_apart_have_covariances_of_their_own(rng: np.random.Generator) -> None:
    """Directions near three axes, each with another spread; k-means can only find the three."""
    spread = np.array([0.02, 0.05, 0.08])
    members = np.arange(600) % 3
    features = (np.eye(3)[members] + rng.normal(0, 1, (600, 3)) * spread[members, None]).astype(np.float32)
    scored = rng.random((50, 3)).astype(np.float32)
    example = Example(random(features=3).model, features, members, scored)
    unit, x = normalize(features.astype(np.float64)), normalize(scored.astype(np.float64))
    own = [EmpiricalCovariance().fit(unit[members == m]).mahalanobis(x) for m in range(3)]
    found = example.training(settings=settings(3)).fit(Ssd)
    np.testing.assert_allclose(found.reference(scored, scored), -np.min(own, axis=0), rtol=1e-6)


def test_small_clusters_share_a_covariance(rng: np.random.Generator) -> None:
    """A cluster of no more images than features would have directions without variance, and nothing would be far."""
    members = np.arange(16) % 4
    features = (4 * np.eye(8)[members] + rng.normal(0, 0.1, (16, 8))).astype(np.float32)
    scored = rng.random((20, 8)).astype(np.float32)
    example = Example(random(features=8).model, features, members, scored)
    unit, x = normalize(features.astype(np.float64)), normalize(scored.astype(np.float64))
    means = np.stack([unit[members == m].mean(axis=0) for m in range(4)])
    pooled = EmpiricalCovariance(assume_centered=True).fit(unit - means[members])
    expected = -np.min([pooled.mahalanobis(x - mean) for mean in means], axis=0)
    found = example.training(settings=settings(4)).fit(Ssd).reference(scored, scored)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_length_does_not_matter() -> None:
    example = random()
    detector = example.training().fit(Ssd)
    longer = detector.reference(example.scored, 7 * example.scored.astype(np.float64))
    np.testing.assert_allclose(longer, detector.reference(example.scored, example.scored), rtol=1e-10)


def test_more_clusters_than_distinct_features() -> None:
    example = random()
    repeated = np.repeat(example.fitted_on[:3], 40, axis=0) + np.float32(1e-3) * np.eye(120, 32, dtype=np.float32)
    few = Example(example.model, repeated, np.zeros(120, np.int64), example.scored)
    detector = few.training(settings=settings(5)).fit(Ssd)
    assert np.isfinite(detector.reference(example.scored, example.scored)).all()


def test_more_clusters_than_images() -> None:
    with pytest.raises(ExportError, match=r"ssd\.clusters=21 are more than the 20 training images"):
        random(count=20).training(settings=settings(21)).fit(Ssd)


def test_no_clusters() -> None:
    with pytest.raises(ValueError, match="clusters must be at least 1"):
        SsdSettings(0)
