"""Running an engine over a whole set of images."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from export.exceptions import ExportError
from runtime.engines.interface import Engine, Outputs, joined
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.engines.ov.engine import OpenVino, load_core, no_bf16
from runtime.engines.processor import machine_flags
from runtime.exceptions import EngineError
from runtime.manifest import Numerics, Precision
from train.data import Images, batches

BATCH = 64


def make_engine(model: bytes, precision: Precision, threads: int) -> Engine:
    """The engine whose outputs a graph of this precision is calibrated and measured on: OpenVINO for bf16.

    Args:
        model: the bytes of an .onnx file.
        precision: the manifest's.
        threads: 0 takes one for each physical core.

    Raises:
        ExportError: bf16 on a machine that can't compute it.
        EngineError: the graph does not load.
    """
    check_precision(precision)
    return OpenVino(model, "bf16", threads=threads) if precision == "bf16" else OnnxRuntimeCpu(model, threads)


def check_precision(precision: Precision) -> None:
    """Make sure, before any work, that this machine can compute it.

    Raises:
        ExportError: it can't.
    """
    if precision != "bf16":
        return
    try:
        reason = no_bf16(load_core())
    except EngineError as error:
        reason = str(error)
    if reason:
        raise ExportError(f"a bf16 bundle is made and calibrated where OpenVINO computes in bf16: {reason}")


def numerics(precision: Precision) -> Numerics:
    """What :func:`make_engine`'s engine for this precision computes with, here."""
    return Numerics("openvino" if precision == "bf16" else "onnxruntime-cpu", precision, machine_flags())


def stream(
    engine: Engine, images: Images, *, penultimate: bool = False, title: str = ""
) -> Iterator[tuple[npt.NDArray[np.uint8], Outputs]]:
    """Each batch and its outputs, in order, with a progress bar on a terminal; no more than three batches are held.

    Args:
        engine: a loaded graph.
        images: N >= 1.
        penultimate: whether to fetch the activations too.
        title: of the progress bar.
    """
    count = math.ceil(len(images) / BATCH)
    for batch in tqdm(batches(images, BATCH), total=count, desc=title, unit="batch", disable=None, leave=False):
        yield batch, engine.run(batch, penultimate=penultimate)


def collect(engine: Engine, images: Images, *, penultimate: bool = False, title: str = "") -> Outputs:
    """Every image's outputs, in order; arguments as of :func:`stream`."""
    parts = [outputs for _, outputs in stream(engine, images, penultimate=penultimate, title=title)]
    return joined(parts)
