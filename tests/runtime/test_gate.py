"""The gate: decisions equal the graph's, and everything unusual rejects or raises."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from PIL import Image
from scipy import special

from export.calibrate.calibration import calibrate
from export.graph.building import set_metadata
from export.graph.head import seal
from runtime import Bundle, Decision, Gate, Limits, bundle
from runtime.bundle import MANIFEST, MODEL
from runtime.engines.interface import Outputs, Signature
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import (
    EngineError,
    GraphMismatch,
    ImageError,
    ImageTooLarge,
    NotAnImage,
    NotCalibrated,
    UndecodableImage,
    UnknownOperatingPoint,
)
from runtime.gate import MAX_BATCH
from runtime.manifest import Confidence, Manifest
from tests.small import ALPHA, LABELS, calibration_images, encode

Images = npt.NDArray[np.uint8]
Answer = Callable[[Images], Outputs]


class FakeEngine:
    """An engine of any signature that answers by a function of images."""

    name = "fake"

    def __init__(self, signature: Signature, answer: Answer) -> None:
        self.signature = signature
        self._answer = answer

    def run(self, images: Images, *, penultimate: bool = False) -> Outputs:
        assert not penultimate
        return self._answer(images)


def gate_of(original: Gate, answer: Answer, **changes: Any) -> Gate:
    """`original` with another engine and, in both places, other fields of the manifest."""
    manifest = dataclasses.replace(original.manifest, **changes)
    embedded = dataclasses.replace(manifest, files={}).to_json()
    signature = dataclasses.replace(original.engine.signature, manifest=embedded)
    return Gate(dataclasses.replace(original.bundle, manifest=manifest), FakeEngine(signature, answer))


def answering(scores: Any, logits: Any = (2.0, 1.0, 0.0), accept: bool | None = None) -> Answer:
    """Gives every image these scores and logits; whether the graph accepts is not said unless it is given."""

    def answer(images: Images) -> Outputs:
        count = len(images)
        return Outputs(
            np.tile(np.asarray(logits, np.float32), (count, 1)),
            np.tile(np.asarray(scores, np.float32), (count, 1)),
            None if accept is None else np.full(count, accept),
        )

    return answer


def recording(seen: list[Images]) -> Answer:
    """Accepts everything, and keeps what it was asked."""

    def answer(images: Images) -> Outputs:
        seen.append(images)
        return answering(SCORES)(images)

    return answer


def failing(_images: Images) -> Outputs:
    raise EngineError("out of order")


SCORES = (0.5, 1.0, 9.0, 3.0, 0.2, 1.5)  # msp .. feature_norm; energy is far above the threshold
REJECTED = (0.5, 1.0, -1e6, 3.0, 0.2, 1.5)
ENERGY = 2
ONE = np.zeros((1, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def gate(shared_bundle: Bundle) -> Gate:
    return Gate.load(shared_bundle.path, threads=1)


@pytest.fixture(scope="module")
def images() -> Images:
    return calibration_images(200, seed=2)


@pytest.fixture(scope="module")
def outputs(gate: Gate, images: Images) -> Outputs:
    return gate.engine.run(images)


@pytest.fixture(scope="module")
def decisions(gate: Gate, images: Images) -> list[Decision]:
    return gate.decide(images)


def manifest_gate(manifest: Manifest, **changes: Any) -> Any:
    assert manifest.gate is not None
    return dataclasses.replace(manifest.gate, **changes)


# --- what a decision says


def test_decides_as_the_graph_says(decisions: list[Decision], outputs: Outputs) -> None:
    assert outputs.accept is not None
    assert [d.decision == "accept" for d in decisions] == outputs.accept.tolist()
    assert 0.8 < np.mean(outputs.accept) < 1


def test_accepts_exactly_the_scores_from_the_threshold_on(decisions: list[Decision]) -> None:
    assert all((d.decision == "accept") == (d.score.value >= d.score.threshold) for d in decisions)


def test_scores_are_the_graphs_by_name(decisions: list[Decision], outputs: Outputs, gate: Gate) -> None:
    found = np.array([[d.scores[name] for name in gate.manifest.scores] for d in decisions])
    np.testing.assert_allclose(found, outputs.scores, rtol=1e-5)


def test_the_gates_score_is_one_of_the_scores(decisions: list[Decision]) -> None:
    assert all((d.score.name, d.score.value) == ("energy", d.scores["energy"]) for d in decisions)


def test_class_and_confidence_are_those_of_the_softmax(decisions: list[Decision], outputs: Outputs) -> None:
    probabilities = special.softmax(outputs.logits.astype(float), axis=1)
    assert [d.class_index for d in decisions] == probabilities.argmax(axis=1).tolist()
    np.testing.assert_allclose([d.confidence for d in decisions], probabilities.max(axis=1), rtol=1e-5)


def test_label_is_the_class_of_an_accepted_image_alone(decisions: list[Decision]) -> None:
    for d in decisions:
        assert d.label == (None if d.is_ood else LABELS[d.class_index])


def test_a_multiclass_decision_has_no_labels(decisions: list[Decision]) -> None:
    assert {d.labels for d in decisions} == {None}


def test_the_model_is_named_with_its_hash(decisions: list[Decision], gate: Gate) -> None:
    assert {d.model.name for d in decisions} == {"small"}
    assert {d.model.sha256 for d in decisions} == {gate.manifest.files[MODEL].sha256}


def test_json_has_exactly_the_fields_and_types_of_the_design(decisions: list[Decision]) -> None:
    accepted = next(d for d in decisions if not d.is_ood)
    document = json.loads(json.dumps(accepted.to_dict(), allow_nan=False))
    assert {name: type(value) for name, value in document.items()} == {
        "decision": str,
        "reason": type(None),
        "is_ood": bool,
        "label": str,
        "class_index": int,
        "confidence": float,
        "score": dict,
        "scores": dict,
        "model": dict,
    }
    assert list(document["score"]) == ["name", "value", "threshold", "p_value"]
    assert list(document["scores"]) == ["msp", "max_logit", "energy", "joint_energy", "nan", "feature_norm"]
    assert list(document["model"]) == ["name", "sha256"]


@pytest.mark.parametrize("logits", [(1e4, -1e4, 0.0), (-1e4, -1e4, -1e4), (1e4, 1e4, 1e4)])
def test_confidence_of_huge_logits(gate: Gate, logits: tuple[float, ...]) -> None:
    (decision,) = gate_of(gate, answering(SCORES, logits)).decide(ONE)
    assert decision.confidence == pytest.approx(special.softmax(logits).max())


# --- p-values


def test_p_value_counts_the_calibration_scores_up_to_the_images(gate: Gate, decisions: list[Decision]) -> None:
    calibration = gate.engine.run(calibration_images()).scores[:, ENERGY]
    for d in decisions:
        assert d.score.p_value == (1 + sum(calibration <= np.float32(d.score.value))) / 100


def test_a_calibration_score_counts_itself(gate: Gate) -> None:
    """The quantiles in the manifest are decimals, and read back as the float32 scores they came from."""
    p_values = sorted(d.score.p_value for d in gate.decisions(gate.run(calibration_images())))
    np.testing.assert_array_equal(p_values, np.arange(2, 101) / 100)


def test_calibration_rejects_fewer_than_k_of_its_own_images(gate: Gate) -> None:
    rejected = sum(d.is_ood for d in gate.decide(calibration_images()))
    assert rejected == math.floor(ALPHA * 100) - 1


@pytest.mark.parametrize("score", [1e30, -1e30])
def test_p_value_at_the_ends(gate: Gate, score: float) -> None:
    (decision,) = gate_of(gate, answering([0.5, 1, score, 3, 0.2, 1.5])).decide(ONE)
    assert decision.score.p_value == (1 if score > 0 else 1 / 100)


# --- the threshold


@pytest.mark.parametrize(("steps", "decision"), [(-1, "accept"), (0, "accept"), (1, "reject")])
def test_a_score_at_the_threshold_is_accepted(gate: Gate, steps: int, decision: str) -> None:
    """The threshold is moved by single float32 steps around one image's own score."""
    image = calibration_images(1, seed=9)
    score = gate.engine.run(image).scores[0, ENERGY]
    threshold = score if not steps else np.nextafter(score, np.float32(steps * np.inf))
    found = dataclasses.replace(gate.engine.run(image), accept=None)
    moved = gate_of(gate, lambda _: found, gate=manifest_gate(gate.manifest, threshold=float(threshold)))
    assert moved.decide(image)[0].decision == decision


