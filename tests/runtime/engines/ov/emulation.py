"""bf16 on a machine without it: the trunk's weights rounded to bfloat16, which is part of what bf16 does."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtime.engines.ov import engine, parts


def rounded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The nearest bfloat16, to even, as float32; finite values."""
    bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


def split(model: Any) -> tuple[Any, Any]:
    """:func:`runtime.engines.ov.parts.split`, with a rounded trunk."""
    opset = importlib.import_module("openvino.opset13")
    trunk, head = parts.split(model)
    for node in trunk.get_ordered_ops():
        if node.get_type_name() == "Convolution":
            weights = node.input_value(1).get_node()
            node.input(1).replace_source_output(opset.constant(rounded(weights.get_data())).output(0))
    return trunk, head


def imported(core: Any, blob: bytes, _: engine.Hint, threads: int) -> Any:
    """:func:`runtime.engines.ov.engine._imported`, in fp32 whatever the hint."""
    return core.import_model(blob, "CPU", engine._config("f32", threads))


def emulate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which OpenVINO computes in bf16."""
    monkeypatch.setattr(engine, "no_bf16", lambda _: None)
    monkeypatch.setattr("export.images.inference.no_bf16", lambda _: None)
    monkeypatch.setattr(engine, "machine_flags", lambda: ("avx512f", "avx512_bf16"))
    monkeypatch.setattr(engine, "split", split)
    monkeypatch.setattr(engine, "_imported", imported)
