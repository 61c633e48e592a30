"""Which engine runs: one that is named or an error, and for auto the best that works, said with the reasons."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from runtime import Gate
from runtime.bundle import Bundle
from runtime.engines import selection
from runtime.engines.interface import EngineName, EngineOptions
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import EngineError
from runtime.rule import Rule
from tests.runtime.engines.conftest import with_engine
from tests.runtime.test_main import command
from tests.small import calibration_images, encode

REASON = r"no NVIDIA GPU here"


def no_gpu() -> None:
    raise EngineError("no NVIDIA GPU here: made up")


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, wherever the tests run."""
    from runtime.engines.ort import cuda, providers
    from runtime.engines.ort import rtx as ort_rtx
    from runtime.engines.trt import engine
    from runtime.engines.trt import rtx as trt_rtx

    for module in (cuda, providers, ort_rtx, engine, trt_rtx):
        monkeypatch.setattr(module, "find_gpu", no_gpu)


def test_every_name_has_its_engine() -> None:
    known = {"auto", OnnxRuntimeCpu.name, *selection.GPU_ENGINES, *selection.CPU_ENGINES}
    assert known == set(get_args(EngineName))


@pytest.mark.parametrize("name", selection.GPU_ENGINES)
@pytest.mark.usefixtures("without_gpu")
def test_a_named_engine_that_can_not_run_is_an_error(loaded: Bundle, tmp_path: Path, name: EngineName) -> None:
    with pytest.raises(EngineError, match=f"^engine {name}: {REASON}") as caught:
        Gate.load(loaded.path, engine=name, cache=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("without_gpu")
def test_auto_takes_the_cpu_and_says_why(loaded: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        gate = Gate.load(loaded.path)
    assert gate.engine.name == "onnxruntime-cpu"
    (message,) = caplog.messages
    assert message.startswith("engine onnxruntime-cpu, the best that works here (tensorrt, tensorrt-rtx, onnxruntime-")
    assert "no NVIDIA GPU here: made up" in message


@pytest.mark.usefixtures("library")
def test_auto_takes_a_built_engine_and_says_what_was_better(
    loaded: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_engine(loaded)
    with caplog.at_level(logging.INFO):
        gate = Gate.load(loaded.path, cache=tmp_path)
    assert gate.engine.name == "tensorrt-rtx"
    assert caplog.messages == [
        "engine tensorrt-rtx, the best that works here (tensorrt: the bundle has no tensorrt engine; build one with "
        "python -m export.tensorrt BUNDLE --tensorrt full)"
    ]


@pytest.mark.usefixtures("without_gpu")
def test_whatever_a_library_raises_is_the_engines_error(
    loaded: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load(*_: object) -> None:
        raise AttributeError("module 'tensorrt' has no attribute\n  'ICudaEngine'")

    monkeypatch.setitem(selection.GPU_ENGINES, "tensorrt", load)
    with pytest.raises(EngineError, match=r"^engine tensorrt: AttributeError: module 'tensorrt' has no attribute 'IC"):
        Gate.load(loaded.path, engine="tensorrt")
    with caplog.at_level(logging.INFO):
        assert Gate.load(loaded.path).engine.name == "onnxruntime-cpu"
    assert "tensorrt: AttributeError: module 'tensorrt'" in caplog.text


def test_a_first_look_finds_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "find_gpu", no_gpu)
    for name in ("auto", "onnxruntime-cpu"):
        selection.check_gpu(name)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=r"^engine tensorrt: no NVIDIA GPU here: made up$"):
        selection.check_gpu("tensorrt")


def test_an_unknown_engine_is_an_error(loaded: Bundle) -> None:
    with pytest.raises(EngineError, match="unknown engine 'gpu'; there are auto, onnxruntime-cpu"):
        selection.load(loaded, EngineOptions("gpu"))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "tensorrt-rtx"])
def test_the_command_ends_with_one_line(loaded: Bundle, tmp_path: Path, name: str) -> None:
    """The bundle has no engine and this ONNX Runtime no CUDA, so not even a GPU would do."""
    (tmp_path / "image.png").write_bytes(encode(calibration_images(1)[0]))
    run = command(loaded.path, tmp_path / "image.png", "--engine", name)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f"error: engine {name}: ")
    assert run.stderr.count("\n") == 1


def test_onnxruntime_on_the_gpu_never_falls_back(
    loaded: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a GPU but an ONNX Runtime without its provider."""
    from runtime.engines.gpu import Gpu
    from runtime.engines.ort import cuda, providers, session

    monkeypatch.setattr(session.ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for module in (cuda, providers):
        monkeypatch.setattr(module, "find_gpu", lambda: Gpu("Made-up", 89, "13.0"))
    for name in (cuda.NAME, providers.TENSORRT):
        with pytest.raises(EngineError, match=r"has no .*ExecutionProvider; install onnxruntime-gpu in place of"):
            selection.load(loaded, EngineOptions(name, cache=tmp_path / "cache"))  # type: ignore[arg-type]
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_session_that_may_not_use_the_cpu_does_not(loaded: Bundle) -> None:
    from runtime.engines.ort.session import gpu_options, gpu_session

    with pytest.raises(EngineError, match="can't load the graph on"):
        gpu_session(loaded.model, gpu_options(), [("CPUExecutionProvider", {})])


def test_the_gpu_session_leaves_the_decision_to_the_rule(loaded: Bundle) -> None:
    """On a session of the CPU: the decision does not depend on where the scores come from."""
    import onnxruntime as ort

    from runtime.engines.ort.session import GpuSession, read_signature

    session = ort.InferenceSession(loaded.model, providers=["CPUExecutionProvider"])
    engine = GpuSession("made-up", session, read_signature(session), 8)
    images = calibration_images(21, seed=6)
    expected = OnnxRuntimeCpu(loaded.model, 1).run(images, penultimate=True)
    found = engine.run(images, penultimate=True)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    assert found.accept is None
    np.testing.assert_array_equal(Rule.of(loaded.manifest).verified(found), expected.accept)
    assert found.penultimate is not None
    assert found.penultimate.shape == (21, 8)
    assert engine.run(images[:0]).logits.shape == (0, 3)