@pytest.mark.parametrize("quantile", [None, 0.2, 0.8])
def test_the_file_alone_decides_the_same_in_bare_onnxruntime(
    shared_bundle: Bundle, images: Images, quantile: float | None
) -> None:
    session = onnxruntime.InferenceSession(shared_bundle.path / MODEL, providers=["CPUExecutionProvider"])
    scores, accept = session.run(["scores", "accept"], {"images": images})
    assert shared_bundle.manifest.gate is not None
    threshold = np.float32(shared_bundle.manifest.gate.threshold)
    if quantile is not None:
        threshold = np.float32(np.quantile(scores[:, ENERGY], quantile))
        (accept,) = session.run(["accept"], {"images": images, "threshold": np.array(threshold)})
    np.testing.assert_array_equal(accept, scores[:, ENERGY] >= threshold)


@pytest.mark.parametrize("name", ["msp", "max_logit", "joint_energy", "nan", "feature_norm"])
def test_any_score_may_be_the_gates(gate: Gate, name: str) -> None:
    gated = gate_of(gate, answering(SCORES), gate=manifest_gate(gate.manifest, score=name, threshold=0.1))
    (decision,) = gated.decide(ONE)
    assert decision.score.name == name
    assert decision.score.value == decision.scores[name]
    calibration = gate.engine.run(calibration_images()).scores[:, gate.manifest.scores.index(name)]
    assert decision.score.p_value == (1 + sum(calibration <= np.float32(decision.score.value))) / 100


