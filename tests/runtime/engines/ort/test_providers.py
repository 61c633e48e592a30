"""ONNX Runtime's engines that build at start-up, on a made-up GPU: what they ask for, and that they build once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from runtime.bundle import Bundle
from runtime.engines.gpu import Gpu
from runtime.engines.interface import Engine, EngineName, EngineOptions
from runtime.engines.ort import providers, rtx
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.rule import Rule
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


@dataclass
class Built:
    """An engine that builds at start-up, and the module that it is in."""

    name: EngineName
    module: ModuleType
    make: Callable[[Bundle, EngineOptions], Engine]
    sessions: Sessions
    cache: Path

    def load(self, bundle: Bundle) -> Engine:
        return self.make(bundle, EngineOptions(self.name, cache=self.cache))

    def folders(self) -> list[Path]:
        return [path for path in self.cache.iterdir() if path.is_dir()]


@pytest.fixture(params=["onnxruntime-tensorrt", "onnxruntime-rtx"])
def built(request: pytest.FixtureRequest, loaded: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Built:
    sessions = Sessions(loaded)
    module, make = (rtx, rtx.load) if request.param == rtx.NAME else (providers, providers.load_tensorrt)
    monkeypatch.setattr(module, "find_gpu", lambda: Gpu("Made-up", 89, "13.0"))
    monkeypatch.setattr(module, "gpu_session", sessions)
    monkeypatch.setattr(rtx, "gpu_options", Options)
    monkeypatch.setattr(rtx, "_devices", lambda: ([], "0.5"))
    return Built(request.param, module, make, sessions, tmp_path / "cache")


def test_builds_at_the_first_start_and_never_again(loaded: Bundle, built: Built) -> None:
    for start in (1, 2):
        built.load(loaded)
        assert len(built.sessions.models) == start + 1  # the first start builds, then loads what was built
    (folder,) = built.folders()
    assert '"gpu": "Made-up 89"' in (folder / "key.json").read_text()


def test_another_driver_builds_anew(loaded: Bundle, built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    built.load(loaded)
    monkeypatch.setattr(built.module, "find_gpu", lambda: Gpu("Made-up", 89, "13.1"))
    built.load(loaded)
    assert len(built.folders()) == 2


def test_decides_as_the_cpu_does(loaded: Bundle, built: Built) -> None:
    engine = built.load(loaded)
    loaded.check_graph(engine.signature)
    images = calibration_images(70, seed=4)
    expected, found = OnnxRuntimeCpu(loaded.model, 1).run(images), engine.run(images)
    np.testing.assert_array_equal(Rule.of(loaded.manifest).verified(found), expected.accept)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)


def test_the_profile_has_the_image_size_of_the_bundle(
    loaded: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions(loaded)
    monkeypatch.setattr(providers, "find_gpu", lambda: Gpu("Made-up", 89, "13.0"))
    monkeypatch.setattr(providers, "gpu_session", sessions)
    providers.load_tensorrt(loaded, EngineOptions("onnxruntime-tensorrt", cache=tmp_path / "cache"))
    built, used = sessions.providers
    assert built is not None
    assert used is not None
    size = f"{loaded.manifest.input.height}x{loaded.manifest.input.width}x3"
    assert built[0][1]["trt_profile_max_shapes"] == f"images:64x{size}"
    assert ".new" in built[0][1]["trt_engine_cache_path"]
    assert ".new" not in used[0][1]["trt_engine_cache_path"]
