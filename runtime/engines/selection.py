"""Which engine runs a bundle: the one that is named, or the best that works here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import get_args

import numpy as np

from runtime.bundle import MODEL, Bundle
from runtime.engines.gpu import find_gpu
from runtime.engines.interface import Engine, EngineName, EngineOptions
from runtime.engines.ort import cuda, providers
from runtime.engines.ort import rtx as ort_rtx
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.engines.trt import engine as trt
from runtime.engines.trt import rtx as trt_rtx
from runtime.exceptions import BundleError, EngineError, GraphMismatch

logger = logging.getLogger(__name__)

CPU = OnnxRuntimeCpu.name

# Best first: engines built for this very model and GPU, then those that are built at start-up, then one that is not built.
GPU_ENGINES: dict[EngineName, Callable[[Bundle, EngineOptions], Engine]] = {
    "tensorrt": trt.load,
    "tensorrt-rtx": trt_rtx.load,
    "onnxruntime-tensorrt": providers.load_tensorrt,
    "onnxruntime-rtx": ort_rtx.load,
    "onnxruntime-cuda": cuda.load,
}

_PROBES = 8  # images that an engine must answer as the CPU does
_TOLERANCE = 0.1  # largest difference, as a share of the logits' range: beyond it an engine computes something else


def load(bundle: Bundle, options: EngineOptions) -> Engine:
    """The engine for a bundle, checked against ONNX Runtime on the CPU.

    Raises:
        GraphMismatch: model.onnx does not load.
        EngineError: the engine that is named is unknown, can't run here, or answers otherwise than the CPU.
    """
    if options.name not in get_args(EngineName):
        raise EngineError(f"unknown engine {options.name!r}; there are {', '.join(get_args(EngineName))}")
    try:
        cpu = OnnxRuntimeCpu(bundle.model, options.threads)
    except EngineError as error:
        raise GraphMismatch(bundle.path / MODEL, str(error)) from error
    if options.name == CPU:
        return cpu
    if options.name != "auto":
        return _named(options.name, bundle, options, cpu)
    refused: dict[str, list[str]] = {}
    for name in GPU_ENGINES:
        try:
            engine = _named(name, bundle, options, cpu)
        except EngineError as error:
            reason = str(error).removeprefix(f"engine {name}: ")
            refused.setdefault(reason, []).append(name)
        else:
            logger.info("engine %s%s", name, _because(refused))
            return engine
    logger.info("engine %s%s", CPU, _because(refused))
    return cpu


def check_gpu(name: EngineName) -> None:
    """A first look, without loading anything: is there a GPU for the engine that is named?

    Raises:
        EngineError: there is none.
    """
    if name in GPU_ENGINES:
        try:
            find_gpu()
        except EngineError as error:
            raise EngineError(f"engine {name}: {error}") from error


def _named(name: EngineName, bundle: Bundle, options: EngineOptions, cpu: Engine) -> Engine:
    try:
        engine = GPU_ENGINES[name](bundle, options)
        _check(engine, cpu, bundle)
    except BundleError:
        raise
    except Exception as error:  # a GPU's libraries raise what they like
        reason = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
        raise EngineError(f"engine {name}: {' '.join(reason.split())}") from error
    return engine


def _check(engine: Engine, cpu: Engine, bundle: Bundle) -> None:
    """Let the engine and the CPU answer the same images."""
    spec = bundle.manifest.input
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (_PROBES, -(-spec.height // 4), -(-spec.width // 4), 3), dtype=np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, : spec.height, : spec.width]
    expected, found = cpu.run(images).logits, engine.run(images).logits
    difference = float(np.abs(found - expected).max() / max(float(np.ptp(expected)), 1e-6))
    if not difference <= _TOLERANCE:
        raise EngineError(f"its logits differ from the CPU's by {difference:.0%} of their range; it must not be used")


def _because(refused: dict[str, list[str]]) -> str:
    """Why no better engine was taken."""
    reasons = (f"{', '.join(names)}: {reason}" for reason, names in refused.items())
    return f", the best that works here ({'; '.join(reasons)})" if refused else ", the best that there is"
