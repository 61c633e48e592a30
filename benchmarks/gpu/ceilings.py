"""What no engine can go below: a network's operations at the rate of a large product, its bytes at that of a large copy."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import numpy_helper

from runtime.bundle import Bundle

_SIDE, _COPIED, _PINNED, _TIMES = 8192, 1 << 32, 1 << 28, 10
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


@dataclass(frozen=True)
class Ceilings:
    """Measured on this machine.

    Attributes:
        flops: operations a second of a matrix product, by precision; fp32 with TF32, as convolutions use it by default.
        bandwidth: bytes a second of a copy on the device, read and written.
        to_device: bytes a second from pinned memory.
    """

    flops: dict[str, float]
    bandwidth: float
    to_device: float


@dataclass(frozen=True)
class Work:
    """What a network has to do.

    Attributes:
        flops: operations of convolutions and matrix products, for one image.
        weights: their number.
        image, results: bytes of an image, and of its results.
    """

    flops: float
    weights: int
    image: int
    results: int


def ceilings() -> Ceilings:
    """Measure them, with random numbers."""
    torch.backends.cuda.matmul.allow_tf32 = True
    types = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    flops = {name: 2 * _SIDE**3 / _seconds(_product(dtype)) for name, dtype in types.items()}
    source = torch.randint(0, 255, (_COPIED,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    pinned = torch.empty(_PINNED, dtype=torch.uint8, pin_memory=True)
    bandwidth = 2 * _COPIED / _seconds(lambda: target.copy_(source))
    return Ceilings(flops, bandwidth, _PINNED / _seconds(lambda: target[:_PINNED].copy_(pinned, non_blocking=True)))


def floor(work: Work, batch: int, precision: str, known: Ceilings | None) -> float | None:
    """The seconds that a batch takes at least; None where a ceiling is not known.

    The larger of operations over their rate, and of bytes over bandwidth, each weight and image being read once and each
    result written once.
    """
    if known is None or precision not in known.flops:
        return None
    moved = work.weights * _BYTES[precision] + batch * (work.image + work.results)
    return max(batch * work.flops / known.flops[precision], moved / known.bandwidth)


def work(of: Bundle) -> Work:
    """What a bundle's graph does."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(of.model))
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
    shapes |= {constant.name: list(constant.dims) for constant in model.graph.initializer}
    spec, manifest = of.manifest.input, of.manifest
    return Work(
        flops=sum(_operations(node, shapes) for node in model.graph.node),
        weights=sum(numpy_helper.to_array(constant).size for constant in model.graph.initializer),
        image=spec.height * spec.width * 3,
        results=4 * (len(manifest.labels) + len(manifest.scores)),
    )


def _operations(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> float:
    """A multiplication and an addition for each weight at each place; the batch's size counts as one."""
    if node.op_type == "Conv":
        return 2.0 * math.prod(shapes[node.input[1]]) * math.prod(shapes[node.output[0]][2:])
    if node.op_type in ("Gemm", "MatMul"):
        return 2.0 * math.prod(shapes.get(node.input[1], [0]))
    return 0.0


def _product(dtype: torch.dtype) -> Callable[[], Any]:
    a, b = (torch.randn(_SIDE, _SIDE, device="cuda", dtype=dtype) for _ in range(2))
    return lambda: a @ b


def _seconds(work: Callable[[], Any]) -> float:
    """The median of some runs, after a few."""
    times = []
    for _ in range(3 + _TIMES):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])
