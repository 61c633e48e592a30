"""ONNX Runtime's engines that build at start-up, on a made-up GPU: what they ask for, and that they build once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from runtime.bundle import Bundle
from runtime.engines.gpu import Gpu
from runtime.engines.options import EngineOptions
from runtime.engines.ort import providers as onnxruntime_tensorrt
from runtime.engines.ort import rtx as onnxruntime_rtx
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from tests.small import calibration_images

Providers = Sequence[tuple[str, dict[str, str]]] | None


class Sessions:
    """In place of sessions on a GPU, those of the CPU; what was asked for is kept."""

    def __init__(self, bundle: Bundle) -> None:
        self._model = bundle.model
        self.models: list[bytes | str] = []
        self.providers: list[Providers] = []

    def __call__(self, model: bytes | str, options: Any, providers: Providers = None) -> ort.InferenceSession:
        self.models.append(model)
        self.providers.append(providers)
        for file, data in getattr(options, "files", {}).items():
            Path(file).write_bytes(data)
        return ort.InferenceSession(self._model, providers=["CPUExecutionProvider"])


class Options:
    """Session options of a plugin: compiling writes the context file that they name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.provider: dict[str, str] = {}

    def add_provider_for_devices(self, _: Any, provider: dict[str, str]) -> None:
        self.provider = provider

    def add_session_config_entry(self, name: str, value: str) -> None:
        if name == "ep.context_file_path":
            self.files[value] = b"context"


@pytest.fixture(params=[onnxruntime_tensorrt, onnxruntime_rtx], ids=lambda module: str(module.NAME))
def module(request: pytest.FixtureRequest, loaded: Bundle, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    engine: ModuleType = request.param
    monkeypatch.setattr(engine, "find_gpu", lambda: Gpu("Made-up", 89, "13.0"))
    monkeypatch.setattr(engine, "gpu_session", Sessions(loaded))
    if engine is onnxruntime_rtx:
        monkeypatch.setattr(engine, "gpu_options", Options)
        monkeypatch.setattr(engine, "_devices", lambda: ([], "0.5"))
    return engine


def test_builds_at_the_first_start_and_never_again(loaded: Bundle, module: ModuleType, tmp_path: Path) -> None:
    options = EngineOptions(module.NAME, cache=tmp_path / "cache")
    for start in (1, 2):
        module.load(loaded, options)
        assert len(module.gpu_session.models) == start + 1  # the first start builds, then loads what was built
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    assert '"gpu": "Made-up 89"' in (folder / "key.json").read_text()


def test_another_driver_builds_anew(
    loaded: Bundle, module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = EngineOptions(module.NAME, cache=tmp_path / "cache")
    module.load(loaded, options)
    monkeypatch.setattr(module, "find_gpu", lambda: Gpu("Made-up", 89, "13.1"))
    module.load(loaded, options)
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 2


def test_decides_as_the_cpu_does(loaded: Bundle, module: ModuleType, tmp_path: Path) -> None:
    engine = module.load(loaded, EngineOptions(module.NAME, cache=tmp_path / "cache"))
    loaded.check_graph(engine.signature)
    images = calibration_images(70, seed=4)
    expected, found = OnnxRuntimeCpu(loaded.model, 1).run(images), engine.run(images)
    np.testing.assert_array_equal(found.accept, expected.accept)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)


def test_the_profile_has_the_image_size_of_the_bundle(
    loaded: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions(loaded)
    monkeypatch.setattr(onnxruntime_tensorrt, "find_gpu", lambda: Gpu("Made-up", 89, "13.0"))
    monkeypatch.setattr(onnxruntime_tensorrt, "gpu_session", sessions)
    onnxruntime_tensorrt.load(loaded, EngineOptions("onnxruntime-tensorrt", cache=tmp_path / "cache"))
    built, used = sessions.providers
    assert built is not None
    assert used is not None
    size = f"{loaded.manifest.input.height}x{loaded.manifest.input.width}x3"
    assert built[0][1]["trt_profile_max_shapes"] == f"images:64x{size}"
    assert ".new" in built[0][1]["trt_engine_cache_path"]
    assert ".new" not in used[0][1]["trt_engine_cache_path"]
