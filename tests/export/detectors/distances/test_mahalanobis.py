"""Mahalanobis against scikit-learn's covariance."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance
from sklearn.preprocessing import normalize

from export.detectors.distances.mahalanobis import Mahalanobis, MahalanobisPlusPlus, Rmds, RmdsPlusPlus
from export.detectors.fitting import fit
from export.exceptions import ExportError
from tests.export.detectors.graphs import Example, digits, random

Arrays = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def expected(example: Example) -> Arrays:
    features = example.fitted_on.astype(np.float64)
    means = np.stack([features[example.labels == k].mean(axis=0) for k in np.unique(example.labels)])
    members = np.unique(example.labels, return_inverse=True)[1]
    within = EmpiricalCovariance(assume_centered=True).fit(features - means[members])
    return -np.stack([within.mahalanobis(example.scored.astype(np.float64) - mean) for mean in means]).min(axis=0)


@pytest.mark.parametrize("example", [random(), random(classes=2), digits()], ids=["random", "two classes", "digits"])
def test_against_scikit_learn(example: Example) -> None:
    kept = example.fitted_on.std(axis=0) > 0  # scikit-learn's inverse has no use for constant features
    example = Example(
        random(classes=10, features=int(kept.sum())).model,
        example.fitted_on[:, kept],
        example.labels,
        example.scored[:, kept],
    )
    found = example.training().fit(Mahalanobis).reference(example.scored, example.scored)
    np.testing.assert_allclose(found, expected(example), rtol=1e-7)


def test_several_labels_are_a_mean_each_and_one_covariance(rng: np.random.Generator) -> None:
    """As Wang et al.'s code has it: the list of each label's features, and the covariance of all lists about their means."""
    example = random(classes=3)
    labels = rng.random((len(example.labels), 5)) < 0.4
    labels[:, 3] = False
    assert (labels.sum(axis=1) == 0).any()
    features, scored = example.fitted_on.astype(np.float64), example.scored.astype(np.float64)
    of_label = [features[labels[:, k]] for k in (0, 1, 2, 4)]
    within = EmpiricalCovariance(assume_centered=True)
    within.fit(np.concatenate([each - each.mean(axis=0) for each in of_label]))
    nearest = -np.stack([within.mahalanobis(scored - each.mean(axis=0)) for each in of_label]).min(axis=0)
    detector = Mahalanobis.of(example.fitted_on, labels)
    np.testing.assert_allclose(detector.reference(scored, scored), nearest, rtol=1e-7)
    seen = MahalanobisPlusPlus.of(example.fitted_on, labels).reference(scored, scored)
    units = Mahalanobis.of(normalize(features), labels).reference(normalize(scored), normalize(scored))
    np.testing.assert_allclose(seen, units, rtol=1e-6)


def test_one_label_alone_in_multi_hot_labels_has_no_relative_distance() -> None:
    example = random(classes=3)
    labels = np.zeros((len(example.labels), 3), dtype=bool)
    labels[::2, 1] = True
    training = replace(example.training(), labels=labels)
    with pytest.raises(ExportError, match="rmds: of images of one class alone"):
        fit(["rmds"], training)


def test_classes_without_images() -> None:
    example = random()
    part = example.labels % 3 == 0
    example = Example(example.model, example.fitted_on[part], example.labels[part], example.scored)
    detector = example.training().fit(Mahalanobis)
    assert len(detector.means) == 4
    np.testing.assert_allclose(detector.reference(example.scored, example.scored), expected(example), rtol=1e-7)


def test_a_constant_feature_has_no_say(rng: np.random.Generator) -> None:
    example = random()
    fitted_on, scored = example.fitted_on.copy(), example.scored.copy()
    fitted_on[:, 0] = 0.3
    scored[:, 0] = rng.normal(0, 10, len(scored))
    detector = Example(example.model, fitted_on, example.labels, scored).training().fit(Mahalanobis)
    without = scored.copy()
    without[:, 0] = -77
    np.testing.assert_allclose(detector.reference(scored, scored), detector.reference(scored, without), rtol=1e-10)


def test_the_units_of_a_feature_do_not_matter() -> None:
    example = random()
    units = 10.0 ** np.linspace(-4, 4, 32)
    scaled = Example(
        example.model, (example.fitted_on * units).astype(np.float32), example.labels, example.scored * units
    )
    found, plain = (e.training().fit(Mahalanobis).reference(e.scored, e.scored) for e in (scaled, example))
    np.testing.assert_allclose(found, plain, rtol=1e-4)


def test_with_fewer_images_than_features_training_images_lie_at_a_bounded_distance() -> None:
    """The sum over n images of their distances to their mean is n times the rank of the covariance."""
    example = random(classes=3, features=64, count=20)
    detector = example.training().fit(Mahalanobis)
    rank = detector.whitening.shape[1]
    assert rank == 17
    own = [
        ((example.fitted_on[i] - detector.origin) @ detector.whitening - detector.means[k])
        for i, k in enumerate(example.labels)
    ]
    assert np.square(own).sum() == pytest.approx(20 * rank)


def test_features_that_do_not_vary() -> None:
    example = random()
    same = Example(example.model, np.ones((50, 32), np.float32), np.zeros(50, np.int64), example.scored)
    with pytest.raises(ExportError, match="the features of the training images don't vary"):
        same.training().fit(Mahalanobis)


def test_one_training_image_of_each_class() -> None:
    example = random()
    few = Example(example.model, example.fitted_on[:10], np.arange(10), example.scored)
    for name in ("mahalanobis", "rmds++"):
        with pytest.raises(ExportError, match=f"^{re.escape(name)}: no class has two training images"):
            fit([name], few.training())
    fitted, (said,) = fit(["mahalanobis++", "nci"], few.training(), skip={"mahalanobis++", "nci"})  # as auto does
    assert [*fitted] == ["nci"]
    assert said.startswith("left out: mahalanobis++: no class has two training images")


def test_what_can_not_be_fitted_is_left_out_of_a_choice() -> None:
    """Activations that are nearly all 0, of which react's default would leave nothing."""
    example = random()
    sparse = example.fitted_on * (np.random.default_rng(0).random(example.fitted_on.shape) < 0.05)
    few = Example(example.model, np.maximum(sparse, 0), example.labels, example.scored)
    with pytest.raises(ExportError, match=r"^react: .* everything would be clipped; raise it"):
        fit(["react"], few.training())
    fitted, (said,) = fit(["react", "gen"], few.training(), skip={"react"})
    assert [*fitted] == ["gen"]
    assert said.startswith("left out: react: ")


