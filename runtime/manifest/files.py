"""The files of a bundle, engines among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtime.manifest.model import Precision

NativeRuntime = Literal["tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle as it was written."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class EngineSpec:
    """An engine that was built from the bundle's graph.

    Attributes:
        runtime: what runs it.
        release: of the runtime that built it.
        targets: the compute capabilities that it was built for, 89 for 8.9.
        version_compatible: whether later releases of the runtime run it too.
        hardware_compatible: whether it runs on any GPU of Ampere or later, and not on `targets` alone.
        precision: of the graph that it was built from.
        batches: the smallest batch that it takes, the one it was optimised for, and the largest.
        model: SHA-256 of the model.onnx that it was built from.
        kernels: number of its layers after fusion; each is a kernel or a library call.
        head_kernels: how many of them compute scores and the decision.
    """

    runtime: NativeRuntime
    release: str
    targets: tuple[int, ...]
    precision: Precision
    batches: tuple[int, int, int]
    model: str
    kernels: int
    head_kernels: int
    version_compatible: bool = False
    hardware_compatible: bool = False

    def __post_init__(self) -> None:
        if not self.targets or min(self.targets) < 1:
            raise ValueError(f"targets must be compute capabilities, found {list(self.targets)}")
        if not 1 <= self.batches[0] <= self.batches[1] <= self.batches[2]:
            raise ValueError(f"batches must ascend from at least 1, found {list(self.batches)}")