# --- failing closed


@pytest.mark.parametrize("column", range(6))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_rejects_and_serialises_to_null(gate: Gate, bad: float, column: int) -> None:
    scores = list(SCORES)
    scores[column] = bad
    (decision,) = gate_of(gate, answering(scores)).decide(ONE)
    document = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    assert (document["decision"], document["label"]) == ("reject", None)
    assert list(document["scores"].values())[column] is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gate_score_that_is_not_finite_has_no_value_and_the_smallest_p_value(gate: Gate, bad: float) -> None:
    (decision,) = gate_of(gate, answering([0.5, 1.0, bad, 3.0, 0.2, 1.5])).decide(ONE)
    assert decision.to_dict()["score"]["value"] is None
    assert decision.score.p_value == 1 / 100


@pytest.mark.parametrize(
    ("task", "logits"),
    [
        *[(task, logits) for task in ("multiclass", "multilabel") for logits in ((math.nan, 1, 0), (math.nan,) * 3)],
        *[("multiclass", logits) for logits in ((math.inf, 1, 0), (math.inf,) * 3, (-math.inf,) * 3)],
    ],
)
def test_logits_without_probabilities_reject(gate: Gate, logits: tuple[float, ...], task: str) -> None:
    (decision,) = gate_of(gate, answering(SCORES, logits), task=task).decide(ONE)
    assert (decision.decision, decision.label) == ("reject", None)


@pytest.mark.parametrize("logits", [(math.nan, 1, 0), (math.inf, 1, 0), (math.nan,) * 3, (-math.inf,) * 3])
def test_a_confidence_that_is_not_finite_serialises_to_null(gate: Gate, logits: tuple[float, ...]) -> None:
    (decision,) = gate_of(gate, answering(SCORES, logits)).decide(ONE)
    assert json.loads(json.dumps(decision.to_dict(), allow_nan=False))["confidence"] is None


