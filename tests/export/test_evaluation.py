"""Figures of an evaluation, on an engine whose outputs are written down here."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from export.evaluation import Evaluation, evaluate
from runtime.engines.interface import Outputs, Signature
from runtime.manifest import Calibration, FileEntry, GateSpec, Manifest, ModelSpec
from tests.small import SPEC
from train.data import ImageSet

CLASSES = ("cat", "dog")
MANIFEST = Manifest(
    model=ModelSpec("mine", "net", "none", 10, 8),
    task="multiclass",
    labels=CLASSES,
    input=SPEC,
    scores=("msp", "energy"),
    gate=GateSpec("energy", 5.0, 0.1, 0.9, 99, (0.83, 0.95), 0.15),
    calibration=Calibration(99, (99,), {"msp": (0.5,), "energy": (5.0,)}),
    files={"model.onnx": FileEntry("abc", 3)},
)


class Fake:
    """Reads the answers from the pixels: the class from red, energy from green (255: not a number), msp from blue."""

    name = "fake"
    signature = Signature({}, {}, None)

    def run(
        self, images: npt.NDArray[np.uint8], threshold: float | None = None, *, penultimate: bool = False
    ) -> Outputs:
        assert threshold is None
        assert not penultimate
        red, green, blue = images[:, 0, 0].astype(np.float32).T
        energy = np.where(green == 255, np.float32(np.nan), green)
        logits = np.stack([1 - red, red], axis=1)
        return Outputs(logits, np.stack([blue, energy], axis=1), energy >= 5)


def pictures(rows: list[tuple[int, int, int]]) -> npt.NDArray[np.uint8]:
    """One image for each (class, energy, msp)."""
    return np.array(rows, np.uint8)[:, None, None, :].repeat(16, axis=1).repeat(16, axis=2)


#   predicted, energy, msp; labels beside: right, right, wrong, wrong (and rejected), right but rejected
KNOWN = [(0, 9, 3), (1, 6, 3), (1, 5, 2), (0, 2, 2), (1, 4, 1)]
LABELS = [0, 1, 0, 1, 1]
UNKNOWN = {"far": [(0, 0, 0), (1, 1, 0), (0, 8, 1), (1, 255, 9)], "near": [(0, 7, 3)]}


def known(rows: list[tuple[int, int, int]] = KNOWN, labels: list[int] = LABELS) -> tuple[str, ImageSet]:
    return "/data/val.tar@2/2", ImageSet(pictures(rows), np.array(labels), CLASSES, ("",) * len(rows))


def run(manifest: Manifest = MANIFEST) -> tuple[Evaluation, dict[str, npt.NDArray[np.float32]]]:
    unknown = {name: (f"/data/{name}.npz", pictures(rows)) for name, rows in UNKNOWN.items()}
    return evaluate(Fake(), manifest, known(), unknown)


def test_in_distribution() -> None:
    figures, _ = run()
    assert figures.id.source == "val.tar@2/2"
    assert figures.id.images == 5
    assert figures.id.accuracy == pytest.approx(3 / 5)
    assert figures.id.acceptance == pytest.approx(3 / 5)
    assert figures.id.accuracy_accepted == pytest.approx(2 / 3)


def test_out_of_distribution() -> None:
    figures, _ = run()
    assert list(figures.ood) == ["far", "near"]
    assert (figures.ood["far"].source, figures.ood["far"].images) == ("far.npz", 4)
    assert figures.ood["far"].rejection == pytest.approx(3 / 4)
    assert figures.ood["near"].rejection == 0


def test_detection_of_each_score() -> None:
    """Energies 9 6 5 2 4 against 7: 7 is above four of five. Msp 3 3 2 2 1 against 3: below none, equal to two."""
    figures, _ = run()
    assert {score: found.auroc for score, found in figures.ood["near"].scores.items()} == pytest.approx(
        {"energy": 1 / 5, "msp": 1 / 5}
    )


def test_an_image_whose_score_is_not_finite_is_below_all_others() -> None:
    """Energies 9 6 5 2 4 against 0 1 8 and one that is not a number: of 20 pairs only 4 with 8 are out of order."""
    figures, histograms = run()
    assert figures.ood["far"].scores["energy"].auroc == pytest.approx(16 / 20)
    assert np.isfinite(histograms["far"]).all()


def test_histograms_are_of_the_gates_score() -> None:
    _, histograms = run()
    assert list(histograms) == ["ID", "far", "near"]
    assert histograms["ID"].tolist() == [9, 6, 5, 2, 4]
    assert histograms["near"].tolist() == [7]


def test_the_interval_is_the_binomial_of_the_target() -> None:
    """Of five images accepted with 0.9 each: P(<= 2) = 0.0086 and P(<= 3) = 0.0815, so at least 3 in 97.5 %."""
    figures, _ = run()
    assert figures.id.acceptance_interval == pytest.approx((3 / 5, 1.0))


def test_the_gate_and_the_file_it_belongs_to() -> None:
    figures, _ = run()
    assert (figures.model, figures.sha256) == ("mine", "abc")
    assert (figures.score, figures.threshold, figures.alpha) == ("energy", 5.0, 0.1)


def test_accuracy_of_accepted_images_when_none_is() -> None:
    figures, _ = evaluate(Fake(), MANIFEST, known([(0, 1, 1), (1, 2, 1)], [0, 1]), {})
    assert figures.id.accuracy == 1
    assert figures.id.accuracy_accepted is None


def test_multilabel_has_no_accuracy() -> None:
    figures, _ = run(replace(MANIFEST, task="multilabel"))
    assert figures.id.accuracy is None
    assert figures.id.accuracy_accepted is None
    assert figures.id.acceptance == pytest.approx(3 / 5)


def test_mean_average_precision_of_a_multilabel_model() -> None:
    """Its logits are 1 - red and red, red being 0 1 1 0 1 in KNOWN: two scores a label, so that many are tied."""
    source, data = known()
    hot = np.array([[1, 0], [0, 1], [0, 0], [1, 1], [0, 1]], dtype=np.bool_)
    multilabel = replace(MANIFEST, task="multilabel")
    figures, _ = evaluate(Fake(), multilabel, (source, replace(data, labels=hot)), {})
    assert figures.id.mean_average_precision == pytest.approx((1 + (2 / 3 + 2 / 3 + 3 / 5) / 3) / 2)
    assert evaluate(Fake(), multilabel, known(), {})[0].id.mean_average_precision is None


def test_plain_data_for_json() -> None:
    figures, _ = run()
    document = json.loads(json.dumps(figures.to_dict(), allow_nan=False))
    assert document["id"]["accuracy"] == pytest.approx(0.6)
    assert document["ood"]["near"]["scores"]["energy"]["auroc"] == pytest.approx(0.2)
    assert not math.isnan(document["threshold"])
