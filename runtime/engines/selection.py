"""Which engine runs a bundle: the one that is named, or the best that works here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import get_args

import numpy as np
import numpy.typing as npt

from runtime.bundle import MODEL, Bundle
from runtime.engines.gpu import find_gpu
from runtime.engines.interface import Engine, EngineName, EngineOptions, Outputs
from runtime.engines.ort import cuda, providers
from runtime.engines.ort import rtx as ort_rtx
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.engines.ov import engine as ov
from runtime.engines.tolerance import Tolerance, difference, extent, tolerance
from runtime.engines.trt import engine as trt
from runtime.engines.trt import rtx as trt_rtx
from runtime.exceptions import BundleError, EngineError, GraphMismatch
from runtime.manifest import Manifest, Precision
from runtime.scores import largest_error

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
CPU_ENGINES: dict[EngineName, Callable[[Bundle, EngineOptions], Engine]] = {ov.NAME: ov.load}
ON_CPU = frozenset({CPU, *CPU_ENGINES})
AUTO = (*GPU_ENGINES, *CPU_ENGINES)
"""What ``auto`` tries before ONNX Runtime on the CPU."""

_PROBES = 8  # images that an engine must answer as the CPU does
_HEAD = 1e-5  # largest error of a score that follows from the engine's own logits, relative beyond 1


def load(bundle: Bundle, options: EngineOptions) -> Engine:
    """The engine for a bundle, checked against ONNX Runtime on the CPU.

    Raises:
        GraphMismatch: model.onnx does not load, or is not what the manifest describes.
        EngineError: the engine that is named is unknown, can't run here, or answers otherwise than the CPU.
    """
    if options.name not in get_args(EngineName):
        raise EngineError(f"unknown engine {options.name!r}; there are {', '.join(get_args(EngineName))}")
    try:
        cpu = OnnxRuntimeCpu(bundle.model, options.threads)
    except EngineError as error:
        raise GraphMismatch(bundle.path / MODEL, str(error)) from error
    bundle.check_graph(cpu.signature)
    engine = _best(bundle, options, cpu) if options.name == "auto" else _named(options.name, bundle, options, cpu)
    if remark := _remark(bundle.manifest, engine):
        logger.warning("%s: %s", bundle.path, remark)
    return engine


def _best(bundle: Bundle, options: EngineOptions, cpu: Engine) -> Engine:
    """The first engine that works here, said with the reasons why none before it does."""
    refused: dict[str, list[str]] = {}
    for name in AUTO:
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
    if name == CPU:
        return cpu
    try:
        engine = (GPU_ENGINES | CPU_ENGINES)[name](bundle, options)
        _check(engine, cpu, bundle)
    except BundleError:
        raise
    except Exception as error:  # an engine's libraries raise what they like
        reason = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
        raise EngineError(f"engine {name}: {' '.join(reason.split())}") from error
    return engine


def _check(engine: Engine, cpu: Engine, bundle: Bundle) -> None:
    """Let the engine and the CPU answer the same images.

    Raises:
        EngineError: their logits, or the activations of a graph without, differ too much, or too little for the precision
            that the engine is to compute in; or scores are not what follows from the engine's own logits and activations.
    """
    spec = bundle.manifest.input
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (_PROBES, -(-spec.height // 4), -(-spec.width // 4), 3), dtype=np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, : spec.height, : spec.width]
    what = "logits" if bundle.manifest.labels else "activations"
    found = engine.run(images, penultimate=True)
    expected = _answers(cpu.run(images, penultimate=True))
    off = difference(_answers(found), expected, extent(expected))
    precision = computed_precision(bundle.manifest, engine)
    if not off <= allowed(bundle.manifest, engine).logits:
        raise EngineError(f"its {what} differ from the CPU's by {off:.2%} of their range; it must not be used")
    if precision == "bf16" and isinstance(engine, ov.OpenVino) and off < tolerance("fp32", gpu=False).logits:
        raise EngineError(f"its {what} are those of fp32, and not of {precision} as it says; it must not be used")
    if isinstance(engine, ov.OpenVino):
        error = largest_error(bundle.manifest, found.logits, np.asarray(found.penultimate), found.scores)
        if not error <= _HEAD:
            raise EngineError(f"its scores are {error:.1g} from those of its own {what}; they must be computed in fp32")


def _answers(outputs: Outputs) -> npt.NDArray[np.float32]:
    """The logits, or of a graph without any the penultimate activations."""
    return outputs.logits if outputs.logits.shape[1] else np.asarray(outputs.penultimate)


def computed_precision(manifest: Manifest, engine: Engine) -> Precision:
    """What an engine computes the layers before the penultimate activations in: bf16 is nothing that a graph says."""
    if manifest.model.precision != "bf16":
        return manifest.model.precision
    return "bf16" if isinstance(engine, ov.OpenVino) and engine.hint == "bf16" else "fp32"


def allowed(manifest: Manifest, engine: Engine) -> Tolerance:
    """How far an engine's outputs may be from those that a bundle was calibrated on."""
    return tolerance(computed_precision(manifest, engine), gpu=engine.name in GPU_ENGINES)


def _remark(manifest: Manifest, engine: Engine) -> str | None:
    """That an engine computes otherwise than the gate was calibrated on, and what that changes."""
    if (wanted := manifest.model.precision) == (found := computed_precision(manifest, engine)):
        return None
    why = ov.no_bf16(ov.load_core()) if engine.name == ov.NAME else f"only {ov.NAME} computes in {wanted}"
    text = f"{engine.name} computes the {wanted} bundle in {found}, for {why}"
    if manifest.parity is None or manifest.parity.flips_with_own_threshold is None:
        return text
    flips = f"{manifest.parity.flips_with_own_threshold} of {manifest.parity.images} images of {manifest.parity.source}"
    return f"{text}; {flips} are decided otherwise than in {wanted}"


def _because(refused: dict[str, list[str]]) -> str:
    """Why no better engine was taken."""
    reasons = (f"{', '.join(names)}: {reason}" for reason, names in refused.items())
    return f", the best that works here ({'; '.join(reasons)})" if refused else ", the best that there is"
