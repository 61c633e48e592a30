"""What a built engine is made of, read from the builder's own account of it.

An engine can be loaded, and asked through its inspector, only where there is a GPU. The builder prints the inspector's
text into its verbose log at the end of a build, wherever it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from export.graph.building import PREFIX
from runtime.bundle import Signature, Tensor

_LAYER = re.compile(r"^Name: (?P<name>.+?), LayerType: (?P<kind>\w+),.*Metadata: (?P<metadata>.*)$", re.MULTILINE)
_TENSOR = re.compile(
    r"^ *Name: (?P<name>\w+), IOMode: (?P<mode>\w+), DataType: (?P<dtype>\w+), Dimensions: \[(?P<shape>[-\d,]*)\]"
    r".*?ProfileInfo: \[(?P<profile>.*)\]$",
    re.MULTILINE,
)
_BOUNDS = re.compile(r"(?:Min|Opt|Max)Shape: \[(\d+)")
_SOURCE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_DTYPES = {"UInt8": "uint8", "Float": "float32", "Bool": "bool", "Half": "float16"}
_NO_KERNELS = {"shape_call", "signal", "wait"}  # shapes are computed on the CPU; streams wait for each other


@dataclass(frozen=True)
class Layer:
    """A layer after fusion: one kernel, or one call of a library.

    Attributes:
        name, kind: the builder's.
        sources: the nodes of the ONNX graph that it computes.
    """

    name: str
    kind: str
    sources: tuple[str, ...]

    @property
    def is_head(self) -> bool:
        """Whether it computes scores or the decision."""
        return any(source.startswith(PREFIX) or source in ("scores", "accept") for source in self.sources)


@dataclass(frozen=True)
class Report:
    """An engine as the builder describes it.

    Attributes:
        signature: its inputs and outputs.
        batches: the bounds of its profile; empty where it has none.
        layers: those that run on the GPU.
    """

    signature: Signature
    batches: tuple[int, ...]
    layers: tuple[Layer, ...]

    @property
    def head(self) -> tuple[Layer, ...]:
        """The layers that compute scores or the decision."""
        return tuple(layer for layer in self.layers if layer.is_head)


def read_report(log: Iterable[str]) -> Report | None:
    """The last account of an engine in a verbose log; None where there is none."""
    accounts = [text for text in log if text.startswith("Layers:") and "I/O Tensors:" in text]
    if not accounts:
        return None
    layers, _, tensors = accounts[-1].partition("I/O Tensors:")
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    batches: tuple[int, ...] = ()
    for match in _TENSOR.finditer(tensors):
        sizes = [int(size) for size in match["shape"].split(",") if size]
        tensor = Tensor(_DTYPES.get(match["dtype"], match["dtype"]), tuple(None if s < 0 else s for s in sizes))
        (inputs if match["mode"] == "Input" else outputs)[match["name"]] = tensor
        batches = batches or tuple(int(size) for size in _BOUNDS.findall(match["profile"]))
    found = (Layer(m["name"], m["kind"], tuple(_SOURCE.findall(m["metadata"]))) for m in _LAYER.finditer(layers))
    on_gpu = tuple(layer for layer in found if layer.kind not in _NO_KERNELS)
    return Report(Signature(inputs, outputs, None, built=True), batches, on_gpu)
