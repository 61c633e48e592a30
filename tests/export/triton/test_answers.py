"""The graph with answers, in bare ONNX Runtime: it says of every image what the library's decisions say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.graph import head
from export.graph.building import Graph
from export.triton.answers import answering
from runtime import Decision, Gate
from runtime.bundle import Bundle
from runtime.tensors import OUTPUTS
from tests.gates import MADE, edges
from tests.small import calibration_images

IMAGES = calibration_images(300, seed=11)


@pytest.fixture(scope="module", params=MADE)
def made(request: pytest.FixtureRequest, shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return MADE[request.param](tmp_path_factory.mktemp("answers") / "small", shared_bundle)


def session(bundle: Bundle, *, thresholds: bool = False) -> onnxruntime.InferenceSession:
    assert bundle.manifest.gate is not None
    model = answering(bundle.model, bundle.manifest, bundle.manifest.gate, thresholds=thresholds)
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def ask(session: onnxruntime.InferenceSession, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def check(found: dict[str, npt.NDArray[Any]], decisions: list[Decision]) -> None:
    assert found.keys() == {*OUTPUTS, "logits"}
    for name, output in OUTPUTS.items():
        expected = output.tensor(decisions)
        if output.datatype == "BYTES":
            assert found[name].tolist() == [text.decode() for text in expected]
        else:
            assert found[name].dtype == expected.dtype
            np.testing.assert_allclose(found[name], expected, rtol=1e-6, err_msg=name)


def test_the_answers_are_the_decisions(made: Bundle) -> None:
    decisions = Gate.load(made.path, engine="onnxruntime-cpu", threads=1).decide(IMAGES)
    assert 0 < sum(decision.decision == "accept" for decision in decisions) < len(IMAGES)
    check(ask(session(made), images=IMAGES), decisions)


def test_every_reason_is_given(shared_bundle: Bundle, selective_bundle: Bundle) -> None:
    assert set(ask(session(shared_bundle), images=IMAGES)["reason"]) == {"", "ood"}
    assert set(ask(session(selective_bundle), images=IMAGES)["reason"]) == {"", "ood", "uncertain"}


def test_thresholds_are_inputs_where_that_is_wanted(selective_bundle: Bundle) -> None:
    """Another operating point of the bundle, by its thresholds; without any, its own."""
    gate, model = Gate.load(selective_bundle.path, engine="onnxruntime-cpu"), session(selective_bundle, thresholds=True)
    check(ask(model, images=IMAGES), gate.decide(IMAGES))
    for alpha in gate.alphas:
        point = gate.spec.at(alpha)
        assert point.selection is not None
        limits = {"threshold": point.threshold, "selection_threshold": point.selection.threshold}
        found = ask(model, images=IMAGES, **{name: np.array(value, np.float32) for name, value in limits.items()})
        expected = gate.decide(IMAGES, alpha=alpha)
        assert found["accept"].tolist() == [decision.decision == "accept" for decision in expected]
        assert found["reason"].tolist() == [decision.reason or "" for decision in expected]


def test_without_them_pixels_are_the_only_input(selective_bundle: Bundle) -> None:
    model = session(selective_bundle)
    assert [tensor.name for tensor in model.get_inputs()] == ["images"]
    assert model.get_overridable_initializers() == []


@pytest.mark.parametrize("kind", ["plain", "of classes", "selective"])
def test_scores_at_the_edges(kind: str, shared_bundle: Bundle, tmp_path: Path) -> None:
    """Every calibration score, its neighbours, and what is not finite."""
    bundle = MADE[kind](tmp_path / "small", shared_bundle)
    assert bundle.manifest.gate is not None
    logits, scores, decisions = edges(bundle)
    raw = np.concatenate([logits, scores], axis=1)
    model = onnxruntime.InferenceSession(
        answering(numbers(bundle), bundle.manifest, bundle.manifest.gate, thresholds=False)
    )
    found = ask(model, numbers=raw)
    expected = {name: output.tensor(decisions) for name, output in OUTPUTS.items()}
    np.testing.assert_array_equal(found["p_value"], expected["p_value"])
    assert found["accept"].tolist() == expected["accept"].tolist()
    assert found["reason"].tolist() == [text.decode() for text in expected["reason"]]
    assert len(set(found["p_value"])) > 40


def numbers(bundle: Bundle) -> bytes:
    """A bundle's gate behind logits and scores that are given."""
    labels, scores = len(bundle.manifest.labels), len(bundle.manifest.scores)
    row = helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ("N", labels + scores))
    graph = helper.make_graph([], "numbers", [row], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    g = Graph(model)
    ends = [g.constant(np.array([k])) for k in range(labels + scores + 1)]
    g.op("Slice", "numbers", ends[0], ends[labels], ends[1], output="logits")
    g.op("Slice", "numbers", ends[0], ends[labels], ends[1], output="penultimate")
    g.declare_output("logits", TensorProto.FLOAT, ("N", labels))
    g.declare_output("penultimate", TensorProto.FLOAT, ("N", labels))
    head.create(g, [g.op("Slice", "numbers", ends[labels + k], ends[labels + k + 1], ends[1]) for k in range(scores)])
    return head.seal(model, bundle.manifest)


def test_a_network_s_own_names_make_room(shared_bundle: Bundle) -> None:
    """A foreign graph may have tensors called as the answers are."""
    model = onnx.load_from_string(shared_bundle.model)
    inner = next(node for node in model.graph.node if node.op_type == "Relu").output[0]
    for node in model.graph.node:
        for field in (node.input, node.output):
            field[:] = ["probabilities" if name == inner else name for name in field]
    gate = shared_bundle.manifest.gate
    assert gate is not None
    renamed = answering(model.SerializeToString(), shared_bundle.manifest, gate, thresholds=False)
    found = ask(onnxruntime.InferenceSession(renamed), images=IMAGES)
    np.testing.assert_array_equal(found["probabilities"], ask(session(shared_bundle), images=IMAGES)["probabilities"])