def test_one_bad_image_rejects_itself_alone(gate: Gate) -> None:
    def answer(images: Images) -> Outputs:
        outputs = answering(SCORES)(images)
        outputs.scores[1] = np.nan
        return outputs

    decisions = gate_of(gate, answer).decide(np.repeat(ONE, 3, axis=0))
    assert [d.is_ood for d in decisions] == [False, True, False]


@pytest.mark.parametrize(
    ("energy", "says"), [(9.0, False), (-1e6, True), (np.nan, True)], ids=["rejects", "accepts", "not finite"]
)
@pytest.mark.parametrize("alpha", [None, 0.01, 0.1])
def test_a_graph_that_lies_about_its_scores_decides_nothing(
    gate: Gate, energy: float, says: bool, alpha: float | None
) -> None:
    """Whatever a request asks for, the graph's accept is held against the bundle's default operating point."""
    lying = gate_of(gate, answering([0.5, 1.0, energy, 3.0, 0.2, 1.5], accept=says))
    with pytest.raises(EngineError, match="decides otherwise than the manifest's thresholds on 2 of 2 images"):
        lying.decide(np.repeat(ONE, 2, axis=0), alpha=alpha)


def test_a_graph_whose_threshold_was_edited_decides_nothing(gate: Gate, images: Images, shared_bundle: Bundle) -> None:
    """Not a made-up engine: the sealed graph with another constant."""
    model = onnx.load_from_string(shared_bundle.model)
    (constant,) = (tensor for tensor in model.graph.initializer if tensor.name == "threshold")
    constant.CopyFrom(onnx.numpy_helper.from_array(np.array(-1e30, np.float32), "threshold"))
    edited = OnnxRuntimeCpu(model.SerializeToString(), threads=1)
    with pytest.raises(EngineError, match="decides otherwise"):
        Gate(gate.bundle, edited).decide(images)


def test_an_engine_that_fails_raises(gate: Gate) -> None:
    with pytest.raises(EngineError, match="out of order"):
        gate_of(gate, failing).decide(ONE)


def test_an_engine_that_fails_later_gives_no_decisions_at_all(gate: Gate) -> None:
    def answer(images: Images) -> Outputs:
        return (answering(SCORES) if len(images) == MAX_BATCH else failing)(images)

    with pytest.raises(EngineError):
        gate_of(gate, answer).decide(np.repeat(ONE, MAX_BATCH + 1, axis=0))


def test_warm_up_raises_where_the_engine_fails(gate: Gate) -> None:
    with pytest.raises(EngineError):
        gate_of(gate, failing).warm_up()


def test_warm_up_runs_one_image(gate: Gate) -> None:
    seen: list[Images] = []
    gate_of(gate, recording(seen)).warm_up()
    assert [images.shape for images in seen] == [(1, 16, 16, 3)]


def test_a_bundle_without_a_threshold_is_no_gate(gate: Gate) -> None:
    with pytest.raises(NotCalibrated, match="run oodgate calibrate") as caught:
        gate_of(gate, answering(SCORES), gate=None)
    assert caught.value.path == gate.bundle.path / MANIFEST


def test_a_bundle_on_disk_without_a_threshold_does_not_load(shared_bundle: Bundle, tmp_path: Path) -> None:
    manifest = dataclasses.replace(shared_bundle.manifest, gate=None)
    model = onnx.load_from_string(shared_bundle.model)
    set_metadata(model, dataclasses.replace(manifest, files={}).to_json())
    bundle.write(tmp_path / "new", manifest, {MODEL: model.SerializeToString()}, {})
    with pytest.raises(NotCalibrated) as caught:
        Gate.load(tmp_path / "new", threads=1)
    assert caught.value.path == tmp_path / "new" / MANIFEST


