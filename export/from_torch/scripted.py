"""TorchScript and torch.export files: programs without their Python code, taken apart and traced again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.exceptions import ExportError
from export.from_torch.network import failures
from export.from_torch.network.backbone import quiet


class Scripted(nn.Module):
    """A TorchScript module as the operations that it consists of.

    torch.export takes Python alone; torch's own converter makes a graph of a TorchScript module and an example.
    """

    def __init__(self, script: Any) -> None:
        super().__init__()
        self.script = [script]  # no submodule: torch.export would look into it
        self.operations: nn.Module | None = None
        self.size: tuple[int, ...] = ()

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return iter(self.script[0].parameters(recurse))

    def forward(self, x: Tensor) -> Any:
        if torch.compiler.is_exporting():
            if self.operations is None:
                raise ExportError("a TorchScript module has to be run once before it is exported")
            return self.operations(x)
        if self.operations is None or tuple(x.shape[1:]) != self.size:
            outputs = self.script[0](x)
            self.operations, self.size = _operations(self.script[0], x), tuple(x.shape[1:])
            return outputs
        return self.script[0](x)


def from_script(path: Path) -> nn.Module:
    """Load a TorchScript file.

    Raises:
        ExportError: damaged, or of a release that this torch does not read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
            script = loaded.float().eval()
    except Exception as error:
        raise ExportError(f"{path}: torch can't load this TorchScript file: {failures.reason(error)}") from error
    return Scripted(script)


def from_program(path: Path) -> tuple[nn.Module, tuple[int, int] | None]:
    """Load a .pt2 file of torch.export, and the height and width that it was exported for.

    Raises:
        ExportError: damaged, of a release that this torch does not read, or for batches of one size.
    """
    try:
        with quiet():
            program = torch.export.load(str(path))
            module = Program(program.module(check_guards=False))
    except Exception as error:
        raise ExportError(
            f"{path}: torch {torch.__version__} can't load this file of torch.export: {failures.reason(error)}; export it "
            "again with this release, or to ONNX"
        ) from error
    shape = _shape(program)
    if len(shape) != 4 or isinstance(shape[0], int):
        raise ExportError(
            f"{path}: exported for an input of {list(map(str, shape))}; expected any number of images: export it again with "
            "dynamic_shapes=({0: torch.export.Dim('N')},)"
        )
    height, width = shape[1:3] if shape[3] in (1, 3, 4) else shape[2:4]
    return module, (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _shape(program: torch.export.ExportedProgram) -> tuple[Any, ...]:
    """Of the last input, which is the only one of a classifier; numbers that vary are symbols."""
    last = [node for node in program.graph.nodes if node.op == "placeholder"][-1]
    value = last.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


class Program(nn.Module):
    """An exported program, which is in evaluation mode or not for good."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> Program:
        if mode:
            raise ExportError("an exported program can't be trained")
        self.training = False
        return self

    def forward(self, x: Tensor) -> Any:
        return self.program(x)


def _operations(script: Any, example: Tensor) -> nn.Module:
    try:
        from torch._export.converter import TS2EPConverter  # torch has no public one

        with quiet():
            converter: Any = TS2EPConverter(script, (example,))
            module = Program(converter.convert().module(check_guards=False))
    except Exception as error:
        raise ExportError(
            f"torch can't take this TorchScript module apart: {failures.reason(error)}; export the network that it was "
            "made of with --model, or to ONNX"
        ) from error
    return module
