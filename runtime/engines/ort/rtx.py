"""ONNX Runtime's plugin for TensorRT-RTX; the graph is compiled at the first start and cached as an EP context."""

from __future__ import annotations

import importlib
import logging
import threading
from pathlib import Path

import onnxruntime as ort

from runtime.bundle import Bundle, Signature
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
from runtime.exceptions import EngineError

NAME = "onnxruntime-rtx"
_PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
_CONTEXT = "context.onnx"
_registering = threading.Lock()
_registered: set[str] = set()
logger = logging.getLogger(__name__)


def load(bundle: Bundle, options: EngineOptions) -> Engine:
    """The bundle's graph on TensorRT-RTX, compiled now if the cache does not have it.

    Raises:
        EngineError: no GPU, or no plugin for it.
    """
    gpu = find_gpu()
    devices, release = _devices()

    def compiling(folder: Path) -> ort.SessionOptions:
        session = gpu_options()
        kernels = {"nv_runtime_cache_path": str(folder), **profile_shapes(bundle.manifest, "nv")}
        session.add_provider_for_devices(devices, kernels)
        return session

    def fill(folder: Path) -> None:
        logger.info("%s: compiling for %s; it is kept in %s", NAME, gpu.name, options.cache)
        session = compiling(folder)
        session.add_session_config_entry("ep.context_enable", "1")
        session.add_session_config_entry("ep.context_embed_mode", "1")
        session.add_session_config_entry("ep.context_file_path", str(folder / _CONTEXT))
        gpu_session(bundle.model, session)
        if not (folder / _CONTEXT).exists():
            raise EngineError(f"{_PACKAGE} {release} compiled no context for the graph")

    folder = cache.filled(options.cache, cache_parts(NAME, bundle, gpu, plugin=release), fill)
    session = gpu_session(str(folder / _CONTEXT), compiling(folder))
    found = read_signature(session)
    signature = Signature({"images": found.inputs["images"]}, found.outputs, None, built=True)
    return GpuSession(NAME, session, signature, PROFILE[-1])


def _devices() -> tuple[list[ort.OrtEpDevice], str]:
    """The plugin's first device and the plugin's version; the plugin is registered once a process."""
    try:
        plugin = importlib.import_module(_PACKAGE)
    except ImportError:
        raise EngineError(
            f"there is no Python module {_PACKAGE!r}; pip install onnxruntime-ep-nv-tensorrt-rtx"
        ) from None
    name = plugin.get_ep_name()
    try:
        with _registering:
            if name not in _registered:
                ort.register_execution_provider_library(name, plugin.get_library_path())
                _registered.add(name)
        devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    except Exception as error:  # ONNX Runtime's exceptions share no public base
        raise EngineError(f"{_PACKAGE} can't be loaded: {error}") from error
    if not devices:
        raise EngineError(f"{_PACKAGE} {plugin.__version__} finds no GPU that it supports")
    return devices[:1], plugin.__version__
