"""Figures of an evaluation, on an engine whose outputs are written down here."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom

from export.metrics.evaluation import Evaluation, evaluate
from export.metrics.observation import observe, observe_known
from runtime.bundle import Signature
from runtime.engines.interface import Outputs
from runtime.manifest import Calibration, ErrorBound, FileEntry, GateSpec, Manifest, ModelSpec, Selection
from tests.small import SPEC
from train.data import ImageSet

CLASSES = ("cat", "dog")
CALIBRATION = Calibration(99, (99,), {"msp": (0.5,), "energy": (5.0,)})
MANIFEST = Manifest(
    model=ModelSpec("mine", "net", "none", 10, 8),
    task="multiclass",
    labels=CLASSES,
    input=SPEC,
    scores=("msp", "energy"),
    gate=GateSpec("energy", 5.0, 0.1, 0.9, 99, (0.83, 0.95), 0.15, CALIBRATION),
    files={"model.onnx": FileEntry("abc", 3)},
)


class Fake:
    """Reads the answers from the pixels: the class from red, energy from green (255: not a number), msp from blue."""

    name = "fake"
    batches = ()
    signature = Signature({}, {}, None)

    def run(self, images: npt.NDArray[np.uint8], *, penultimate: bool = False) -> Outputs:
        assert not penultimate
        red, green, blue = images[:, 0, 0].astype(np.float32).T
        energy = np.where(green == 255, np.float32(np.nan), green)
        logits = np.stack([1 - red, np.where(red == 2, np.float32(np.inf), red)], axis=1)
        return Outputs(logits, np.stack([blue, energy], axis=1), (energy >= 5) & (red != 2))


def pictures(rows: list[tuple[int, int, int]]) -> npt.NDArray[np.uint8]:
    """One image for each (class, energy, msp)."""
    return np.array(rows, np.uint8)[:, None, None, :].repeat(16, axis=1).repeat(16, axis=2)


#   predicted, energy, msp; labels beside: right, right, wrong, wrong (and rejected), right but rejected
KNOWN = [(0, 9, 3), (1, 6, 3), (1, 5, 2), (0, 2, 2), (1, 4, 1)]
LABELS = [0, 1, 0, 1, 1]
UNKNOWN = {"far": [(0, 0, 0), (1, 1, 0), (0, 8, 1), (1, 255, 9)], "near": [(0, 7, 3)]}


def image_set(rows: list[tuple[int, int, int]], labels: Any = None) -> ImageSet:
    labels = np.zeros(len(rows), np.int64) if labels is None else np.array(labels)
    return ImageSet(pictures(rows), labels, CLASSES, ("",) * len(rows))


def run(
    manifest: Manifest = MANIFEST, rows: list[tuple[int, int, int]] = KNOWN, labels: Any = LABELS, images: int = 1
) -> Evaluation:
    """The figures, with every ID image `images` times."""
    known = observe_known(Fake(), manifest, "/data/val.tar@2/2", image_set(rows * images, labels * images))
    unknown = {
        name: observe(Fake(), MANIFEST, f"/data/{name}.npz", image_set(r), title=name) for name, r in UNKNOWN.items()
    }
    return evaluate(manifest, known, unknown)


def test_in_distribution() -> None:
    figures = run()
    assert figures.id.source == "val.tar@2/2"
    assert figures.id.images == 5
    assert figures.id.accuracy == pytest.approx(3 / 5)
    assert figures.id.acceptance == pytest.approx(3 / 5)
    assert figures.id.accuracy_accepted == pytest.approx(2 / 3)


def test_out_of_distribution() -> None:
    figures = run()
    assert list(figures.ood) == ["far", "near"]
    assert (figures.ood["far"].source, figures.ood["far"].images) == ("far.npz", 4)
    assert figures.ood["far"].rejection == pytest.approx(3 / 4)
    assert figures.ood["near"].rejection == 0


def test_detection_of_each_score() -> None:
    """Energies 9 6 5 2 4 against 7: 7 is above four of five. Msp 3 3 2 2 1 against 3: below none, equal to two."""
    figures = run()
    assert {score: found.auroc for score, found in figures.ood["near"].scores.items()} == pytest.approx(
        {"energy": 1 / 5, "msp": 1 / 5}
    )


def test_an_image_whose_score_is_not_finite_is_below_all_others() -> None:
    """Energies 9 6 5 2 4 against 0 1 8 and one that is not a number: of 20 pairs only 4 with 8 are out of order."""
    assert run().ood["far"].scores["energy"].auroc == pytest.approx(16 / 20)


def test_intervals_of_shares_are_clopper_and_pearsons() -> None:
    """Of 5 accepted 3, right 3; of 4 rejected 3; beta quantiles of k + 1 and n - k by the binomial's tails."""
    figures = run()
    for (low, high), hits, total in (
        (figures.id.acceptance_interval, 3, 5),
        (figures.id.accuracy_interval or (0, 0), 3, 5),
        (figures.id.accuracy_accepted_interval or (0, 0), 2, 3),
        (figures.ood["far"].rejection_interval, 3, 4),
    ):
        assert binom.sf(hits - 1, total, low) == pytest.approx(0.025)
        assert binom.cdf(hits, total, high) == pytest.approx(0.025)


