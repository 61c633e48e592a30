"""Promises of labels on an exported file: which images make them, and what graph and runtime then do."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from export.calibrate import gating, selection
from export.calibrate.gating import fit_gate
from export.calibrate.labelled import halves, true_labels
from export.calibrate.options import GateOptions
from export.exceptions import ExportError
from export.graph.head import seal
from runtime import Gate, UnknownOperatingPoint
from runtime.bundle import Bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import CalibrationError, GraphMismatch
from runtime.manifest import Manifest, Selection
from tests.small import ALPHA, LABELS, SPEC, calibration_images, write_labelled
from train.data import load
from train.exceptions import DataError

OPTIONS = GateOptions("energy", ALPHA, max_error=0.05)


@pytest.fixture(scope="module")
def source(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_labelled(tmp_path_factory.mktemp("labelled") / "id.npz", shared_bundle)


@pytest.fixture(scope="module")
def gate(selective_bundle: Bundle) -> Gate:
    return Gate.load(selective_bundle.path, engine="onnxruntime-cpu", threads=1)


def fit(bundle: Bundle, source: str, options: GateOptions) -> tuple[onnx.ModelProto, Manifest]:
    model = onnx.load_from_string(bundle.model)
    return model, fit_gate(model, bundle.manifest, source, options, threads=1).manifest


def test_halves_are_random_and_apart() -> None:
    positions = np.arange(5, 106)
    first, second = halves(positions)
    assert (len(first), len(second)) == (51, 50)
    assert sorted([*first, *second]) == positions.tolist()
    assert not (np.diff(first) == 1).all()


def test_the_half_that_tests_sets_nothing_else(
    shared_bundle: Bundle, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[bytes]] = {}
    run = gating._run

    def watched(model: onnx.ModelProto, images: Any, threads: int, title: str) -> object:
        seen[title] = {image.tobytes() for image in images[:]}
        return run(model, images, threads, title)

    monkeypatch.setattr(gating, "_run", watched)
    _, manifest = fit(shared_bundle, source, OPTIONS)
    assert {title: len(images) for title, images in seen.items()} == {"calibrate": 600, "labels": 600}
    assert not seen["calibrate"] & seen["labels"]
    assert manifest.gate is not None
    assert manifest.confidence is not None
    assert manifest.gate.max_error is not None
    assert (manifest.gate.n_calibration, manifest.confidence.n, manifest.gate.max_error.n) == (600, 600, 600)


def test_graph_and_rule_hold_both_thresholds(selective_bundle: Bundle, gate: Gate) -> None:
    images = calibration_images(400, seed=8)
    spec, manifest = gate.spec, gate.manifest
    assert spec.selection is not None
    assert manifest.scores[-1] == "confidence"
    assert manifest.confidence is not None
    decisions = gate.decide(images)
    outputs = gate.engine.run(images)
    probabilities = np.exp(outputs.logits.astype(np.float64) / manifest.confidence.temperature)
    confidence = (probabilities / probabilities.sum(axis=1, keepdims=True)).max(axis=1)
    np.testing.assert_allclose(outputs.scores[:, -1], confidence, rtol=1e-5)
    known = outputs.scores[:, manifest.scores.index("energy")] >= np.float32(spec.threshold)
    certain = outputs.scores[:, -1] >= np.float32(spec.selection.threshold)
    expected = np.where(known & certain, "accept", np.where(known, "uncertain", "ood"))
    assert [decision.reason or decision.decision for decision in decisions] == expected.tolist()
    assert set(expected) == {"accept", "ood", "uncertain"}
    assert [decision.is_ood for decision in decisions] == (~known).tolist()
    bare = ort.InferenceSession(str(selective_bundle.path / "model.onnx"), providers=["CPUExecutionProvider"])
    (accept,) = bare.run(["accept"], {"images": images})
    np.testing.assert_array_equal(accept, known & certain)
    for decision in decisions:
        assert decision.label == (LABELS[decision.class_index] if decision.decision == "accept" else None)
        assert decision.selection is not None
        assert decision.selection.name == "confidence"
        assert decision.selection.value == pytest.approx(decision.confidence, rel=1e-5)
        assert decision.uncertain == (not decision.is_ood and decision.selection.value < decision.selection.threshold)


def test_every_operating_point_has_a_threshold_of_its_own(gate: Gate) -> None:
    images = calibration_images(400, seed=9)
    outputs = gate.run(images)
    bare = ort.InferenceSession(gate.bundle.model, providers=["CPUExecutionProvider"])
    for alpha in gate.alphas:
        point = gate.spec.at(alpha)
        assert point.selection is not None
        assert point.selection.upper <= 0.05
        accept = [decision.decision == "accept" for decision in gate.decisions(outputs, alpha=alpha)]
        known = outputs.scores[:, gate.rule.column] >= np.float32(point.threshold)
        assert accept == (known & (outputs.scores[:, -1] >= np.float32(point.selection.threshold))).tolist()
        feeds = {"threshold": point.threshold, "selection_threshold": point.selection.threshold}
        named = {name: np.asarray(value, np.float32) for name, value in feeds.items()}
        (moved,) = bare.run(["accept"], {"images": images, **named})
        assert accept == moved.tolist()


def test_new_images_keep_the_promises(shared_bundle: Bundle, gate: Gate, tmp_path: Path) -> None:
    """Of the same law as those that tested; both shares are far from their bounds' other sides too."""
    new = load(write_labelled(tmp_path / "new.npz", shared_bundle, 2000, seed=31), SPEC).with_classes(LABELS, "new")
    decisions = gate.decide(new.images[:])
    accepted = [i for i, decision in enumerate(decisions) if decision.decision == "accept"]
    wrong = sum(decisions[i].class_index != new.labels[i] for i in accepted)
    assert 0.5 < len(accepted) / 2000 < 0.95
    assert wrong / len(accepted) <= 0.05
    known = [i for i, decision in enumerate(decisions) if not decision.is_ood]
    for coverage in (0.8, 0.95):
        covered = [new.labels[i] in [k for k, _ in decisions[i].label_set(coverage)] for i in known]
        assert coverage - 0.03 < np.mean(covered) <= 1
    assert all(decision.label_set(0.8) == [] for decision in decisions if decision.is_ood)
    with pytest.raises(UnknownOperatingPoint, match=r"no label sets of coverage 0.5; stored: 0.8, 0.95"):
        decisions[0].label_set(0.5)