def test_the_engine_of_another_graph_is_refused(gate: Gate) -> None:
    other = dataclasses.replace(gate.manifest, labels=("a", "b", "c"), files={})
    signature = dataclasses.replace(gate.engine.signature, manifest=other.to_json())
    with pytest.raises(GraphMismatch, match="labels"):
        Gate(gate.bundle, FakeEngine(signature, answering(SCORES)))


# --- multi-label models


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ((3.0, -3.0, 1.0), ("cat", "ship")),
        ((-1.0, -2.0, -3.0), ()),
        ((0.0, -1e-3, 1e-3), ("cat", "ship")),
        ((1e4, 1e4, 1e4), LABELS),
        ((-1e4, -1e4, 1e4), ("ship",)),
    ],
)
def test_labels_are_those_of_probability_one_half_and_more(
    gate: Gate, logits: tuple[float, ...], labels: tuple[str, ...]
) -> None:
    (decision,) = gate_of(gate, answering(SCORES, logits), task="multilabel").decide(ONE)
    assert decision.labels == labels


@pytest.mark.parametrize("logits", [(3.0, -3.0, 1.0), (-1.0, -2.0, -3.0), (1e4, -1e4, 0.0), (-50.0, -60.0, -70.0)])
def test_confidence_of_a_multilabel_model_is_the_sigmoid(gate: Gate, logits: tuple[float, ...]) -> None:
    (decision,) = gate_of(gate, answering(SCORES, logits), task="multilabel").decide(ONE)
    assert decision.confidence == pytest.approx(float(special.expit(max(logits))), rel=1e-12)
    assert decision.class_index == np.argmax(logits)
    assert decision.label == LABELS[np.argmax(logits)]


def test_a_rejected_multilabel_image_has_an_empty_list(gate: Gate) -> None:
    (decision,) = gate_of(gate, answering(REJECTED, (3.0, 2.0, 1.0)), task="multilabel").decide(ONE)
    assert (decision.label, decision.to_dict()["labels"]) == (None, [])


# --- what may be decided on


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 200])
def test_every_image_gets_its_own_decision_in_order(gate: Gate, images: Images, outputs: Outputs, count: int) -> None:
    found = [d.score.value for d in gate.decide(images[:count])]
    np.testing.assert_allclose(found, outputs.scores[:count, ENERGY], rtol=1e-5)


def test_batches_hold_at_most_64(gate: Gate, images: Images) -> None:
    seen: list[Images] = []
    assert len(gate_of(gate, recording(seen)).decide(images[:150])) == 150
    assert [len(batch) for batch in seen] == [64, 64, 22]


@pytest.mark.parametrize(
    "nothing",
    [[], (), iter(()), np.empty((0, 16, 16, 3), np.uint8)],
    ids=["list", "tuple", "iterator", "array"],  # the same in every process that collects them
)
def test_no_images_give_no_decisions(gate: Gate, nothing: Any) -> None:
    assert gate.decide(nothing) == []


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_files_are_decided_on_like_their_pixels(gate: Gate, images: Images, format: str) -> None:
    assert gate.decide([encode(image, format) for image in images[:70]]) == gate.decide(images[:70])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a", "a.txt", "ä b.PNG"])
def test_a_path_is_decided_on_like_its_bytes_whatever_its_name(
    gate: Gate, images: Images, tmp_path: Path, name: str
) -> None:
    data = encode(images[0])
    (tmp_path / name).write_bytes(data)
    expected = gate.decide([data])
    assert gate.decide([tmp_path / name]) == gate.decide([str(tmp_path / name)]) == expected


def test_bytes_and_paths_may_be_mixed_in_a_generator(gate: Gate, images: Images, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(images[1]))
    mixed = (item for item in (encode(images[0]), tmp_path / "a.png", encode(images[2])))
    assert gate.decide(mixed) == gate.decide(images[:3])


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "HSV"])
def test_a_pil_image_is_decided_on_like_its_file(gate: Gate, images: Images, mode: str) -> None:
    image = Image.fromarray(images[0].repeat(3, axis=0).repeat(2, axis=1)).convert(mode)
    if mode == "RGBA":
        image.putalpha(100)
    file = image if mode != "HSV" else image.convert("RGB")
    file.save(buffer := io.BytesIO(), "TIFF" if mode == "CMYK" else "PNG")
    assert gate.decide([image]) == gate.decide([buffer.getvalue()])