def test_detection_has_intervals() -> None:
    figures = run(images=20).ood["far"]
    for score, intervals in figures.intervals.items():
        for name, (low, high) in vars(intervals).items():
            assert low <= getattr(figures.scores[score], name) <= high
    low, high = figures.intervals["energy"].auroc
    assert low < 16 / 20 < high


def test_the_acceptance_that_the_calibration_promises() -> None:
    """The threshold is the 10th smallest of 99: the rate is Beta(90, 10), the count binomial at that rate."""
    rng = np.random.default_rng(0)
    counts = rng.binomial(100, rng.beta(90, 10, 200_000)) / 100
    assert run(images=20).id.acceptance_expected == pytest.approx(tuple(np.quantile(counts, [0.025, 0.975])), abs=0.011)


def test_risk_by_confidence_and_by_the_gates_score() -> None:
    """By energy 9 6 5 4 2 the answers are right, right, wrong, right, wrong; all are equally confident."""
    curves = run().id.risk_coverage
    assert curves["score"].aurc == pytest.approx((0 + 0 + 1 / 3 + 1 / 4 + 2 / 5) / 5)
    assert curves["confidence"].aurc == pytest.approx(2 / 5)


class Selective(Fake):
    """Accepts only where msp is at least 3, too."""

    def run(self, images: npt.NDArray[np.uint8], *, penultimate: bool = False) -> Outputs:
        outputs = super().run(images, penultimate=penultimate)
        assert outputs.accept is not None
        return replace(outputs, accept=outputs.accept & (outputs.scores[:, 0] >= 3))


def test_a_bound_on_the_error_tells_what_is_uncertain_and_how_much_is_wrong() -> None:
    assert MANIFEST.gate is not None
    gate = replace(MANIFEST.gate, max_error=ErrorBound(0.1, 0.9, "msp", 50), selection=Selection(3.0, 40, 0, 0.06))
    manifest = replace(MANIFEST, gate=gate)
    images = ImageSet(pictures(KNOWN), np.array(LABELS), CLASSES, tuple("abcde"))
    found = evaluate(manifest, observe_known(Selective(), manifest, "id.tar", images), {})
    assert (found.id.acceptance, found.id.uncertain) == (0.4, 0.2)  # the third is known, and uncertain
    assert found.id.accuracy_accepted == 1
    assert found.id.acceptance_expected is None
    assert found.max_error == gate.max_error


def test_the_gate_and_the_file_it_belongs_to() -> None:
    figures = run()
    assert (figures.model, figures.sha256) == ("mine", "abc")
    assert (figures.score, figures.threshold, figures.alpha) == ("energy", 5.0, 0.1)


def test_accuracy_of_accepted_images_when_none_is() -> None:
    figures = run(rows=[(0, 1, 1), (1, 2, 1)], labels=[0, 1])
    assert figures.id.accuracy == 1
    assert figures.id.accuracy_accepted is None
    assert figures.id.accuracy_accepted_interval is None


def test_one_label_an_image_is_not_enough_for_a_multilabel_model() -> None:
    figures = run(replace(MANIFEST, task="multilabel"))
    assert (figures.id.accuracy, figures.id.accuracy_accepted, figures.id.mean_average_precision) == (None, None, None)
    assert figures.id.risk_coverage == {}
    assert figures.id.acceptance == pytest.approx(3 / 5)


def test_mean_average_precision_of_multi_hot_labels() -> None:
    """Cats are ranked perfectly; of the three ranked first as dogs two are, and the third dog is among the other two."""
    logits = np.array([[1, 0], [0, 1], [0, 1], [1, 0], [0, 1]], np.float32)
    labels = np.array([[True, True], [False, True], [False, False], [True, False], [False, True]])
    known = replace(observe(Fake(), MANIFEST, "val", image_set(KNOWN), title="ID"), labels=labels, logits=logits)
    figures = evaluate(replace(MANIFEST, task="multilabel"), known, {})
    precision = figures.id.mean_average_precision
    assert precision is not None
    assert precision.value == pytest.approx((1 + (2 / 3 * 2 / 3 + 1 / 3 * 3 / 5)) / 2)
    assert precision.labels == 2
    assert figures.id.accuracy is None


def test_a_logit_that_is_not_finite_is_not_confident() -> None:
    """It comes last and does not spoil the others: a class of 2 makes the fake's logits infinite."""
    figures = run(rows=[(0, 9, 3), (2, 9, 3), (0, 9, 3)], labels=[0, 0, 0])
    assert figures.id.risk_coverage["confidence"].aurc == pytest.approx((0 + 0 + 1 / 3) / 3)


def test_plain_data_for_json() -> None:
    figures = run()
    document = json.loads(json.dumps(figures.to_dict(), allow_nan=False))
    assert document["id"]["accuracy"] == pytest.approx(0.6)
    assert document["ood"]["near"]["scores"]["energy"]["auroc"] == pytest.approx(0.2)
    assert len(document["ood"]["near"]["intervals"]["energy"]["auroc"]) == 2
    assert len(document["id"]["risk_coverage"]["score"]["risk"]) == 100
