"""Small graphs as other people's exporters write them, with random weights; images of 16 x 16, three classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

K, D, SIDE = 3, 8, 16
NCHW, NHWC = (1, 3, SIDE, SIDE), (1, SIDE, SIDE, 3)


class Writer:
    """Nodes and weights, one after the other."""

    def __init__(self, seed: int = 0, dtype: Any = np.float32) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._rng, self.dtype = np.random.default_rng(seed), dtype

    def op(self, kind: str, inputs: str, output: str, **attributes: Any) -> str:
        """Append a node; inputs are separated by spaces."""
        domain = attributes.pop("domain", "")
        self.nodes.append(helper.make_node(kind, inputs.split(" "), output.split(" "), domain=domain, **attributes))
        return output.split(" ")[0]

    def weights(self, name: str, *shape: int, scale: float = 0.5) -> str:
        """Random weights."""
        return self.constant(name, (self._rng.normal(0, scale, shape)).astype(self.dtype))

    def constant(self, name: str, value: Any, dtype: Any = None) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def features(self, x: str, *, side: int = SIDE) -> str:
        """A convolution of three channels, a ReLU and an average: [N, D, 1, 1]."""
        del side
        self.weights("conv.w", D, 3, 3, 3)
        self.weights("conv.b", D)
        self.op("Conv", f"{x} conv.w conv.b", "conv", pads=[1, 1, 1, 1], strides=[2, 2])
        self.op("Relu", "conv", "relu")
        return self.op("GlobalAveragePool", "relu", "pool")

    def fc(self, x: str, output: str, classes: int = K) -> str:
        self.weights("fc.w", classes, D, scale=2)
        self.weights("fc.b", classes)
        return self.op("Gemm", f"{x} fc.w fc.b", output, transB=1)

    def model(
        self,
        inputs: dict[str, Sequence[int | str]],
        outputs: dict[str, Sequence[int | str] | None],
        *,
        opset: int = 13,
        ir: int = 8,
        dtype: int = TensorProto.FLOAT,
        output_dtype: int = TensorProto.FLOAT,
        listed: bool = False,
        metadata: dict[str, str] | None = None,
    ) -> onnx.ModelProto:
        """The model; `listed` puts the weights among the inputs, as before IR version 4."""
        infos = [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()]
        if listed:
            infos += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.constants]
        results = [helper.make_tensor_value_info(name, output_dtype, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, "graph", infos, results, self.constants)
        domains = sorted({node.domain for node in self.nodes} - {""})
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=ir, producer_name="test")
        if metadata:
            helper.set_model_props(model, metadata)
        return model


def torch_like(
    *, ending: str = "Softmax", opset: int = 13, batch: int | str = 1, classes: int = K, **options: Any
) -> onnx.ModelProto:
    """As torch.onnx.export wrote it for years: NCHW, Flatten, Gemm, and perhaps an activation."""
    w = Writer()
    w.op("Flatten", w.features("input"), "flat", axis=1)
    w.fc("flat", "logits" if not ending else "fc", classes)
    if ending:
        w.op(ending, "fc", "output", **({"axis": 1} if "oftmax" in ending else {}))
    return w.model(
        {"input": (batch, *NCHW[1:])}, {"output" if ending else "logits": (batch, classes)}, opset=opset, **options
    )


def scikit_like() -> onnx.ModelProto:
    """As skl2onnx writes StandardScaler and LogisticRegression of rows of pixels, 16 x 16 x 3, with dictionaries out."""
    rng, row = np.random.default_rng(0), SIDE * SIDE * 3
    w = Writer()
    ml = {"domain": "ai.onnx.ml"}
    offset, scale = rng.uniform(0.4, 0.6, row), rng.uniform(2, 4, row)
    w.op("Scaler", "X", "variable", offset=offset.tolist(), scale=scale.tolist(), **ml)
    w.op(
        *("LinearClassifier", "variable", "label probability_tensor"),
        classlabels_strings=["cat", "dog", "ship"],
        coefficients=rng.normal(0, 0.1, K * row).tolist(),
        intercepts=[0.5, 0.0, -0.5],
        multi_class=1,
        post_transform="SOFTMAX",
        **ml,
    )
    w.op("Normalizer", "probability_tensor", "probabilities", norm="L1", **ml)
    w.op("ZipMap", "probabilities", "output_probability", classlabels_strings=["cat", "dog", "ship"], **ml)
    model = w.model({"X": (None, row)}, {"label": (None,)}, output_dtype=TensorProto.STRING)
    output = model.graph.output.add(name="output_probability")
    output.type.sequence_type.elem_type.map_type.key_type = TensorProto.STRING
    output.type.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def tensorflow_like() -> onnx.ModelProto:
    """As tf2onnx writes a Keras model: NHWC, names with colons and slashes, MatMul and Add."""
    w = Writer()
    w.op("Transpose", "input_1:0", "model/conv2d/Conv2D__6:0", perm=[0, 3, 1, 2])
    w.op("Squeeze", w.features("model/conv2d/Conv2D__6:0") + " " + w.constant("axes", [2, 3], np.int64), "gap/Mean:0")
    w.weights("fc.w", K, D, scale=2)
    w.constant("model/dense/MatMul/ReadVariableOp:0", numpy_helper.to_array(w.constants[-1]).T.copy())
    w.weights("fc.b", K)
    w.op("MatMul", "gap/Mean:0 model/dense/MatMul/ReadVariableOp:0", "model/dense/MatMul:0")
    w.op("Add", "model/dense/MatMul:0 fc.b", "model/dense/BiasAdd:0")
    w.op("Softmax", "model/dense/BiasAdd:0", "dense")
    return w.model({"input_1:0": ("unk__1", *NHWC[1:])}, {"dense": ("unk__2", K)}, opset=15)
