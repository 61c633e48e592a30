"""Appending to a graph: nodes that are the same are shared, constants keep their type."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.graph.building import Graph, prune, remove_node, set_metadata


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


def test_what_an_earlier_graph_appended_is_shared(model: ModelProto) -> None:
    first = Graph(model).op("Softmax", "x", axis=1)
    again = Graph(model)
    assert again.op("Softmax", "x", axis=1) == first
    assert again.op("Softmax", "x", axis=0) != first
    assert len(model.graph.node) == 2


def test_a_constant_that_has_a_name_is_not_shared(model: ModelProto) -> None:
    """Its value may be changed."""
    Graph(model).constant(np.float32(1), "threshold")
    assert Graph(model).constant(np.float32(1)) != "threshold"


def test_names_are_not_used_twice(model: ModelProto) -> None:
    for axis in (0, 1):
        Graph(model).op("Softmax", "x", axis=axis)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names) == 2


def test_the_first_output_of_several_is_returned(model: ModelProto) -> None:
    g = Graph(model)
    largest = g.op("TopK", "x", g.constant(np.array([2])), axis=1)
    g.declare_output(g.op("Identity", largest, output="values"), TensorProto.FLOAT, ("N", 2))
    g.declare_output(g.op("Identity", f"{largest}_1", output="places"), TensorProto.INT64, ("N", 2))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values, places = session.run(["values", "places"], {"x": np.array([[1, 3, 2]], np.float32)})
    assert (values.tolist(), places.tolist()) == ([[3, 2]], [[1, 2]])


def test_what_no_output_needs_is_pruned(model: ModelProto) -> None:
    g = Graph(model)
    g.op("Add", g.op("Mul", "x", 3.0), 4.0)
    g.declare_output(g.op("Add", "x", 5.0, output="y"), TensorProto.FLOAT, ("N", 3))
    prune(model)
    assert [node.output[0] for node in model.graph.node] == ["y"]
    assert [numpy_helper.to_array(tensor) for tensor in model.graph.initializer] == [5.0]


def test_a_removed_node_leaves_its_inputs(model: ModelProto) -> None:
    g = Graph(model)
    g.op("Add", g.op("Mul", "x", 3.0), 4.0, output="y")
    assert remove_node(model, "y").op_type == "Add"
    assert [node.op_type for node in model.graph.node] == ["Mul"]


def test_metadata_is_replaced_not_added(model: ModelProto) -> None:
    set_metadata(model, "{}")
    set_metadata(model, '{"a": 1}')
    assert [(item.key, item.value) for item in model.metadata_props] == [("oodgate", '{"a": 1}')]


def test_pruning_leaves_what_the_body_of_a_branch_reads(model: ModelProto) -> None:
    g = Graph(model)
    outer = g.op("Add", "x", 1.0)
    bodies = [
        helper.make_graph(
            [helper.make_node("Identity", [name], [f"{name}_out"])],
            "body",
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, ("N", 3))],
        )
        for name in (outer, "x")
    ]
    condition = g.constant(np.array(True))
    model.graph.node.append(helper.make_node("If", [condition], ["y"], then_branch=bodies[0], else_branch=bodies[1]))
    g.declare_output("y", TensorProto.FLOAT, ("N", 3))
    prune(model)
    assert [node.op_type for node in model.graph.node] == ["Add", "If"]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones((1, 3), np.float32)})[0].tolist() == [[2, 2, 2]]
