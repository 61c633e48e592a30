"""What the driver says, or why there is none."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.engines import gpu
from runtime.engines.gpu import Gpu, find_gpu
from runtime.exceptions import EngineError


def driver(*, devices: int = 1, status: int = 0) -> Any:
    """libcuda with one function an answer; pointers arrive as ctypes.byref."""

    def put(pointer: Any, value: int) -> int:
        pointer._obj.value = value
        return 0

    def name(buffer: Any, _: int, __: Any) -> int:
        buffer.value = b"Made-up 4090"
        return 0

    return SimpleNamespace(
        cuInit=lambda _: status,
        cuDeviceGetCount=lambda pointer: put(pointer, devices),
        cuDeviceGet=lambda pointer, index: put(pointer, index),
        cuDeviceGetName=name,
        cuDeviceGetAttribute=lambda pointer, attribute, _: put(pointer, {75: 8, 76: 9}[attribute]),
        cuDriverGetVersion=lambda pointer: put(pointer, 13010),
    )


def test_reads_name_capability_and_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(gpu, "_KERNEL_MODULE", tmp_path / "version")
    assert find_gpu(lambda _: driver()) == Gpu("Made-up 4090", 89, "13.1")
    (tmp_path / "version").write_text("580.65.06\n")
    assert find_gpu(lambda _: driver()).driver == "13.1-580.65.06"


def test_no_driver() -> None:
    with pytest.raises(EngineError, match="no NVIDIA GPU here: there is no driver"):
        find_gpu(lambda _: ctypes.CDLL("/nowhere/libcuda.so.1"))


def test_no_device() -> None:
    with pytest.raises(EngineError, match="the driver counts none"):
        find_gpu(lambda _: driver(devices=0))
    with pytest.raises(EngineError, match="the driver answers with error 100"):
        find_gpu(lambda _: driver(status=100))
