"""TensorRT on the machine that it is for: refused in one line where it can't be, and configured as asked where it can."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from export.exceptions import ExportError
from export.tensorrt import build as building
from export.tensorrt.__main__ import main
from export.tensorrt.build import check_buildable
from export.tensorrt.options import BuildOptions
from runtime.engines.gpu import Gpu
from runtime.exceptions import EngineError


class Config:
    """A builder's configuration that notes what it is told."""

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.notes.append((pool, size))

    def set_flag(self, flag: str) -> None:
        self.notes.append(flag)

    def create_timing_cache(self, data: bytes) -> bytes:
        return data

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        self.notes.append((cache, ignore_mismatch))
        return cache != b"another GPU's"

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: b"measured")


LIBRARY = SimpleNamespace(
    ProfilingVerbosity=SimpleNamespace(DETAILED=2),
    MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
    BuilderFlag=SimpleNamespace(VERSION_COMPATIBLE="version compatible"),
    HardwareCompatibilityLevel=SimpleNamespace(AMPERE_PLUS="ampere+"),
)


def configured(options: BuildOptions) -> Config:
    config = Config()
    builder = SimpleNamespace(create_builder_config=lambda: config)
    building._configure(LIBRARY, builder, options, (89,))
    return config


def test_without_the_package_it_is_one_line(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))  # PyPI's, without its libraries
    monkeypatch.setitem(sys.modules, "tensorrt_bindings", None)
    with pytest.raises(ExportError, match=r"^can't build for tensorrt: there is no Python module 'tensorrt'; install"):
        main([str(bundle_dir), "--tensorrt", "full"])


def test_without_a_gpu_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_gpu() -> Gpu:
        raise EngineError("no NVIDIA GPU here: made up")

    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(Runtime=object))  # type: ignore[arg-type]
    monkeypatch.setattr(building, "find_gpu", no_gpu)
    with pytest.raises(ExportError, match=r"^can't build for tensorrt: no NVIDIA GPU here"):
        check_buildable(BuildOptions("tensorrt"))
    monkeypatch.setattr(building, "find_gpu", lambda: Gpu("Made-up", 87, "13.0"))
    assert check_buildable(BuildOptions("tensorrt"))[1] == (87,)


def test_what_is_not_asked_for_is_left_to_tensorrt() -> None:
    assert configured(BuildOptions("tensorrt")).notes == []


def test_every_option_reaches_the_builder(tmp_path: Path) -> None:
    file = tmp_path / "timings"
    file.write_bytes(b"earlier")
    config = configured(BuildOptions("tensorrt", (), (1, 2, 3), 512, file, 5, True, True))
    assert config.notes == [("workspace", 512 << 20), "version compatible", (b"earlier", False)]
    assert vars(config)["builder_optimization_level"] == 5
    assert vars(config)["hardware_compatibility_level"] == "ampere+"
    building._keep_timings(file, config)
    assert file.read_bytes() == b"measured"
    assert list(tmp_path.iterdir()) == [file]


def test_timings_of_another_gpu_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "timings"
    file.write_bytes(b"another GPU's")
    with pytest.raises(ExportError, match="not a timing cache of this GPU and release; delete it"):
        configured(BuildOptions("tensorrt", timing_cache=file))
