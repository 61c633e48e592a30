"""TensorRT-RTX, on an engine that the bundle holds; the kernels that it compiles at the first start are cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime.bundle import MODEL, Bundle
from runtime.engines import cache
from runtime.engines.gpu import Gpu, find_gpu
from runtime.engines.interface import Engine, EngineOptions
from runtime.engines.trt.cuda import Cuda
from runtime.engines.trt.engine import Loaded, deserialise, prepare

_KERNELS = "kernels"


def load(bundle: Bundle, options: EngineOptions) -> Engine:
    """The bundle's TensorRT-RTX engine, ready to run.

    Raises:
        EngineError: no GPU, no TensorRT-RTX, or no engine for them in the bundle.
    """
    gpu = find_gpu()
    loaded = deserialise(bundle, "tensorrt-rtx", gpu)
    library, cuda = loaded.library, Cuda()
    folder = _folder(bundle, loaded, gpu, options.cache)
    config = loaded.engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(library.ExecutionContextAllocationStrategy.USER_MANAGED)
    config.dynamic_shapes_kernel_specialization_strategy = library.DynamicShapesKernelSpecializationStrategy.EAGER
    kernels = config.create_runtime_cache()
    known = _read(kernels, folder / _KERNELS)
    config.set_runtime_cache(kernels)
    engine = prepare(bundle, loaded, lambda: loaded.engine.create_execution_context(config), options.contexts, cuda)
    compiled = bytes(kernels.serialize())
    if compiled != known:
        cache.write(folder / _KERNELS, compiled)
    return engine


def _folder(bundle: Bundle, loaded: Loaded, gpu: Gpu, root: Path) -> Path:
    """Where the kernels compiled for this engine, GPU, driver and release are kept."""
    parts = {
        "engine": bundle.manifest.files[loaded.name].sha256,
        "model": bundle.manifest.files[MODEL].sha256,
        "gpu": f"{gpu.name} {gpu.capability}",
        "driver": gpu.driver,
        "release": loaded.spec.release,
    }
    return cache.filled(root, parts, lambda _: None)


def _read(kernels: Any, file: Path) -> bytes:
    """Load the kernels of an earlier start; those of another environment are left aside and compiled anew."""
    try:
        stored = file.read_bytes()
    except FileNotFoundError:
        return b""
    return stored if kernels.deserialize(stored) else b""