def test_a_pil_image_has_the_gates_limits_and_may_be_damaged(
    shared_bundle: Bundle, images: Images, tmp_path: Path
) -> None:
    gate = Gate.load(shared_bundle.path, limits=Limits(max_pixels=400))
    for mode in ("RGB", "L"):
        with pytest.raises(ImageTooLarge, match="21 x 20 pixels; the limit is 400 pixels"):
            gate.decide([Image.new(mode, (21, 20))])
    (tmp_path / "cut.png").write_bytes(encode(images[0])[:-40])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(UndecodableImage, match="can't be decoded"):
        gate.decide([cut])


def test_a_path_may_be_of_any_kind(gate: Gate, images: Images, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(images[0]))
    assert gate.decide(os.scandir(tmp_path)) == gate.decide(images[:1])


def test_a_pil_image_is_turned_upright(gate: Gate, images: Images) -> None:
    image = Image.fromarray(images[0])
    image.getexif()[0x0112] = 6  # to be turned by 90 degrees clockwise
    assert gate.decide([image]) == gate.decide(np.rot90(images[:1], -1, axes=(1, 2)))


def test_one_image_without_a_list_and_what_is_none_are_refused(gate: Gate, images: Images) -> None:
    with pytest.raises(TypeError, match="put the one image into a list"):
        gate.decide(Image.fromarray(images[0]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="or one array of all; found a list of ndarray"):
        gate.decide(list(images))
    with pytest.raises(ImageError, match="PIL's mode F, which has no white"):
        gate.decide([Image.new("F", (4, 4))])


def test_an_image_of_another_size_is_resized(gate: Gate, images: Images) -> None:
    large = images[0].repeat(3, axis=0).repeat(3, axis=1)
    (decision,) = gate.decide([encode(large)])
    assert decision.score.value == pytest.approx(gate.decide(images[:1])[0].score.value, rel=0.05)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 16, 16, 3), np.float32),
        np.zeros((2, 16, 16, 3), np.int64),
        np.zeros((2, 16, 16, 3), bool),
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((2, 16, 16), np.uint8),
        np.zeros((2, 3, 16, 16), np.uint8),
        np.zeros((2, 16, 16, 4), np.uint8),
        np.zeros((2, 16, 17, 3), np.uint8),
        np.zeros((0,), np.uint8),
    ],
    ids=lambda images: f"{images.dtype} {images.shape}",
)
def test_an_array_of_another_type_or_shape_is_refused(gate: Gate, images: Any) -> None:
    with pytest.raises(ValueError, match=r"expected images uint8 \[N, 16, 16, 3\], found"):
        gate.decide(images)


def test_a_file_that_is_no_image_raises(gate: Gate, images: Images) -> None:
    with pytest.raises(NotAnImage):
        gate.decide([encode(images[0]), b"text"])


@pytest.mark.parametrize("limits", [Limits(max_bytes=10), Limits(max_pixels=255)], ids=str)
def test_limits_hold(shared_bundle: Bundle, images: Images, limits: Limits) -> None:
    limited = Gate.load(shared_bundle.path, threads=1, limits=limits)
    with pytest.raises(ImageTooLarge):
        limited.decide([encode(images[0])])


def test_preprocess_gives_what_the_graph_takes(gate: Gate, images: Images) -> None:
    np.testing.assert_array_equal(gate.preprocess(encode(images[0])), images[0])


def test_a_graph_that_compares_another_score_can_not_accept_below_the_threshold(gate: Gate) -> None:
    """Whatever the graph says, an accepted image's score reaches the manifest's threshold."""
    column = gate.manifest.scores.index("energy")
    assert gate.manifest.gate is not None
    scores = [1e6] * len(SCORES)
    scores[column] = gate.manifest.gate.threshold - 1
    (decision,) = gate_of(gate, answering(scores)).decide(ONE)
    assert decision.decision == "reject"


