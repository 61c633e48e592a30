"""ONNX Runtime on CUDA with captured graphs, on a GPU that is made up: what is copied, captured and answered."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

from runtime.bundle import Bundle
from runtime.engines.gpu import Gpu
from runtime.engines.interface import EngineOptions
from runtime.engines.ort import cuda
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.engines.ort.session import GpuSession
from runtime.exceptions import EngineError
from runtime.rule import Rule
from tests.small import calibration_images

Array = npt.NDArray[Any]


class Value:
    """An OrtValue on the device: an array that only copies reach."""

    def __init__(self, array: Array) -> None:
        self.array = array

    @classmethod
    def ortvalue_from_numpy(cls, array: Array, device: str, _: int) -> Value:
        assert device == "cuda"
        return cls(array.copy())

    @classmethod
    def ortvalue_from_shape_and_type(cls, shape: list[int], dtype: type, device: str, _: int) -> Value:
        assert device == "cuda"
        return cls(np.full(shape, np.nan, dtype))

    def update_inplace(self, array: Array) -> None:
        assert array.shape == self.array.shape
        assert array.dtype == self.array.dtype
        self.array[...] = array

    def numpy(self) -> Array:
        return self.array.copy()


class Binding:
    def __init__(self) -> None:
        self.inputs: dict[str, Value] = {}
        self.outputs: dict[str, Value] = {}

    def bind_ortvalue_input(self, name: str, value: Value) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: Value) -> None:
        self.outputs[name] = value


class Options:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_run_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value


class Session:
    """As ONNX Runtime's: a graph is captured for a thread and a number, and replayed on the buffers of that time."""

    def __init__(self, model: bytes, *, fails: bool = False) -> None:
        self._cpu = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.captured: dict[tuple[int, str], Binding] = {}
        self.runs: list[int] = []
        self.fails = fails

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cpu, name)

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding, options: Options) -> None:
        if self.fails:
            raise RuntimeError("out of memory")
        key = threading.get_ident(), options.entries["gpu_graph_id"]
        used = self.captured.setdefault(key, binding)
        images = used.inputs["images"].array
        self.runs.append(len(images))
        found = self._cpu.run(list(used.outputs), {"images": images})
        for value, result in zip(used.outputs.values(), found, strict=True):
            value.array[...] = result


Load = Callable[[Bundle], Any]


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, str]]]:
    """The sessions that are made, and their provider's options."""
    made: list[tuple[Any, dict[str, str]]] = []

    def session(model: bytes, _: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
        ((name, options),) = providers
        assert name == "CUDAExecutionProvider"
        made.append((Session(model), options))
        return made[-1][0]

    monkeypatch.setattr(cuda, "find_gpu", lambda: Gpu("Made-up H100", 90, "13.0"))
    monkeypatch.setattr(cuda, "gpu_session", session)
    monkeypatch.setattr(cuda, "ort", SimpleNamespace(OrtValue=Value, RunOptions=Options))
    return made


def _load(bundle: Bundle) -> Any:
    return cuda.load(bundle, EngineOptions("onnxruntime-cuda"))


@pytest.mark.usefixtures("sessions")
@pytest.mark.parametrize("count", [0, 1, 3, 64, 130])
def test_answers_as_the_cpu_for_any_number_of_images(loaded: Bundle, count: int) -> None:
    engine = _load(loaded)
    loaded.check_graph(engine.signature)
    images = calibration_images(130, seed=4)[:count]
    expected, found = (
        OnnxRuntimeCpu(loaded.model, 1).run(images, penultimate=True),
        engine.run(images, penultimate=True),
    )
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.penultimate, expected.penultimate, rtol=1e-5, atol=1e-6)
    assert found.accept is None
    np.testing.assert_array_equal(Rule.of(loaded.manifest).verified(found), expected.accept)
    assert engine.run(images).penultimate is None


