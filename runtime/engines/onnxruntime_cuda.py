"""ONNX Runtime's CUDA execution provider."""

from __future__ import annotations

from runtime.bundle import Bundle
from runtime.engines.gpu import find_gpu
from runtime.engines.interface import Engine
from runtime.engines.options import EngineOptions
from runtime.engines.ort.session import GpuSession, gpu_options, gpu_session, read_signature

NAME = "onnxruntime-cuda"


def load(bundle: Bundle, options: EngineOptions) -> Engine:  # noqa: ARG001  # nothing to choose, and nothing to cache
    """The bundle's graph on CUDA; batches of any size.

    Raises:
        EngineError: no GPU, or no ONNX Runtime for it.
    """
    find_gpu()
    session = gpu_session(bundle.model, gpu_options(), [("CUDAExecutionProvider", {"device_id": "0"})])
    return GpuSession(NAME, session, read_signature(session), bundle.manifest, None)
