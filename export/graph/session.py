"""A graph in ONNX Runtime, at export: on the CPU, with its errors as lines of ours."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import onnx
import onnxruntime as ort

from export.exceptions import ExportError
from runtime.engines.ort.cpu import cpu_session

_FATAL = 4  # what is logged; errors are raised
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_OWN_SOURCE = re.compile(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[^\s\[])")
_FAILED_NODE = re.compile(r"while running (\w+) node\. Name:'([^']*)'(?: Status Message: )?(.*)")


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """A graph, sealed or not, that computes what it says.

    Raises:
        ExportError: ONNX Runtime does not take it.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    try:
        return cpu_session(model.SerializeToString(), options)
    except Exception as error:  # ONNX Runtime's errors share no public base
        raise ExportError(f"ONNX Runtime does not take the graph: {reason(error)}") from error


def run(session: ort.InferenceSession, names: Sequence[str], feeds: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
    """Tensors by name.

    Raises:
        ExportError: a node fails.
    """
    try:
        return list(session.run(list(names), feeds))
    except Exception as error:  # ONNX Runtime's errors share no public base
        raise ExportError(reason(error)) from error


def reason(error: Exception) -> str:
    """What ONNX Runtime says, without its own source files; the node first."""
    text = " ".join(str(error).split())
    if found := _FAILED_NODE.search(text):
        text = f"{found[1]} {found[2]!r} fails: {found[3].rpartition(') ')[2] or found[3]}"
    return textwrap.shorten(_OWN_SOURCE.sub("", _CODE.sub("", text)), 300)
