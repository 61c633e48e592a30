"""ONNX Runtime's TensorRT provider, with what it builds kept in a cache."""

from __future__ import annotations

import logging
from pathlib import Path

import onnxruntime as ort

from runtime.bundle import Bundle
from runtime.engines import cache
from runtime.engines.gpu import find_gpu
from runtime.engines.interface import Engine, EngineOptions
from runtime.engines.ort.session import (
    PROFILE,
    GpuSession,
    cache_parts,
    gpu_options,
    gpu_session,
    profile_shapes,
    read_signature,
)

TENSORRT = "onnxruntime-tensorrt"
logger = logging.getLogger(__name__)


def load_tensorrt(bundle: Bundle, options: EngineOptions) -> Engine:
    """The bundle's graph on TensorRT, built now if the cache does not have it.

    Raises:
        EngineError: no GPU, or no ONNX Runtime or TensorRT for it.
    """
    gpu = find_gpu()

    def fill(folder: Path) -> None:
        logger.info("%s: building an engine for %s; it is kept in %s", TENSORRT, gpu.name, options.cache)
        _session(bundle, folder)

    session = _session(bundle, cache.filled(options.cache, cache_parts(TENSORRT, bundle, gpu), fill))
    return GpuSession(TENSORRT, session, read_signature(session), PROFILE[-1])


def _session(bundle: Bundle, folder: Path) -> ort.InferenceSession:
    """With a profile given, the engine is built as the session is made, not in its first run."""
    provider = {
        "device_id": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        **profile_shapes(bundle.manifest, "trt"),
    }
    return gpu_session(bundle.model, gpu_options(), [("TensorrtExecutionProvider", provider)])