def test_every_size_is_captured_once_and_before_the_first_request(loaded: Bundle, sessions: list[Any]) -> None:
    engine = _load(loaded)
    ((session, options),) = sessions
    assert options["enable_cuda_graph"] == "1"
    assert engine.batches == (1, 2, 4, 8, 16, 32, 64)
    assert session.runs == [64, 64, 32, 32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1]
    assert len({thread for thread, _ in session.captured}) == 1
    captured = dict(session.captured)
    threads = [threading.Thread(target=engine.run, args=(calibration_images(n),)) for n in (5, 64, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.captured == captured  # one thread runs all, so that nothing is captured again
    assert sorted(session.runs[14:]) == [1, 8, 64]


@pytest.mark.usefixtures("sessions")
def test_what_was_left_of_a_larger_batch_changes_no_answer(loaded: Bundle) -> None:
    engine = _load(loaded)
    images = calibration_images(8, seed=9)
    first = engine.run(images)
    again = engine.run(images[:5][::-1])
    np.testing.assert_allclose(again.logits, first.logits[:5][::-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(engine.run(images).logits, first.logits)


@pytest.mark.usefixtures("sessions")
def test_results_are_the_callers_own(loaded: Bundle) -> None:
    engine = _load(loaded)
    first = engine.run(calibration_images(4, seed=1))
    kept = first.logits.copy()
    engine.run(calibration_images(4, seed=2))
    np.testing.assert_array_equal(first.logits, kept)


def test_a_batch_that_fails_is_an_error_and_the_next_one_runs(loaded: Bundle, sessions: list[Any]) -> None:
    engine = _load(loaded)
    session = sessions[0][0]
    session.fails = True
    with pytest.raises(EngineError, match="ONNX Runtime failed on a batch of 3: out of memory"):
        engine.run(calibration_images(3))
    session.fails = False
    assert len(engine.run(calibration_images(3)).logits) == 3


def test_what_cannot_be_captured_runs_as_it_is(
    loaded: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[bool] = []

    def session(model: bytes, _: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
        asked.append("enable_cuda_graph" in providers[0][1])
        if asked[-1]:
            raise EngineError("control flow")
        return ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(cuda, "find_gpu", lambda: Gpu("Made-up H100", 90, "13.0"))
    monkeypatch.setattr(cuda, "gpu_session", session)
    with caplog.at_level("INFO"):
        engine = _load(loaded)
    assert isinstance(engine, GpuSession)
    assert asked == [True, False]
    assert engine.name == "onnxruntime-cuda"
    assert "no captured graph (control flow)" in caplog.text


@pytest.mark.usefixtures("sessions")
def test_batches_of_one_size_side_by_side_get_their_own_answers(loaded: Bundle) -> None:
    engine = _load(loaded)
    batches = [calibration_images(8, seed=seed) for seed in range(12)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(engine.run, batches))
    for images, outputs in zip(batches, found, strict=True):
        np.testing.assert_allclose(
            outputs.logits, OnnxRuntimeCpu(loaded.model, 1).run(images).logits, rtol=1e-5, atol=1e-6
        )


def test_nothing_runs_while_another_sessions_graph_is_captured(loaded: Bundle, sessions: list[Any]) -> None:
    """CUDA would refuse the copies, or spoil the capture."""
    engine = _load(loaded)
    session = sessions[0][0]
    before = len(session.runs)
    with cuda._alone():
        waiting = threading.Thread(target=engine.run, args=(calibration_images(2),))
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        assert len(session.runs) == before
    waiting.join()
    assert len(session.runs) == before + 1


@pytest.mark.usefixtures("sessions")
def test_its_thread_ends_with_it(loaded: Bundle) -> None:
    before = set(threading.enumerate())
    engine = _load(loaded)
    (own,) = set(threading.enumerate()) - before
    del engine
    gc.collect()
    own.join(5)
    assert not own.is_alive()


@pytest.mark.parametrize(("groups", "expected"), [(None, False), (1, False), (2, True), (128, True), (257, True)])
def test_convolutions_in_groups_are_seen(groups: int | None, expected: bool) -> None:
    attributes = {} if groups is None else {"group": groups}
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], **attributes)
    graph = onnx.helper.make_graph([node], "g", [], [])
    assert cuda.grouped(onnx.helper.make_model(graph).SerializeToString()) is expected


def test_a_graph_with_groups_is_neither_captured_nor_channels_last(
    loaded: Bundle, sessions: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "grouped", lambda _: True)
    monkeypatch.setattr(cuda, "read_signature", lambda _: loaded)
    assert isinstance(_load(loaded), GpuSession)
    ((_, options),) = sessions
    assert options == {"device_id": "0"}