# --- operating points


def at(gate: Gate, alpha: float) -> Any:
    assert gate.bundle.manifest.gate is not None
    return gate.bundle.manifest.gate.at(alpha)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
def test_an_operating_point_may_be_chosen_when_loading_or_per_call(
    gate: Gate, shared_bundle: Bundle, images: Images, outputs: Outputs, alpha: float
) -> None:
    point = at(gate, alpha)
    loaded = Gate.load(shared_bundle.path, threads=1, alpha=alpha)
    assert loaded.manifest.gate == point
    expected = outputs.scores[:, ENERGY] >= np.float32(point.threshold)
    for decisions in (loaded.decide(images), gate.decide(images, alpha=alpha)):
        assert [d.decision == "accept" for d in decisions] == expected.tolist()
        assert {d.score.threshold for d in decisions} == {point.threshold}
        assert all(d.is_ood == (d.score.p_value <= alpha) for d in decisions)
    assert gate.manifest.gate == shared_bundle.manifest.gate


def test_a_call_may_leave_the_operating_point_of_the_gate(shared_bundle: Bundle, images: Images) -> None:
    strict = Gate.load(shared_bundle.path, threads=1, alpha=0.01)
    assert strict.decide(images, alpha=ALPHA) == Gate.load(shared_bundle.path, threads=1).decide(images)


def test_an_operating_point_of_files(gate: Gate) -> None:
    files = [encode(image) for image in calibration_images(20, seed=8)]
    each, together = gate.decide_each([*files, b""], alpha=0.01), gate.decide(files, alpha=0.01)
    assert each[:-1] == together


@pytest.mark.parametrize("alpha", [0.02, 0.0, 1.0, math.nan])
def test_an_operating_point_that_is_not_stored(gate: Gate, shared_bundle: Bundle, alpha: float) -> None:
    message = r"stored are 0\.01, 0\.05, 0\.1\."
    with pytest.raises(UnknownOperatingPoint, match=message):
        Gate.load(shared_bundle.path, threads=1, alpha=alpha)
    with pytest.raises(UnknownOperatingPoint, match=message):
        gate.decide(ONE, alpha=alpha)
    with pytest.raises(UnknownOperatingPoint, match=message):
        gate.decide(ONE[:0], alpha=alpha)


@pytest.mark.parametrize("kind", ["gate", "conditional"])
def test_images_with_alphas_of_their_own_share_a_batch(
    request: pytest.FixtureRequest, kind: str, images: Images
) -> None:
    gate: Gate = request.getfixturevalue(kind)
    seen: list[int] = []

    def counting(batch: Images) -> Outputs:
        seen.append(len(batch))
        return gate.engine.run(batch)

    alphas = [(0.01, 0.05, 0.1, None)[i % 4] for i in range(60)]
    found = gate_of(gate, counting).decide(images[:60], alpha=alphas)
    assert seen == [60]
    single = [gate.decide(images[:60], alpha=alpha) for alpha in (0.01, 0.05, 0.1, None)]
    for i, decision in enumerate(found):
        alone = single[i % 4][i]
        assert (decision.decision, decision.label, decision.score) == (alone.decision, alone.label, alone.score)
    assert len({decision.score.threshold for decision in found}) > 2


def test_outputs_of_one_run_are_decided_on_at_any_operating_point(gate: Gate, images: Images) -> None:
    outputs = gate.run(images)
    for alpha in (None, 0.01, 0.1):
        assert gate.decisions(outputs, alpha=alpha) == gate.decisions(outputs, alpha=[alpha] * len(images))
        expected = outputs.scores[:, ENERGY] >= np.float32(at(gate, alpha or ALPHA).threshold)
        assert [not d.is_ood for d in gate.decisions(outputs, alpha=alpha)] == expected.tolist()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_not_one_alpha_for_each_image(gate: Gate, images: Images, count: int) -> None:
    with pytest.raises(ValueError, match=f"expected one alpha for each of 2 images, found {count}"):
        gate.decide(images[:2], alpha=[0.05] * count)


