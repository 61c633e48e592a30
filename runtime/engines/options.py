"""How a bundle's engine is chosen and made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

EngineName = Literal[
    "auto",
    "onnxruntime-cpu",
    "onnxruntime-cuda",
    "onnxruntime-tensorrt",
    "onnxruntime-rtx",
    "tensorrt",
    "tensorrt-rtx",
]


@dataclass(frozen=True)
class EngineOptions:
    """How a bundle's engine is chosen and made.

    Attributes:
        name: which engine; ``auto`` takes the best that works here.
        threads: of one inference on the CPU; 0 takes one for each physical core.
        cache: folder for what an engine builds at start-up, so that the next start finds it.
        contexts: batches that a native engine runs at the same time.
    """

    name: EngineName = "auto"
    threads: int = 0
    cache: Path = field(default_factory=lambda: Path.home() / ".cache" / "oodgate")
    contexts: int = 2
