"""Which NVIDIA GPU this machine has, asked of the driver itself: no package is needed for it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.exceptions import EngineError

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute
_KERNEL_MODULE = Path("/sys/module/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """The first GPU.

    Attributes:
        name: as the driver calls it.
        capability: compute capability, 89 for 8.9.
        driver: the CUDA version that the driver speaks, and its own version where the kernel tells it.
    """

    name: str
    capability: int
    driver: str


def find_gpu(load: Callable[[str], Any] = ctypes.CDLL) -> Gpu:
    """Ask the driver.

    Args:
        load: opens a shared library.

    Raises:
        EngineError: no driver, or no GPU.
    """
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = load(library)
    except OSError:
        raise EngineError(
            f"no NVIDIA GPU here: there is no driver ({library}); install it, or start the container with its GPU"
        ) from None
    count, device, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if status := cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        raise EngineError(f"no NVIDIA GPU here: the driver answers with error {status}; nvidia-smi may say why")
    if not count.value:
        raise EngineError("no NVIDIA GPU here: the driver counts none; is CUDA_VISIBLE_DEVICES empty?")
    name, major, minor = ctypes.create_string_buffer(100), ctypes.c_int(), ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
    cuda.cuDriverGetVersion(ctypes.byref(version))
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    if _KERNEL_MODULE.exists():
        driver += f"-{_KERNEL_MODULE.read_text().strip()}"
    return Gpu(name.value.decode(), 10 * major.value + minor.value, driver)