def test_one_of_several_operating_points_that_is_not_stored(gate: Gate, images: Images) -> None:
    with pytest.raises(UnknownOperatingPoint, match=r"stored are 0\.01, 0\.05, 0\.1\."):
        gate.decide(images[:2], alpha=[0.05, 0.02])


def test_the_operating_point_in_use(gate: Gate, shared_bundle: Bundle) -> None:
    strict = Gate.load(shared_bundle.path, threads=1, alpha=0.01)
    assert strict.spec == at(gate, 0.01)
    assert (gate.spec.alpha, gate.alphas, strict.alphas) == (ALPHA, (0.01, 0.05, 0.1), (0.01, 0.05, 0.1))


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("broken", [{"scores": (0.5, 1.0, 9.0, np.nan, 0.2, 1.5)}, {"logits": (np.inf, 1.0, 0.0)}])
def test_what_is_not_finite_is_rejected_at_every_point(gate: Gate, broken: dict[str, Any], alpha: float) -> None:
    (decision,) = gate_of(gate, answering(**{"scores": SCORES, **broken})).decide(ONE, alpha=alpha)
    assert decision.is_ood


# --- thresholds by predicted class


@pytest.fixture(scope="module")
def conditional(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """The bundle with a class-conditional gate, calibrated on 300 images."""
    outputs = OnnxRuntimeCpu(shared_bundle.model, threads=1).run(calibration_images(300))
    classes = outputs.logits.argmax(axis=1)
    manifest = calibrate(shared_bundle.manifest, outputs.scores, "energy", ALPHA, classes=classes)
    model = seal(onnx.load_from_string(shared_bundle.model), manifest)
    path = tmp_path_factory.mktemp("conditional") / "small"
    bundle.write(path, manifest, {MODEL: model}, {})
    return Gate.load(path, threads=1)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
def test_a_class_conditional_gate_decides_by_predicted_class(conditional: Gate, images: Images, alpha: float) -> None:
    point = at(conditional, alpha)
    decisions = conditional.decide(images, alpha=alpha)
    for d in decisions:
        label = LABELS[d.class_index]
        assert d.score.threshold == point.classes.get(label, point).threshold
        assert d.is_ood == (d.score.value < d.score.threshold) == (d.score.p_value <= alpha)
    assert len({d.score.threshold for d in decisions}) > (alpha > 0.01)
    if alpha == ALPHA:
        accept = conditional.engine.run(images).accept
        assert accept is not None
        assert [not d.is_ood for d in decisions] == accept.tolist()
        assert 0 < accept.sum() < len(images)


def test_a_class_conditional_gate_needs_a_graph_that_takes_them(conditional: Gate) -> None:
    inputs = {name: t for name, t in conditional.engine.signature.inputs.items() if name != "class_thresholds"}
    signature = dataclasses.replace(conditional.engine.signature, inputs=inputs)
    with pytest.raises(GraphMismatch, match=r"input 'class_thresholds' float32 \[3\] is missing"):
        Gate(conditional.bundle, FakeEngine(signature, answering(SCORES)))


# --- the reported confidence


@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 20.0])
def test_confidence_is_that_at_the_manifests_temperature(gate: Gate, temperature: float) -> None:
    confidence = Confidence(temperature, 100, 0.2, 0.1)
    (decision,) = gate_of(gate, answering(SCORES), confidence=confidence).decide(ONE)
    assert decision.confidence == pytest.approx(special.softmax(np.array([2.0, 1.0, 0.0]) / temperature)[0])
    both = gate_of(gate, answering(SCORES, (2.0, 1.0, -3.0)), confidence=confidence, task="multilabel")
    (decision,) = both.decide(ONE)
    assert decision.confidence == pytest.approx(special.expit(2 / temperature))
    assert decision.labels == LABELS[:2]
