"""ONNX Runtime behind the engine interface: what it says of a graph, what it returns, what it refuses."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from export.detectors.base import base_scores
from export.detectors.columns import verify
from export.graph import head
from runtime.bundle import Bundle, Tensor
from runtime.engines.interface import Outputs, joined
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import EngineError
from runtime.manifest import Manifest
from tests.small import LABELS, SPEC, calibration_images

Images = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def engine(shared_bundle: Bundle) -> OnnxRuntimeCpu:
    return OnnxRuntimeCpu(shared_bundle.model, threads=1)


@pytest.fixture(scope="module")
def images() -> Images:
    return calibration_images(70, seed=3)


@pytest.fixture(scope="module")
def outputs(engine: OnnxRuntimeCpu, images: Images) -> Outputs:
    return engine.run(images, penultimate=True)


def assert_same(found: Outputs, expected: Outputs) -> None:
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)


# --- signature


def test_signature_has_the_graphs_input(engine: OnnxRuntimeCpu) -> None:
    assert engine.signature.inputs["images"] == Tensor("uint8", (None, SPEC.height, SPEC.width, 3))


def test_signature_has_the_graphs_outputs(engine: OnnxRuntimeCpu) -> None:
    assert engine.signature.outputs == {
        "logits": Tensor("float32", (None, len(LABELS))),
        "penultimate": Tensor("float32", (None, 8)),
        "scores": Tensor("float32", (None, 6)),
        "accept": Tensor("bool", (None,)),
    }


def test_signature_carries_the_manifest(engine: OnnxRuntimeCpu, shared_bundle: Bundle) -> None:
    assert engine.signature.manifest is not None
    embedded = Manifest.from_json(engine.signature.manifest)
    assert embedded == dataclasses.replace(shared_bundle.manifest, files={})


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (Tensor("uint8", (None, 16, 16, 3)), "uint8 [N, 16, 16, 3]"),
        (Tensor("bool", (None,)), "bool [N]"),
        (Tensor("float32", ()), "float32 []"),
    ],
)
def test_a_tensor_reads_as_the_design_writes_it(tensor: Tensor, text: str) -> None:
    assert str(tensor) == text


# --- outputs


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("logits", (70, 3), np.float32),
        ("penultimate", (70, 8), np.float32),
        ("scores", (70, 6), np.float32),
        ("accept", (70,), np.bool_),
    ],
)
def test_outputs_have_their_shape_and_type(outputs: Outputs, name: str, shape: tuple[int, ...], dtype: type) -> None:
    array = getattr(outputs, name)
    assert (array.shape, array.dtype) == (shape, dtype)


def test_penultimate_comes_only_when_asked_for(engine: OnnxRuntimeCpu, images: Images) -> None:
    assert engine.run(images).penultimate is None


def test_scores_are_the_references_of_logits_and_penultimate(outputs: Outputs, shared_bundle: Bundle) -> None:
    assert outputs.penultimate is not None
    manifest = shared_bundle.manifest
    detectors = base_scores(manifest.score_parameters)
    assert tuple(detectors) == manifest.scores
    expected, _ = verify(detectors, outputs.scores, outputs.logits, outputs.penultimate)
    np.testing.assert_allclose(outputs.scores, expected, rtol=1e-5)


def test_an_image_scores_the_same_in_any_batch(engine: OnnxRuntimeCpu, images: Images, outputs: Outputs) -> None:
    single = [engine.run(images[i : i + 1]) for i in range(len(images))]
    assert_same(joined(single), outputs)
    np.testing.assert_array_equal(joined(single).accept, outputs.accept)


def test_an_empty_batch_has_empty_outputs(engine: OnnxRuntimeCpu, images: Images) -> None:
    empty = engine.run(images[:0])
    assert empty.accept is not None
    assert (empty.logits.shape, empty.scores.shape, empty.accept.shape) == ((0, 3), (0, 6), (0,))


def test_any_memory_layout_will_do(engine: OnnxRuntimeCpu, images: Images, outputs: Outputs) -> None:
    padded = np.zeros((70, 20, 20, 4), np.uint8)
    padded[:, 2:18, 2:18, :3] = images
    assert_same(engine.run(padded[:, 2:18, 2:18, :3]), outputs)
    assert_same(engine.run(np.asfortranarray(images)), outputs)


def test_threads_may_share_an_engine(engine: OnnxRuntimeCpu, images: Images, outputs: Outputs) -> None:
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(engine.run, [images] * 20):
            assert_same(found, outputs)


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_the_number_of_threads_changes_nothing(
    threads: int, shared_bundle: Bundle, images: Images, outputs: Outputs
) -> None:
    assert_same(OnnxRuntimeCpu(shared_bundle.model, threads).run(images), outputs)


# --- the graph's own thresholds, in bare ONNX Runtime


@pytest.fixture(scope="module")
def bare(shared_bundle: Bundle) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(shared_bundle.model, options, providers=["CPUExecutionProvider"])


def accept(session: onnxruntime.InferenceSession, images: Images, **thresholds: npt.ArrayLike) -> Any:
    feeds = {name: np.asarray(value, np.float32) for name, value in thresholds.items()}
    return session.run(["accept"], {"images": images, **feeds})[0]


def test_without_a_threshold_the_graphs_own_decides(
    engine: OnnxRuntimeCpu, images: Images, outputs: Outputs, shared_bundle: Bundle
) -> None:
    gate = shared_bundle.manifest.gate
    assert gate is not None
    energy = outputs.scores[:, shared_bundle.manifest.scores.index("energy")]
    np.testing.assert_array_equal(engine.run(images).accept, energy >= np.float32(gate.threshold))


@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.7, 1.0])
def test_a_threshold_overrides_the_graphs_own(
    bare: onnxruntime.InferenceSession, images: Images, outputs: Outputs, shared_bundle: Bundle, quantile: float
) -> None:
    energy = outputs.scores[:, shared_bundle.manifest.scores.index("energy")]
    threshold = np.quantile(energy, quantile, method="nearest")
    np.testing.assert_array_equal(accept(bare, images, threshold=threshold), energy >= threshold)


@pytest.mark.parametrize(
    ("threshold", "accepts"), [(-1e30, True), (0.0, True), (1e30, False), (np.nan, False), (np.inf, False)]
)
def test_extreme_thresholds(
    bare: onnxruntime.InferenceSession, images: Images, threshold: float, accepts: bool
) -> None:
    assert set(accept(bare, images, threshold=threshold).tolist()) == {accepts}


# --- refusals


@pytest.mark.parametrize("model", [b"", b"not a graph", bytes(1000)], ids=["empty", "text", "zeros"])
def test_bytes_that_are_no_graph_are_an_engine_error(model: bytes) -> None:
    with pytest.raises(EngineError, match="ONNX Runtime can't load the graph"):
        OnnxRuntimeCpu(model)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((2, 16, 16, 3), np.float32),
        np.zeros((2, 16, 16, 3), np.int8),
        np.zeros((2, 8, 16, 3), np.uint8),
        np.zeros((2, 3, 16, 16), np.uint8),
        np.zeros((16, 16, 3), np.uint8),
    ],
    ids=lambda batch: f"{batch.dtype} {batch.shape}",
)
def test_a_batch_of_another_type_or_shape_is_an_engine_error(engine: OnnxRuntimeCpu, batch: Images) -> None:
    with pytest.raises(EngineError, match=f"failed on a batch of {len(batch)}"):
        engine.run(batch)


# --- thresholds by predicted class


def test_thresholds_by_class_go_to_the_graph(shared_bundle: Bundle, images: Images, outputs: Outputs) -> None:
    model = onnx.load_from_string(shared_bundle.model)
    head.set_gate(model, 2, 0.0, np.zeros(len(LABELS), np.float32))
    engine = OnnxRuntimeCpu(model.SerializeToString(), threads=1)
    assert engine.signature.inputs["class_thresholds"] == Tensor("float32", (len(LABELS),))
    energy, classes = outputs.scores[:, 2], outputs.logits.argmax(axis=1)
    thresholds = np.quantile(energy, [0.2, 0.5, 0.8]).astype(np.float32)
    np.testing.assert_array_equal(engine.run(images).accept, energy >= 0)
    bare = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    by_class = accept(bare, images, class_thresholds=thresholds)
    np.testing.assert_array_equal(by_class, energy >= thresholds[classes])
    for_all = accept(bare, images, class_thresholds=thresholds, threshold=thresholds[1])
    np.testing.assert_array_equal(for_all, energy >= thresholds[1])