def test_other_operating_points_that_can_not_keep_the_bound_are_dropped(
    shared_bundle: Bundle, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    fitted = selection.fit

    def first_fails(*args: Any) -> Selection:
        asked.append(len(asked))
        if len(asked) == 1:
            raise CalibrationError("infeasible")
        return fitted(*args)

    monkeypatch.setattr(selection, "fit", first_fails)
    gate = fit(shared_bundle, source, OPTIONS)[1].gate
    assert gate is not None
    assert (gate.alpha, gate.alphas) == (0.1, (0.05, 0.1))
    asked.clear()
    with pytest.raises(CalibrationError, match="infeasible"):
        fit(shared_bundle, source, replace(OPTIONS, alpha=0.01))


def test_a_bound_that_can_not_be_kept_says_what_can(shared_bundle: Bundle, source: str) -> None:
    with pytest.raises(
        CalibrationError, match=r"the smallest that these 600 images reach is --max-error 0\.\d+, where"
    ):
        fit(shared_bundle, source, GateOptions("energy", 0.5, max_error=0.003))


def test_another_score_may_select(shared_bundle: Bundle, source: str) -> None:
    model, manifest = fit(shared_bundle, source, replace(OPTIONS, select="msp"))
    assert manifest.gate is not None
    assert manifest.gate.max_error is not None
    assert manifest.gate.selection is not None
    assert (manifest.gate.max_error.score, manifest.scores) == ("msp", shared_bundle.manifest.scores)
    outputs = OnnxRuntimeCpu(seal(model, manifest), threads=1).run(calibration_images(200, seed=8))
    energy, msp = (outputs.scores[:, manifest.scores.index(name)] for name in ("energy", "msp"))
    expected = (energy >= np.float32(manifest.gate.threshold)) & (msp >= np.float32(manifest.gate.selection.threshold))
    np.testing.assert_array_equal(outputs.accept, expected)


def test_a_new_calibration_keeps_what_was_promised_and_may_drop_it(selective_bundle: Bundle, source: str) -> None:
    before = selective_bundle.manifest
    options = GateOptions.of(before)
    assert (options.max_error, options.select, options.prediction_sets) == (0.05, "confidence", (0.8, 0.95))
    model, again = fit(selective_bundle, source, options)
    assert again.scores == before.scores
    sealed = onnx.load_from_string(seal(model, again))
    assert len(sealed.graph.node) == len(onnx.load_from_string(selective_bundle.model).graph.node)
    model, without = fit(selective_bundle, source, GateOptions("energy", ALPHA))
    assert "confidence" not in without.scores
    assert "confidence" not in without.score_parameters
    assert without.gate is not None
    assert (without.gate.max_error, without.gate.selection, without.gate.sets) == (None, None, ())
    assert "selection_threshold" not in {value.name for value in model.graph.input}


def test_sets_alone_leave_the_scores_as_they_are(shared_bundle: Bundle, source: str) -> None:
    _, manifest = fit(shared_bundle, source, GateOptions("energy", ALPHA, prediction_sets=(0.9,)))
    assert manifest.gate is not None
    assert (manifest.scores, manifest.gate.max_error) == (shared_bundle.manifest.scores, None)
    assert [[one.coverage for one in point.sets] for point in manifest.gate.points] == [[0.9]] * 3


def test_a_graph_without_the_second_threshold_does_not_load(selective_bundle: Bundle, gate: Gate) -> None:
    inputs = {name: t for name, t in gate.engine.signature.inputs.items() if name != "selection_threshold"}
    with pytest.raises(GraphMismatch, match=r"input 'selection_threshold' float32 \[\] is missing"):
        selective_bundle.check_graph(replace(gate.engine.signature, inputs=inputs))


# --- what can't be promised


def test_images_have_to_be_labelled(shared_bundle: Bundle, source: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", images=calibration_images(100), labels=np.full(100, "tree"))
    with pytest.raises(DataError, match="class 'tree' is not one of the model's"):
        fit(shared_bundle, str(tmp_path / "other.npz"), OPTIONS)
    images = load(source, SPEC)
    with pytest.raises(ExportError, match="are for one label an image, and this model has any number"):
        true_labels(replace(shared_bundle.manifest, gate=None, task="multilabel"), images, "id.npz")
    hot = replace(images, labels=np.zeros((len(images), 3), np.bool_))
    with pytest.raises(ExportError, match=r"are for one label an image, and id\.npz has any number"):
        true_labels(shared_bundle.manifest, hot, "a/id.npz")


def test_too_few_images_say_how_many_it_takes(shared_bundle: Bundle, tmp_path: Path) -> None:
    few = write_labelled(tmp_path / "few.npz", shared_bundle, 60)
    with pytest.raises(CalibrationError, match=r"takes 149 accepted test images of which none is wrong, and \d+ pass"):
        fit(shared_bundle, few, GateOptions("energy", ALPHA, max_error=0.02))
    with pytest.raises(CalibrationError, match=r"too few for prediction sets of coverage 0.99: at least 99 are needed"):
        fit(shared_bundle, few, GateOptions("energy", ALPHA, prediction_sets=(0.99,)))


_LATER = {
    "model": {"numerics"},
    "input": {"colour", "resize_to", "corner", "fill", "resampler", "channels", "opaque"},
    "gate": {"guarantee", "confidence", "selection", "sets", "max_error", "promise"},
}


def test_a_bundle_of_before_decides_as_before(tmp_path: Path) -> None:
    """Without what manifests did not say before there were guarantees: no second threshold, and the same decisions."""
    shipped = Path(__file__).resolve().parents[3] / "bundles" / "cifar10"
    copy = Path(shutil.copytree(shipped, tmp_path / "cifar10"))
    document = json.loads((copy / "manifest.json").read_text())
    for part, later in _LATER.items():
        document[part] = {key: value for key, value in document[part].items() if key not in later}
    sealed = seal(onnx.load(copy / "model.onnx"), Manifest.from_json(json.dumps(document)))
    (copy / "model.onnx").write_bytes(sealed)
    document["files"] = {"model.onnx": {"sha256": hashlib.sha256(sealed).hexdigest(), "bytes": len(sealed)}}
    (copy / "manifest.json").write_text(json.dumps(document))
    gate = Gate.load(copy, engine="onnxruntime-cpu", threads=1)
    assert (gate.spec.guarantee, gate.spec.max_error, gate.rule.selects) == ("marginal", None, None)
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    outputs = gate.run(images)
    energy = outputs.scores[:, gate.manifest.scores.index("energy")]
    decisions = gate.decide(images)
    assert [decision.decision == "accept" for decision in decisions] == (
        energy >= np.float32(gate.spec.threshold)
    ).tolist()
    assert all(decision.reason == ("ood" if decision.decision == "reject" else None) for decision in decisions)
    now = Gate.load(shipped, engine="onnxruntime-cpu", threads=1).decide(images)
    assert [replace(before, model=after.model) for before, after in zip(decisions, now, strict=True)] == now
