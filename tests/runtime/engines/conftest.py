"""A bundle with engines, on a machine whose GPU is made up."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from runtime import bundle
from runtime.bundle import MODEL, Bundle
from runtime.engines.gpu import Gpu
from runtime.engines.trt import engine, rtx
from runtime.manifest import EngineSpec, NativeRuntime
from tests.runtime.engines.fake_gpu import FakeCuda, FakeTensorrt


def with_engine(
    to: Bundle, runtime: NativeRuntime = "tensorrt-rtx", data: bytes | None = None, **changes: object
) -> Bundle:
    """A bundle with a made-up engine."""
    data = b"engine " + to.model if data is None else data
    spec = EngineSpec(runtime, "1.2.3", (86, 89), "fp32", (1, 4, 8), to.manifest.files[MODEL].sha256, 9, 3)
    spec = dataclasses.replace(spec, **changes)  # type: ignore[arg-type]
    name = f"engines/{runtime}.engine"
    manifest = dataclasses.replace(
        to.manifest,
        files={**to.manifest.files, name: bundle.entry(data)},
        engines={**to.manifest.engines, name: spec},
    )
    return bundle.update(to, manifest, {name: data})


@pytest.fixture
def loaded(bundle_dir: Path) -> Bundle:
    return Bundle.load(bundle_dir)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeTensorrt:
    """TensorRT, TensorRT-RTX and CUDA, and a GPU of compute capability 8.9."""
    cuda = FakeCuda()
    fake = FakeTensorrt(cuda)
    for name, module in (("tensorrt", fake), ("tensorrt_rtx", fake), ("cuda.bindings.runtime", cuda)):
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    for module in (engine, rtx):
        monkeypatch.setattr(module, "find_gpu", lambda: Gpu("Made-up 4090", 89, "13.0"))
    return fake
