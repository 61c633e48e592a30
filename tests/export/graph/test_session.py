"""ONNX Runtime's errors as lines of ours."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from export.exceptions import ExportError
from export.graph.session import session


def test_a_graph_that_it_does_not_take_is_said_without_its_sources() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, ir_version=99)
    with pytest.raises(ExportError, match=r"^ONNX Runtime does not take the graph: Unsupported model IR version: 99"):
        session(model)
