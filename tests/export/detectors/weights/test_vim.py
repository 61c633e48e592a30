"""ViM against scikit-learn's PCA."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.decomposition import PCA

from export.detectors.weights.vim import Vim, VimSettings
from export.exceptions import ExportError
from tests.export.detectors.graphs import Example, linear, random, run


@pytest.mark.parametrize("dims", [1, 4, 7])
def test_against_scikit_learn(dims: int, rng: np.random.Generator) -> None:
    """With more classes than features the bias can put the origin on the mean, where PCA has its own."""
    features = np.maximum(rng.normal(1, 1, (500, 8)) @ rng.normal(0, 1, (8, 8)), 0).astype(np.float32)
    scored = rng.normal(1, 2, (40, 8)).astype(np.float32)
    weights = rng.normal(0, 1, (12, 8))
    model = linear(weights, -weights @ features.mean(axis=0, dtype=np.float64))
    training = Example(model, features, np.zeros(500, np.int64), scored).training(settings={Vim: VimSettings(dims)})

    pca = PCA(dims).fit(features.astype(np.float64))

    def residual(
        x: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        x64 = x.astype(np.float64)
        return np.asarray(np.linalg.norm(x64 - pca.inverse_transform(pca.transform(x64)), axis=1))

    alpha = training.logits.max(axis=1).mean(dtype=np.float64) / residual(features).mean()
    logits = run(model, scored)["logits"]
    expected = logsumexp(logits.astype(np.float64), axis=1) - alpha * residual(scored)
    np.testing.assert_allclose(training.fit(Vim).reference(logits, scored), expected, rtol=1e-4)


@pytest.mark.parametrize(("features", "dims"), [(768, 512), (512, 256), (10, 5)])
def test_default_dims(features: int, dims: int) -> None:
    example = random(features=features, count=2 * features)
    assert example.training().fit(Vim).residual.shape == (features, features - dims)


def test_features_that_span_few_directions(rng: np.random.Generator) -> None:
    """Where they span no more than the principal subspace, it is half of what they span, so that something is left."""
    flat = (rng.normal(0, 1, (200, 6)) @ rng.normal(0, 1, (6, 32))).astype(np.float32)
    model = linear(rng.normal(0, 1, (10, 32)), np.zeros(10))
    detector = Example(model, flat, np.zeros(200, np.int64), flat).training().fit(Vim)
    assert detector.residual.shape == (32, 32 - 3)
    assert np.isfinite(detector.residual).all()


def test_more_dims_than_features() -> None:
    with pytest.raises(ExportError, match=r"vim\.dims=32 leave nothing of 32 features"):
        random().training(settings={Vim: VimSettings(32)}).fit(Vim)


def test_features_that_are_all_at_the_origin() -> None:
    example = random()
    model = linear(np.ones((3, 4)), np.zeros(3))
    same = Example(model, np.zeros((9, 4), np.float32), np.zeros(9, np.int64), example.scored)
    with pytest.raises(ExportError, match="the features of the training images are all the same"):
        same.training().fit(Vim)
