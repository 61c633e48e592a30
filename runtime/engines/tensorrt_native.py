"""TensorRT, on an engine that the bundle holds."""

from __future__ import annotations

from runtime.bundle import Bundle
from runtime.engines.gpu import find_gpu
from runtime.engines.interface import Engine
from runtime.engines.options import EngineOptions
from runtime.engines.trt import engine as native
from runtime.engines.trt.cuda import Cuda


def load(bundle: Bundle, options: EngineOptions) -> Engine:
    """The bundle's TensorRT engine, ready to run.

    Raises:
        EngineError: no GPU, no TensorRT, or no engine for them in the bundle.
    """
    loaded = native.load(bundle, "tensorrt", find_gpu())
    strategy = loaded.library.ExecutionContextAllocationStrategy.USER_MANAGED
    return native.prepare(
        bundle, loaded, lambda: loaded.engine.create_execution_context(strategy), options.contexts, Cuda()
    )
