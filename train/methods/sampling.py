"""Energy-based sampling of auxiliary outliers: diverse by clustering, informative by score (GReg+ algorithm 1)."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from train.exceptions import TrainingError


class Sample(NamedTuple):
    """Indices of the candidates taken: of each cluster the one of least and the one of most energy, int64 (C,)."""

    lowest: npt.NDArray[np.int64]
    highest: npt.NDArray[np.int64]


def energy_based_sample(
    features: npt.NDArray[np.floating], energies: npt.NDArray[np.floating], clusters: int, seed: int
) -> Sample:
    """Cluster candidates by the direction of their features; take the two ends of each cluster.

    The lowest energies are for the energy loss, which raises them; the highest for the gradient loss, which keeps
    their neighbourhood as it is.

    Args:
        features: (n, D) penultimate activations; normalised here to unit length.
        energies: S_En, (n,).
        clusters: k, the number of in-distribution images of the step.
        seed: of K-Means.

    Returns:
        C indices each, C <= min(k, n): fewer candidates than k are a cluster each, and directions that coincide
        share one. Both indices of a cluster of one are that candidate. Among equal energies the first candidate
        is the lowest, the last the highest.

    Raises:
        TrainingError: features or energies that are not finite.
    """
    if not (np.isfinite(features).all() and np.isfinite(energies).all()):
        raise TrainingError("features of auxiliary images are no longer finite; lower --learning-rate")
    return ends_of_clusters(_cluster(unit_length(features), clusters, seed), energies)


def ends_of_clusters(labels: npt.NDArray[np.integer], energies: npt.NDArray[np.floating]) -> Sample:
    """Of every label that occurs, the index of the lowest and of the highest energy; clusters in ascending order."""
    order = np.lexsort((energies, labels))
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    return Sample(order[starts], order[np.append(starts[1:], len(order)) - 1])


def unit_length(features: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Rows divided by their Euclidean norm; a row of zeros stays."""
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norm > 0, norm, 1)


def _cluster(directions: npt.NDArray[np.floating], clusters: int, seed: int) -> npt.NDArray[np.integer]:
    """K-Means' labels; each candidate is a cluster where there are no more of them than clusters."""
    if len(directions) <= clusters:
        return np.arange(len(directions))
    # One thread: the sums of several come in another order each time, and a resumed run would cluster otherwise.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct directions than clusters
        labels: npt.NDArray[np.integer] = KMeans(clusters, n_init=1, random_state=seed).fit(directions).labels_
    return labels