# --- on the unit sphere, and relative to one Gaussian


def on_the_sphere(example: Example) -> Example:
    return Example(example.model, normalize(example.fitted_on), example.labels, normalize(example.scored))


def background(example: Example) -> Arrays:
    """The distance to one Gaussian over all images, negated."""
    fitted = EmpiricalCovariance().fit(example.fitted_on.astype(np.float64))
    return -fitted.mahalanobis(example.scored.astype(np.float64))


def test_mahalanobis_plus_plus_is_mahalanobis_of_normalised_features() -> None:
    example = random()
    found = example.training().fit(MahalanobisPlusPlus).reference(example.scored, example.scored)
    np.testing.assert_allclose(found, expected(on_the_sphere(example)), rtol=1e-5)


def test_the_length_of_features_does_not_matter_on_the_sphere(rng: np.random.Generator) -> None:
    example = random()
    detector = example.training().fit(MahalanobisPlusPlus)
    lengths = rng.uniform(0.1, 10, (len(example.scored), 1))
    found, scaled = (detector.reference(x, x) for x in (example.scored, example.scored * lengths))
    np.testing.assert_allclose(scaled, found, rtol=1e-9)


def test_relative_distances_are_those_to_a_class_less_that_to_all() -> None:
    example = random()
    found = example.training().fit(Rmds).reference(example.scored, example.scored)
    np.testing.assert_allclose(found, expected(example) - background(example), rtol=1e-5)
    sphere = on_the_sphere(example)
    found = example.training().fit(RmdsPlusPlus).reference(example.scored, example.scored)
    np.testing.assert_allclose(found, expected(sphere) - background(sphere), rtol=1e-4)


def test_classes_with_the_same_mean() -> None:
    """Two labels for what is one class."""
    example = random()
    labels = np.where(example.labels == 3, 3 + (np.arange(len(example.labels)) // 10) % 2 * 7, example.labels)
    split = Example(random(classes=11).model, example.fitted_on, labels, example.scored)
    for kind in (Mahalanobis, MahalanobisPlusPlus, Rmds, RmdsPlusPlus):
        assert np.isfinite(split.training().fit(kind).reference(example.scored, example.scored)).all()
