"""What holds for every detector: the graph equals the float64 reference, and nothing else of the graph changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from export.detectors import DETECTORS
from export.detectors.distances.knn import Knn, KnnSettings
from export.detectors.distances.mahalanobis import Rmds
from export.detectors.distances.ssd import Ssd, SsdSettings
from export.detectors.interface import Fitted
from export.detectors.shaping.ash import AshB, AshS, Scale, ShapingSettings
from export.detectors.shaping.react import React, ReactSettings
from export.detectors.shaping.vra import Vra, VraSettings
from export.detectors.weights.nci import Nci, NciSettings
from export.exceptions import ExportError, NotApplicable
from tests.export.detectors.graphs import (
    Example,
    cosine,
    digits,
    in_graph,
    random,
    reference,
    relative_difference,
    run,
    with_detectors,
)

TOLERANCE = 1e-4
FEW_NEIGHBOURS = {Knn: KnnSettings(k=7)}
GIVEN = {
    Nci: NciSettings(0.01),
    Vra: VraSettings(60, 90),
    **dict.fromkeys((AshB, AshS, Scale), ShapingSettings(85)),
}
ALL = pytest.mark.parametrize("kind", DETECTORS.values(), ids=DETECTORS)
ANY_LAYERS = [kind for kind in DETECTORS.values() if not kind.linear]


def check(
    kind: type[Fitted], example: Example, seed: int = 0, settings: Mapping[type[Fitted], Any] = FEW_NEIGHBOURS
) -> npt.NDArray[np.float64]:
    """The graph's scores equal the reference's, which are returned."""
    return check_fitted(example.training(seed, settings).fit(kind), example)


def check_fitted(detector: Fitted, example: Example) -> npt.NDArray[np.float64]:
    expected = reference(example.model, detector, example.scored)
    assert expected.shape == (len(example.scored),)
    assert expected.dtype == np.float64
    assert relative_difference(in_graph(example.model, detector, example.scored), expected) <= TOLERANCE
    return expected


@ALL
@pytest.mark.parametrize("example", [random, digits])
def test_graph_and_reference(kind: type[Fitted], example: Callable[[], Example]) -> None:
    scores = check(kind, example())
    assert np.ptp(scores) > 0


@ALL
def test_other_settings(kind: type[Fitted]) -> None:
    settings = {Knn: KnnSettings(k=1, bank=0.3), Ssd: SsdSettings(clusters=4), React: ReactSettings(80, 0.5)}
    check(kind, digits(), seed=3, settings=settings)


@pytest.mark.parametrize("kind", ANY_LAYERS)
def test_a_projection_head(kind: type[Fitted], rng: np.random.Generator) -> None:
    example = random()
    model = cosine(rng.normal(0, 1, (12, 32)), rng.normal(0, 1, (10, 12)))
    check(kind, Example(model, example.fitted_on, example.labels, example.scored))


@pytest.mark.parametrize("name", ["gradnorm", "dice", "vim", "nci", "fdbd"])
def test_a_projection_head_where_a_linear_layer_is_needed(name: str, rng: np.random.Generator) -> None:
    example = random()
    model = cosine(rng.normal(0, 1, (12, 32)), rng.normal(0, 1, (10, 12)))
    training = Example(model, example.fitted_on, example.labels, example.scored).training()
    assert DETECTORS[name].linear
    with pytest.raises(ExportError, match="not a plain linear layer"):
        training.fit(DETECTORS[name])


@ALL
def test_a_feature_that_is_constant_another_that_is_zero_and_rows_of_zeros(kind: type[Fitted]) -> None:
    example = random()
    fitted_on, scored = example.fitted_on.copy(), example.scored.copy()
    fitted_on[:, 3], scored[:, 3] = 1.7, 1.7
    fitted_on[:, 5], scored[::2, 5] = 0, 0
    scored[0] = 0
    scores = check(kind, Example(example.model, fitted_on, example.labels, scored))
    assert np.isfinite(scores).all()


@ALL
def test_fewer_images_than_features(kind: type[Fitted]) -> None:
    scores = check(kind, random(classes=3, features=64, count=20))
    assert np.isfinite(scores).all()


@ALL
def test_one_class_and_one_image_of_it(kind: type[Fitted]) -> None:
    example = random()
    one = Example(example.model, example.fitted_on[:30], np.full(30, 4), example.scored)
    if issubclass(kind, Rmds):
        with pytest.raises(NotApplicable, match="of images of one class alone"):
            check(kind, one)
        return
    assert np.isfinite(check(kind, one)).all()


@ALL
def test_two_fits_are_the_same(kind: type[Fitted]) -> None:
    example = digits()
    settings = {Knn: KnnSettings(k=3, bank=100), Ssd: SsdSettings(clusters=3)}
    once, again = (example.training(seed=1, settings=settings).fit(kind) for _ in range(2))
    expected = reference(example.model, once, example.scored)
    np.testing.assert_array_equal(reference(example.model, again, example.scored), expected)


@ALL
def test_fitting_does_not_change_the_features(kind: type[Fitted]) -> None:
    example = random()
    before = example.fitted_on.copy()
    example.training(settings=FEW_NEIGHBOURS).fit(kind)
    np.testing.assert_array_equal(example.fitted_on, before)


def test_all_together_leave_the_rest_of_the_graph_alone() -> None:
    """The predicted class above all comes from the raw logits, whatever ReAct and DICE do to theirs."""
    example = digits()
    training = example.training(settings=FEW_NEIGHBOURS)
    detectors = [training.fit(kind) for kind in DETECTORS.values()]
    before, after = (run(model, example.scored) for model in (example.model, with_detectors(example.model, *detectors)))
    np.testing.assert_array_equal(after["logits"], before["logits"])
    np.testing.assert_array_equal(after["penultimate"], before["penultimate"])
    base = before["scores"].shape[1]
    np.testing.assert_array_equal(after["scores"][:, :base], before["scores"])
    for column, detector in enumerate(detectors, start=base):
        alone = in_graph(example.model, detector, example.scored)
        np.testing.assert_allclose(after["scores"][:, column], alone, rtol=1e-6)


def test_parts_are_shared_in_the_graph() -> None:
    """One bank serves knn and nan_knn, one softmax msp, kl_uniform and gradnorm."""
    example = digits()
    training = example.training(settings=FEW_NEIGHBOURS)
    model = with_detectors(example.model, *(training.fit(kind) for kind in DETECTORS.values()))
    banks = [tensor for tensor in model.graph.initializer if tensor.dims == [1200, 48]]
    assert len(banks) == 2  # the other is of rectified features
    kinds = [node.op_type for node in model.graph.node if set(node.input) & {"logits"}]
    assert kinds.count("Softmax") == 1


@ALL
def test_each_image_is_scored_by_itself(kind: type[Fitted]) -> None:
    example = digits()
    detector = example.training(settings=FEW_NEIGHBOURS).fit(kind)
    model = with_detectors(example.model, detector)
    together = run(model, example.scored)["scores"][:, -1]
    for i in (0, 259):
        np.testing.assert_allclose(run(model, example.scored[i : i + 1])["scores"][0, -1], together[i], rtol=1e-5)
    assert run(model, example.scored[:0])["scores"].shape[0] == 0


@pytest.mark.parametrize(
    "name",
    [
        *("mahalanobis", "mahalanobis++", "rmds", "rmds++", "ssd", "knn"),
        *("nan_knn", "nan_ssd", "nan_react_knn", "nan_react_ssd"),
    ],
)
def test_features_like_those_of_the_training_are_nearer(name: str) -> None:
    """Orientation: higher is more in-distribution."""
    example = digits()
    scores = reference(example.model, example.training().fit(DETECTORS[name]), example.scored)
    known, noise = scores[:200], scores[200:]
    assert (known[:, None] > noise).mean() > 0.9


@pytest.mark.parametrize("name", ["nnguide", "she", "nci", "fdbd", "gen", "klm", "ash-b", "ash-s", "scale", "vra"])
def test_known_images_score_higher_than_noise(name: str) -> None:
    """The same of detectors that look at the prediction, which noise may resemble."""
    example = digits()
    scores = reference(example.model, example.training().fit(DETECTORS[name]), example.scored)
    assert (scores[:200, None] > scores[200:]).mean() > 0.75


def test_a_thousand_classes() -> None:
    """Without SSD, which is Mahalanobis over again, and the slow exact covariance of a second set of features."""
    example = random(classes=1000, features=512, count=1500)
    names = (
        "kl_uniform",
        "gradnorm",
        "hidden_confidence",
        "react",
        "dice",
        "mahalanobis",
        "nan_knn",
        "nan_react",
        "gen",
    )
    training = example.training(settings={**FEW_NEIGHBOURS, **GIVEN})
    for name in (*names, "klm", "nci", "fdbd", "vra", "ash-b", "ash-s", "scale", "she", "nnguide"):
        check_fitted(training.fit(DETECTORS[name]), example)


def test_relative_distances_of_a_thousand_classes() -> None:
    check(DETECTORS["rmds++"], random(classes=1000, features=512, count=1500))


def test_a_bank_of_fifty_thousand() -> None:
    check(Knn, random(features=64, count=50_000), settings={})


def test_features_of_a_class_that_lie_close_together(rng: np.random.Generator) -> None:
    """After long training: directions of one class differ by a degree or two, so that cosines differ in their last digits."""
    example = random(features=128, count=3000)
    centres = np.stack([example.fitted_on[example.labels == k].mean(axis=0) for k in range(10)])
    collapsed = np.maximum(centres[example.labels] + rng.normal(0, 0.02, (3000, 128)), 0).astype(np.float32)
    scored = np.concatenate([collapsed[:40] + np.float32(0.01), example.scored])
    for kind in DETECTORS.values():
        check(kind, Example(example.model, collapsed, example.labels, scored))
