"""A bundle without classes: it accepts or rejects, and says nothing of a label."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from export.detectors.base import FeatureNorm, Nan
from runtime import Gate
from runtime.__main__ import main
from runtime.bundle import Bundle
from runtime.engines.interface import EngineName, Outputs
from runtime.exceptions import BundleError
from runtime.manifest import Confidence, Manifest
from runtime.rule import Rule, predicted, probabilities
from runtime.selftest import main as selftest
from tests.small import ALPHA, LABELS, calibration_images, encode, extractor, reseal, write_golden

IMAGES = calibration_images(40, seed=11)


@pytest.fixture(scope="module")
def gate(unlabelled_bundle: Bundle) -> Gate:
    return Gate.load(unlabelled_bundle.path, engine="onnxruntime-cpu", threads=1)


def test_the_graph_has_no_logits_and_its_manifest_says_so(unlabelled_bundle: Bundle) -> None:
    session = onnxruntime.InferenceSession(unlabelled_bundle.model, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["penultimate", "scores", "accept"]
    manifest = json.loads((unlabelled_bundle.path / "manifest.json").read_text())
    assert (manifest["task"], manifest["labels"], manifest["scores"]) == ("unlabelled", [], ["nan", "feature_norm"])
    assert Manifest.from_json(json.dumps(manifest)) == unlabelled_bundle.manifest


def test_decides_as_a_computation_by_hand(gate: Gate) -> None:
    """The floor(alpha (n + 1))-th smallest score of the network itself is the threshold."""
    activations = extractor().run(IMAGES)[1]
    scores = Nan().reference(activations[:, :0], activations)
    calibrated = np.sort(Nan().reference(activations[:, :0], extractor().run(calibration_images())[1]))
    threshold = calibrated[int(ALPHA * (len(calibrated) + 1)) - 1]
    decisions = gate.decide(IMAGES)
    assert {decision.decision for decision in decisions} == {"accept", "reject"}
    for decision, score, features in zip(decisions, scores, activations, strict=True):
        assert decision.scores == pytest.approx({"nan": score, "feature_norm": features.sum()}, rel=1e-5)
        assert decision.decision == ("accept" if score >= threshold else "reject")
        assert decision.score.p_value == (1 + (calibrated <= score).sum()) / (len(calibrated) + 1)


def test_nothing_is_said_of_classes(gate: Gate) -> None:
    for decision in gate.decide(IMAGES):
        assert (decision.label, decision.labels, decision.class_index, decision.confidence) == (None,) * 4
        assert decision.top(3) == []
        document = decision.to_dict()
        assert (document["label"], document["class_index"], document["confidence"]) == (None, None, None)
        assert document["is_ood"] is (document["decision"] == "reject")
        json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_every_operating_point(gate: Gate, alpha: float) -> None:
    spec = gate.spec.at(alpha)
    decisions = gate.decide(IMAGES, alpha=alpha)
    assert [one.decision == "accept" for one in decisions] == [one.score.value >= spec.threshold for one in decisions]


@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino"])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_every_engine_and_batch(unlabelled_bundle: Bundle, tmp_path: Path, engine: EngineName, count: int) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    loaded = Gate.load(unlabelled_bundle.path, engine=engine, threads=1, cache=tmp_path)
    outputs = loaded.engine.run(IMAGES[:count], penultimate=True)
    assert outputs.logits.shape == (count, 0)
    assert outputs.penultimate is not None
    expected = extractor().run(IMAGES[:count])[1] if count else np.empty((0, 8))
    np.testing.assert_allclose(outputs.penultimate, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(outputs.scores[:, 1], FeatureNorm().reference(expected, expected), rtol=1e-4)
    assert len(loaded.decide(IMAGES[:count])) == count


def test_scores_that_are_not_finite_reject(unlabelled_bundle: Bundle) -> None:
    rule = Rule.of(unlabelled_bundle.manifest)
    logits = np.empty((4, 0), np.float32)
    scores = np.array([[1e3, 1.0], [1e3, np.nan], [np.inf, 1.0], [-1e3, 1.0]], np.float32)
    np.testing.assert_array_equal(rule.accepts(logits, scores), [True, False, False, False])
    np.testing.assert_array_equal(predicted(logits), np.zeros(4))
    assert probabilities(logits, 1.0).shape == (4, 0)
    assert Outputs.of({"scores": scores}).logits.shape == (4, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": LABELS}, "a model that is unlabelled has none"),
        ({"confidence": Confidence(1.0, 10, 0.1, 0.1)}, "a model that is unlabelled has none"),
        ({"task": "multiclass"}, "labels must be distinct and at least one"),
        ({"scores": ()}, "scores must be distinct and at least one"),
    ],
)
def test_a_manifest_that_contradicts_itself(unlabelled_bundle: Bundle, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(unlabelled_bundle.manifest, **change)


def test_a_gate_by_classes_has_no_place(unlabelled_bundle: Bundle) -> None:
    gate = unlabelled_bundle.manifest.gate
    assert gate is not None
    with pytest.raises(ValueError, match="class_conditional is for models with classes"):
        dataclasses.replace(unlabelled_bundle.manifest, gate=dataclasses.replace(gate, class_conditional=True))


def test_a_graph_with_another_face_is_refused(unlabelled_bundle: Bundle, shared_bundle: Bundle, tmp_path: Path) -> None:
    """A classifier's graph beside this manifest."""
    path = Path(shutil.copytree(unlabelled_bundle.path, tmp_path / "other"))
    (path / "model.onnx").write_bytes(shared_bundle.model)
    with pytest.raises(BundleError, match=r"model\.onnx"):
        Gate.load(path, engine="onnxruntime-cpu")


def test_the_command(unlabelled_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.png").write_bytes(encode(IMAGES[0]))
    assert main([str(unlabelled_bundle.path), str(tmp_path), "--engine", "onnxruntime-cpu"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["decision"] in ("accept", "reject")
    assert (answer["label"], answer["class_index"], answer["confidence"]) == (None, None, None)


def test_golden_images_and_the_pipeline(
    unlabelled_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Golden images have no logits; a score or a decision that was edited is found; pipeline.onnx has the same outputs."""
    bundle = write_golden(tmp_path / "golden", unlabelled_bundle)
    document = json.loads(bundle.read("golden/golden.json"))
    assert {(image["logits"], image["class_index"], image["label"]) for image in document["images"]} == {(None,) * 3}
    assert selftest([str(bundle.path), "--engine", "onnxruntime-cpu", "--threads", "1"]) == 0
    assert "12 golden images as expected; scores " in capsys.readouterr().out
    pipeline = onnxruntime.InferenceSession(bundle.read("pipeline.onnx"), providers=["CPUExecutionProvider"])
    assert "logits" not in {output.name for output in pipeline.get_outputs()}
    document["images"][0]["scores"]["nan"] *= 1.5
    edited = reseal(bundle.path, "golden/golden.json", json.dumps(document).encode())
    assert selftest([str(edited.path), "--engine", "onnxruntime-cpu", "--threads", "1"]) == 1
    assert "same.png fails at scores: nan is " in capsys.readouterr().out
