"""Appending to a graph: nodes that are the same are shared, constants keep their type."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.graph import Graph, set_initializer, set_metadata


@pytest.fixture
def model() -> ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 3))]
    graph = helper.make_graph([], "graph", inputs, [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_the_same_operation_is_added_once(model: ModelProto) -> None:
    g = Graph(model)
    assert g.op("Add", "x", 1.0) == g.op("Add", "x", 1.0)
    assert len(model.graph.node) == len(model.graph.initializer) == 1


def test_operations_that_differ_in_input_or_attribute_are_not_shared(model: ModelProto) -> None:
    g = Graph(model)
    names = {g.op("Add", "x", 1.0), g.op("Add", "x", 2.0), g.op("Softmax", "x", axis=0), g.op("Softmax", "x", axis=1)}
    assert len(names) == len(model.graph.node) == 4


@pytest.mark.parametrize("value", [np.float32(1), np.int64(1), np.array([1]), np.array(True)])
def test_constants_of_equal_value_and_other_type_are_not_shared(model: ModelProto, value: np.generic) -> None:
    g = Graph(model)
    g.constant(np.float64(1))
    g.constant(value)
    stored = numpy_helper.to_array(model.graph.initializer[1])
    assert (stored.dtype, stored.shape) == (np.asarray(value).dtype, np.asarray(value).shape)


@pytest.mark.parametrize(("keepdims", "shape"), [(True, (2, 1)), (False, (2,))])
def test_reduces_over_axis_1(model: ModelProto, keepdims: bool, shape: tuple[int, ...]) -> None:
    g = Graph(model)
    total = g.reduce("ReduceSum", "x", keepdims=keepdims)
    g.declare_output(g.op("Identity", total, output="y"), TensorProto.FLOAT, ("N", 1) if keepdims else ("N",))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.array([[1, 2, 3], [4, 5, 6]], np.float32)})
    assert found.shape == shape
    assert found.ravel().tolist() == [6, 15]


def test_an_initializer_is_replaced_not_added(model: ModelProto) -> None:
    Graph(model).constant(np.float32(1), "threshold")
    set_initializer(model, "threshold", np.array(2.5, np.float32))
    (tensor,) = model.graph.initializer
    assert (tensor.name, numpy_helper.to_array(tensor)) == ("threshold", 2.5)


def test_metadata_is_replaced_not_added(model: ModelProto) -> None:
    set_metadata(model, "{}")
    set_metadata(model, '{"a": 1}')
    assert [(item.key, item.value) for item in model.metadata_props] == [("oodgate", '{"a": 1}')]
