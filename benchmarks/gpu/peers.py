"""Torch beside the engines: eager, compiled, and each of them captured as a CUDA graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.calls import Floats, Run
from benchmarks.gpu.graphs import Images
from export.from_torch.network.backbone import Backbone

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_WARM = 3

Forward = Callable[[torch.Tensor], torch.Tensor]


class InPrecision(torch.nn.Module):
    """A backbone whose weights and activations are of one type; pixels are normalised in float32.

    Args:
        backbone: uint8 [N, H, W, 3] -> logits, penultimate.
        dtype: of weights and activations.
    """

    def __init__(self, backbone: Backbone, dtype: torch.dtype) -> None:
        super().__init__()
        self.face = copy.deepcopy(backbone.face)
        self.classifier: Any = copy.deepcopy(backbone.classifier).to(dtype=dtype, memory_format=torch.channels_last)
        self._dtype = dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, float32 [N, K]."""
        pixels = self.face(images).to(dtype=self._dtype, memory_format=torch.channels_last)
        logits: torch.Tensor = self.classifier(pixels)[0]
        return logits.float()


def torch_run(forward: Forward, device: str, images: Images, *, graph: bool = False, pinned: bool = False) -> Run:
    """Torch's call for batches of the size of `images`, by way of pinned memory.

    Args:
        forward: uint8 [N, H, W, 3] -> logits, on the device.
        device: ``cuda`` or ``cpu``.
        images: an example.
        graph: whether `forward` is captured as a CUDA graph.
        pinned: whether every batch is the example, which lies in pinned memory already.
    """
    host = torch.empty(images.shape, dtype=torch.uint8, pin_memory=device == "cuda").copy_(torch.from_numpy(images))
    there = torch.empty(images.shape, dtype=torch.uint8, device=device)
    launch = captured(forward, there, host) if graph else lambda: forward(there)

    def call(batch: Images) -> tuple[Floats, None]:
        with torch.inference_mode():
            if not pinned:
                host.copy_(torch.from_numpy(batch))
            there.copy_(host, non_blocking=True)
            return np.asarray(launch().cpu().numpy()), None  # the copy waits for the device

    return call


def captured(forward: Forward, there: torch.Tensor, example: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A CUDA graph of `forward` on the tensor `there`; call it for the results, which the next call overwrites."""
    with torch.inference_mode():
        there.copy_(example)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM):
                forward(there)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = forward(there)

    def launch() -> torch.Tensor:
        graph.replay()
        return out

    return launch


def compiled(forward: torch.nn.Module) -> Forward:
    """The same compiled, for one batch size: torch goes back to eager, unsaid, after a few recompilations."""
    torch.compiler.reset()
    return torch.compile(forward, dynamic=False)  # type: ignore[return-value]
