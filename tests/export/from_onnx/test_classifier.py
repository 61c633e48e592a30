"""Other people's ONNX classifiers: their logits and penultimate activations, against a computation by hand and the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper

from export.checks.examination import examine
from export.exceptions import ExportError
from export.from_onnx.classifier import OnnxClassifier, from_onnx, open_file
from export.graph.last_layers import LastLayers
from runtime.manifest import InputSpec, Task
from tests.export.from_onnx.graphs import NCHW, NHWC, SIDE, D, K, Writer, tensorflow_like, torch_like

LABELS = ("cat", "dog", "ship")
SPEC = InputSpec(SIDE, SIDE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
Array = npt.NDArray[Any]


def images(count: int = 5) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def normalised(x: npt.NDArray[np.uint8]) -> Array:
    """NCHW, as SPEC says."""
    return ((x / 255 - np.array(SPEC.mean)) / np.array(SPEC.std)).transpose(0, 3, 1, 2).astype(np.float32)


def read(model: onnx.ModelProto, path: Path, labels: tuple[str, ...] = LABELS, **options: Any) -> OnnxClassifier:
    file = path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    spec = dataclasses.replace(options.pop("spec", SPEC), channels=options.pop("channels", "rgb"))
    return from_onnx(
        open_file(file, options.pop("layout", None)), labels, spec, options.pop("task", "multiclass"), **options
    )


def outputs(classifier: OnnxClassifier, x: npt.NDArray[np.uint8]) -> list[Array]:
    """Of the exported graph in ONNX Runtime."""
    session = ort.InferenceSession(classifier.graph().SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(["logits", "penultimate"], {"images": x}))


def constants(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def by_hand(model: onnx.ModelProto, x: Array) -> tuple[Array, Array]:
    """Logits and penultimate activations of `Writer.features` and `Writer.fc`, in numpy alone; x NCHW."""
    weights = {name: value.astype(np.float64) for name, value in constants(model).items()}
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    conv = np.einsum("nchwij,dcij->ndhw", windows, weights["conv.w"]) + weights["conv.b"][:, None, None]
    penultimate = np.maximum(conv, 0).mean(axis=(2, 3))
    return penultimate @ weights["fc.w"].T + weights["fc.b"], penultimate


def check(model: onnx.ModelProto, classifier: OnnxClassifier, x: Callable[[Array], Array] = normalised) -> None:
    """The exported graph, and the file itself, say what is computed by hand; so do batches of one, two and three."""
    expected = by_hand(model, x(images()))
    for found in (outputs(classifier, images()), classifier.run(images())):
        for value, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-4)
    for count in (1, 2, 3):
        np.testing.assert_allclose(outputs(classifier, images()[:count])[0], expected[0][:count], rtol=1e-4, atol=1e-4)


# --- what stands behind the logits


@pytest.mark.parametrize("ending", ["", "Softmax", "LogSoftmax", "Sigmoid"])
def test_an_activation_is_left_out(ending: str, tmp_path: Path) -> None:
    model = torch_like(ending=ending)
    classifier = read(model, tmp_path)
    check(model, classifier)
    said = [line for line in classifier.remarks if line.startswith("it ends with")]
    words = {"Softmax": "softmax", "LogSoftmax": "log-softmax", "Sigmoid": "sigmoid"}
    assert said == ([f"it ends with {words[ending]}; the logits are taken in front, from fc"] if ending else [])
    assert LastLayers(classifier.graph()).is_linear


def headed(
    *nodes: tuple[str, str, str, dict[str, Any]], output: tuple[Any, ...] = (1, K), **options: Any
) -> onnx.ModelProto:
    """A torch-like graph whose tensor ``fc`` goes through further nodes; the last makes ``output``."""
    w = Writer()
    w.op("Flatten", w.features("input"), "flat", axis=1)
    w.fc("flat", "fc")
    for name, value in options.pop("constants", {}).items():
        w.constant(name, value)
    for kind, inputs, made, attributes in nodes:
        w.op(kind, inputs, made, **attributes)
    return w.model({"input": NCHW}, {"output": output}, **options)


@pytest.mark.parametrize(
    "model",
    [
        headed(("Softmax", "fc", "p", {"axis": 1}), ("Softmax", "p", "output", {"axis": 1})),
        headed(("Softmax", "fc", "p", {"axis": 1}), ("Log", "p", "output", {})),
        headed(("Softmax", "fc", "p", {"axis": 1}), ("Identity", "p", "output", {})),
        headed(("Softmax", "fc", "p", {"axis": 1}), ("Clip", "p", "output", {})),
        headed(
            ("Softmax", "fc", "p", {"axis": 1}),
            ("Squeeze", "p zero", "output", {}),
            output=(K,),
            constants={"zero": np.array([0])},
        ),
        headed(("ArgMax", "fc", "output", {"axis": 1, "keepdims": 0}), output=(1,), output_dtype=TensorProto.INT64),
        headed(
            ("Softmax", "fc", "p", {"axis": 1}),
            ("TopK", "p k", "output index", {"axis": 1}),
            output=(1, 2),
            constants={"k": np.array([2])},
        ),
        headed(
            ("ReduceMax", "fc", "max", {"axes": [1]}),
            ("Sub", "fc max", "s", {}),
            ("Exp", "s", "e", {}),
            ("ReduceSum", "e one", "sum", {}),
            ("Div", "e sum", "output", {}),
            constants={"one": np.array([1])},
        ),
    ],
    ids=["softmax twice", "log of softmax", "identity", "clip", "squeezed", "argmax", "top k", "softmax in parts"],
)
def test_every_form_of_an_ending(model: onnx.ModelProto, tmp_path: Path) -> None:
    check(model, read(model, tmp_path))


def test_a_temperature_is_part_of_the_logits(tmp_path: Path) -> None:
    model = headed(("Div", "fc t", "d", {}), ("Softmax", "d", "output", {"axis": 1}), constants={"t": np.float32(1.7)})
    classifier = read(model, tmp_path)
    logits, penultimate = by_hand(model, normalised(images()))
    np.testing.assert_allclose(outputs(classifier, images())[0], logits / 1.7, rtol=1e-4, atol=1e-4)
    weights, bias = LastLayers(classifier.graph()).linear()
    np.testing.assert_allclose(penultimate @ weights.T + bias, logits / 1.7, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ending", ["", "Sigmoid"])
def test_one_value_for_two_classes(ending: str, tmp_path: Path) -> None:
    model = torch_like(ending=ending, classes=1)
    classifier = read(model, tmp_path, ("cat", "dog"))
    check(model, classifier)
    assert not any("--task multilabel" in line for line in classifier.remarks)
    z, _ = by_hand(model, normalised(images()))
    examined = examine(classifier, images())
    assert examined.steps == ("one of two",)
    np.testing.assert_allclose(examined.run(images())[0], np.hstack([-z, z]) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("exact", [True, False], ids=["written anew", "as it is"])
def test_a_sigmoid_of_a_logit_and_its_negative_is_that_of_one_logit(exact: bool, tmp_path: Path) -> None:
    """As skl2onnx writes a logistic regression: the probabilities 1 - p and p, p the sigmoid of one logit."""
    w = Writer()
    w.op("Flatten", w.features("input"), "flat", axis=1)
    weights = np.random.default_rng(1).normal(0, 2, D).astype(np.float16 if not exact else np.float32)
    w.constant("fc.w", np.stack([-weights, weights]))
    if not exact:
        w.op("Cast", "fc.w", "wide", to=TensorProto.FLOAT)
    w.op("Gemm", f"flat {'fc.w' if exact else 'wide'}", "fc", transB=1)
    w.op("Sigmoid", "fc", "output")
    classifier = read(w.model({"input": (1, *NCHW[1:])}, {"output": (1, 2)}), tmp_path, ("cat", "dog"))
    z = outputs(classifier, images())[1] @ weights[:, None].astype(np.float64)
    np.testing.assert_allclose(outputs(classifier, images())[0], z, rtol=1e-4, atol=1e-4)
    found, _ = examine(classifier, images()).run(images())
    np.testing.assert_allclose(found, np.hstack([-z, z]) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("by_parts", [True, False])
def test_one_probability_for_two_classes(by_parts: bool, tmp_path: Path) -> None:
    w = Writer()
    w.op("Flatten", w.features("input"), "flat", axis=1)
    w.fc("flat", "fc", 1)
    if by_parts:
        w.op("Reciprocal", w.op("Add", w.op("Exp", w.op("Neg", "fc", "n"), "e") + " one", "d"), "output")
        w.constant("one", np.float32(1))
    else:
        w.op("HardSigmoid", "fc", "output")
    model = w.model({"input": NCHW}, {"output": (1, 1)})
    classifier = read(model, tmp_path, ("cat", "dog"))
    if by_parts:
        z, _ = by_hand(model, normalised(images(16)))
        examined = examine(classifier, images(16))
        assert examined.steps == ("sigmoid", "one of two")
        np.testing.assert_allclose(examined.run(images(16))[0], np.hstack([-z, z]) / 2, rtol=1e-3, atol=1e-3)
    else:
        with pytest.raises(ExportError, match="--output names such a tensor"):
            examine(classifier, images(16))
        check(model, read(model, tmp_path, ("cat", "dog"), output="fc"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (headed(("Softmax", "fc", "output", {"axis": 0})), "output is not softmax of fc over the classes"),
        (
            headed(
                ("Softplus", "fc", "e", {}),
                ("ReduceSum", "e one", "sum", {}),
                ("Div", "e sum", "output", {}),
                constants={"one": np.array([1])},
            ),
            "output has probabilities",
        ),
        (headed(("Log", "fc", "output", {})), "not finite"),
    ],
    ids=["over the batch", "normalised softplus", "not a number"],
)
def test_what_can_not_be_undone(model: onnx.ModelProto, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        read(model, tmp_path)


def test_logits_by_name(tmp_path: Path) -> None:
    model = headed(
        ("Softplus", "fc", "e", {}),
        ("ReduceSum", "e one", "sum", {}),
        ("Div", "e sum", "output", {}),
        constants={"one": np.array([1])},
    )
    check(model, read(model, tmp_path, output="fc"))


def test_weights_times_activations(tmp_path: Path) -> None:
    w = Writer()
    w.op("Transpose", w.op("Flatten", w.features("input"), "flat", axis=1), "turned", perm=[1, 0])
    w.weights("fc.w", K, D, scale=2)
    w.weights("fc.b", K)
    w.constant("fc.column", numpy_helper.to_array(w.constants[-1])[:, None])
    w.op("Add", w.op("MatMul", "fc.w turned", "product") + " fc.column", "columns")
    w.op("Transpose", "columns", "output", perm=[1, 0])
    model = w.model({"input": NCHW}, {"output": (1, K)})
    classifier = read(model, tmp_path)
    check(model, classifier)
    assert LastLayers(classifier.graph()).is_linear


# --- what exporters write


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 13, 17, 18, 21, 22])
def test_every_version_of_the_operators(opset: int, tmp_path: Path) -> None:
    model = torch_like(opset=opset, ir=3 if opset < 9 else 8, listed=opset < 9)
    classifier = read(model, tmp_path)
    check(model, classifier)
    (version,) = (item.version for item in classifier.graph().opset_import)
    assert version == max(opset, 18)


@pytest.mark.parametrize("opset", [17, 18])
def test_nodes_in_another_order_than_they_run_in(opset: int, tmp_path: Path) -> None:
    """As ONNX Runtime's own converter to float16 leaves them, whose casts stand at the end."""
    model = torch_like(opset=opset)
    nodes = [*model.graph.node][::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    check(model, read(model, tmp_path))


def cntk_like() -> onnx.ModelProto:
    """As CNTK and many a fixed batch: a Reshape to [1, D], weights listed as inputs."""
    w = Writer()
    w.op("Reshape", w.features("Input3") + " " + w.constant("shape", [1, D], np.int64), "flat")
    w.fc("flat", "Plus214_Output_0")
    return w.model({"Input3": NCHW}, {"Plus214_Output_0": (1, K)}, opset=8, ir=3, listed=True)


def convolutional(pool: str, *behind: tuple[str, str, str, dict[str, Any]]) -> onnx.ModelProto:
    """A head that is a 1x1 convolution, before or behind the average."""
    w = Writer()
    w.features("data")
    fc = Writer(5)
    w.constant("fc.w", numpy_helper.to_array(fc.constants[-1]) if fc.weights("fc.w", K, D, scale=2) else None)
    w.weights("fc.b", K)
    w.constant("head.w", numpy_helper.to_array(fc.constants[-1])[:, :, None, None].copy())
    w.constant("spatial", [2, 3], np.int64)
    w.constant("rows", [0, -1], np.int64)
    w.op("Conv", f"{pool} head.w fc.b", "head")
    for kind, inputs, made, attributes in behind:
        w.op(kind, inputs, made, **attributes)
    return w.model({"data": NCHW}, {"output": (1, K)})


EXPORTERS = {
    "tensorflow": tensorflow_like(),
    "fixed reshape": cntk_like(),
    "any batch": torch_like(batch="batch"),
    "paddle": torch_like(batch=-1),
    "batch of four": torch_like(batch=4),
    "mxnet, 1x1 convolution": convolutional("pool", ("Reshape", "head rows", "output", {})),
    "tensorflow, 1x1 convolution": convolutional(
        "pool", ("Transpose", "head", "t", {"perm": [0, 2, 3, 1]}), ("Flatten", "t", "output", {})
    ),
    "1x1 convolution, then average": convolutional(
        "relu", ("GlobalAveragePool", "head", "h", {}), ("Flatten", "h", "output", {})
    ),
    "1x1 convolution, then mean": convolutional(
        "relu", ("ReduceMean", "head", "output", {"axes": [2, 3], "keepdims": 0})
    ),
}


def shuffled() -> onnx.ModelProto:
    """Channels in halves, whose sizes the graph asks for, shuffled by two reshapes with a batch of 1 in them."""
    w = Writer()
    w.features("x")
    w.op("Shape", "relu", "sizes")
    w.op("Gather", "sizes " + w.constant("1", [1], np.int64), "channels", axis=0)
    w.op("Div", "channels " + w.constant("2", [2], np.int64), "half")
    w.constant("0", [0], np.int64)
    w.op("Slice", "relu 0 half 1", "one")
    w.op("Slice", "relu half channels 1", "two")
    w.op("Concat", "two one", "halves", axis=1)
    w.op("Reshape", "halves " + w.constant("s1", [1, 2, D // 2, 8, 8], np.int64), "parts")
    w.op("Transpose", "parts", "turned", perm=[0, 2, 1, 3, 4])
    w.op("Reshape", "turned " + w.constant("s2", [1, D, 8, 8], np.int64), "back")
    w.op("Flatten", w.op("GlobalAveragePool", "back", "mean"), "flat")
    w.fc("flat", "output")
    return w.model({"x": NCHW}, {"output": (1, K)})


def test_channels_that_are_shuffled(tmp_path: Path) -> None:
    model = shuffled()
    _, features = by_hand(model, normalised(images()))
    order = np.r_[4:8, 0:4].reshape(2, 4).T.ravel()
    expected = features[:, order]
    logits = expected @ constants(model)["fc.w"].T + constants(model)["fc.b"]
    found = outputs(read(model, tmp_path), images())
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[0], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", EXPORTERS)
def test_what_exporters_write(name: str, tmp_path: Path) -> None:
    model = EXPORTERS[name]
    classifier = read(model, tmp_path)
    check(model, classifier)
    weights, bias = LastLayers(classifier.graph()).linear()
    np.testing.assert_allclose(weights, constants(model)["fc.w"], rtol=1e-6)
    np.testing.assert_allclose(bias, constants(model)["fc.b"], rtol=1e-6)


def squeezenet_like() -> onnx.ModelProto:
    """A ReLU between the 1x1 convolution and the average: the logits are no affine function of pooled activations."""
    w = Writer()
    w.features("data_0")
    w.op("Dropout", "relu", "drop mask", ratio=0.5)
    w.weights("head.w", K, D, 1, 1)
    w.weights("head.b", K)
    w.op("Conv", "drop head.w head.b", "conv10")
    w.op("Relu", "conv10", "relu10")
    w.op("GlobalAveragePool", "relu10", "pool10")
    w.op("Softmax", "pool10", "softmaxout_1")
    return w.model({"data_0": NCHW}, {"softmaxout_1": (1, K, 1, 1)}, opset=9)


def test_a_head_that_is_not_linear(tmp_path: Path) -> None:
    classifier = read(squeezenet_like(), tmp_path)
    logits, penultimate = outputs(classifier, images())
    own = classifier.run(images())
    np.testing.assert_allclose(logits, own[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(penultimate, own[1], rtol=1e-4, atol=1e-5)
    assert penultimate.shape == (5, D)
    (said,) = examine(classifier, images()).warnings
    assert "detectors that need the last layers can't be fitted" in said
    assert not [node for node in classifier.graph().graph.node if node.op_type == "Dropout"]


def test_two_heads_that_are_averaged(tmp_path: Path) -> None:
    w = Writer()
    w.op("Flatten", w.features("x"), "flat")
    w.op("Tanh", "flat", "flat2")
    w.fc("flat", "one")
    w.weights("two.w", D, K)
    w.op("MatMul", "flat2 two.w", "two")
    w.op("Add", "one two", "sum")
    w.op("Div", "sum " + w.constant("2", np.float32(2)), "output")
    model = w.model({"x": NCHW}, {"output": (1, K)})
    classifier = read(model, tmp_path)
    one, a = by_hand(model, normalised(images()))
    two = np.tanh(a) @ constants(model)["two.w"]
    found = outputs(classifier, images())
    np.testing.assert_allclose(found[0], (one + two) / 2, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[1], np.concatenate([a, np.tanh(a)], axis=1), rtol=1e-4, atol=1e-4)
    assert LastLayers(classifier.graph()).is_linear


def transformer() -> onnx.ModelProto:
    """A class token and attention, with a batch of 1 in every shape."""
    w = Writer()
    w.weights("conv.w", D, 3, 8, 8, scale=0.1)
    w.op("Conv", "x conv.w", "patches", strides=[8, 8])
    w.op("Reshape", "patches " + w.constant("s1", [1, D, 4], np.int64), "rows")
    w.op("Transpose", "rows", "places", perm=[0, 2, 1])
    w.weights("cls", 1, 1, D)
    w.op("Concat", "cls places", "tokens", axis=1)
    w.weights("qkv.w", D, 3 * D)
    w.op("MatMul", "tokens qkv.w", "qkv")
    w.op("Reshape", "qkv " + w.constant("s2", [1, 5, 3, 2, 4], np.int64), "parts")
    w.op("Transpose", "parts", "apart", perm=[2, 0, 3, 1, 4])
    for i, name in enumerate("qkv"):
        w.op("Gather", "apart " + w.constant(f"i{i}", i, np.int64), name, axis=0)
    w.op("Transpose", "k", "kt", perm=[0, 1, 3, 2])
    w.op("MatMul", "q kt", "products")
    w.op("Softmax", "products", "attention", axis=-1)
    w.op("MatMul", "attention v", "mixed")
    w.op("Transpose", "mixed", "together", perm=[0, 2, 1, 3])
    w.op("Reshape", "together " + w.constant("s3", [1, 5, D], np.int64), "out")
    w.op("Gather", "out " + w.constant("first", 0, np.int64), "token", axis=1)
    w.fc("token", "output")
    return w.model({"x": NCHW}, {"output": (1, K)})


def test_a_transformer_written_down_for_one_image(tmp_path: Path) -> None:
    classifier = read(transformer(), tmp_path)
    logits, penultimate = outputs(classifier, images())
    own = classifier.run(images())
    np.testing.assert_allclose(logits, own[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(penultimate, own[1], rtol=1e-4, atol=1e-5)
    assert np.abs(logits - logits[0]).max() > 0.1


def mixing() -> onnx.ModelProto:
    w = Writer()
    w.op("Flatten", w.features("x"), "flat")
    w.op("Transpose", "flat", "turned", perm=[1, 0])
    w.op("Reshape", "turned " + w.constant("s", [1, D], np.int64), "mixed")
    w.fc("mixed", "output")
    return w.model({"x": NCHW}, {"output": (1, K)})


def squeezing() -> onnx.ModelProto:
    w = Writer()
    w.op("Squeeze", w.features("x") + " " + w.constant("all", [0, 2, 3], np.int64), "row", name="squeeze_all")
    w.op("Unsqueeze", "row " + w.constant("zero", [0], np.int64), "rows")
    w.fc("rows", "output")
    return w.model({"x": NCHW}, {"output": (1, K)})


def batch_dependent() -> onnx.ModelProto:
    w = Writer()
    w.op("Flatten", w.features("x"), "flat")
    w.op("ReduceMean", "flat", "mean", axes=[0])
    w.op("Sub", "flat mean", "centred")
    w.fc("centred", "output")
    return w.model({"x": ("N", *NCHW[1:])}, {"output": ("N", K)})


def random() -> onnx.ModelProto:
    w = Writer()
    w.op("Flatten", w.features("x"), "flat")
    w.op("RandomNormalLike", "flat", "noise", scale=5.0)
    w.op("Add", "flat noise", "noisy")
    w.fc("noisy", "output")
    return w.model({"x": NCHW}, {"output": (1, K)})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (mixing(), r"mixed \(Reshape of \[8, 1\] to \[1, 8\]\) mixes the images of a batch"),
        (squeezing(), "does not take batches of 2: Squeeze 'network/squeeze_all' fails"),
        (batch_dependent(), "or as the others in its batch are"),
        (random(), "the same image differently each time"),
    ],
    ids=["mixing", "squeezing", "centred by the batch", "random"],
)
def test_what_is_no_function_of_one_image(model: onnx.ModelProto, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        read(model, tmp_path)


# --- names


def test_names_of_ours(tmp_path: Path) -> None:
    w = Writer()
    w.op("Flatten", w.features("images"), "penultimate", name="accept")
    w.fc("penultimate", "logits")
    w.op("Identity", "logits", "scores", name="head/constant_0")
    w.op("Identity", "scores", "threshold", name="pixels/Mul_0")
    w.op("Softmax", "threshold", "accept", axis=1)
    model = w.model({"images": NCHW}, {"accept": (1, K)})
    classifier = read(model, tmp_path)
    check(model, classifier)
    names = [node.name for node in classifier.graph().graph.node]
    assert len(set(names)) == len(names)
    assert all(names)


def test_penultimate_by_name(tmp_path: Path) -> None:
    model = torch_like(ending="")
    classifier = read(model, tmp_path, penultimate="relu")
    _, expected = by_hand(model, normalised(images()))
    np.testing.assert_allclose(outputs(classifier, images())[1], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ExportError, match=r"--penultimate nowhere: there is no such tensor .* layers read flat, input"):
        read(model, tmp_path, penultimate="nowhere")


def test_without_a_layer(tmp_path: Path) -> None:
    w = Writer()
    w.op("Flatten", w.op("GlobalAveragePool", "x", "pool"), "output")
    model = w.model({"x": NCHW}, {"output": (1, K)})
    with pytest.raises(ExportError, match=r"no layer with weights .* --penultimate"):
        read(model, tmp_path)
    logits, penultimate = outputs(read(model, tmp_path, penultimate="pool"), images())
    np.testing.assert_allclose(logits, normalised(images()).mean(axis=(2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(penultimate, logits)


def test_several_outputs(tmp_path: Path) -> None:
    model = torch_like(ending="")
    second = model.graph.output.add()
    second.CopyFrom(onnx.helper.make_tensor_value_info("flat", TensorProto.FLOAT, (1, D)))
    classifier = read(model, tmp_path)
    check(model, classifier)
    assert "of its outputs, logits is taken for the classes'" in classifier.remarks
    second.CopyFrom(onnx.helper.make_tensor_value_info("aux", TensorProto.FLOAT, (1, K)))
    model.graph.node.append(onnx.helper.make_node("Neg", ["logits"], ["aux"]))
    with pytest.raises(ExportError, match=r"say with --output which are the logits: logits \[1, 3\], aux \[1, 3\]"):
        read(model, tmp_path)
    check(model, read(model, tmp_path, output="logits"))
    with pytest.raises(ExportError, match="--output nowhere: there is no such tensor"):
        read(model, tmp_path, output="nowhere")


def test_another_number_of_classes(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="output has 3 values an image; expected as many as labels, found 2 labels"):
        read(torch_like(), tmp_path, ("cat", "dog"))


def test_a_detector_is_no_classifier(tmp_path: Path) -> None:
    w = Writer()
    w.weights("w", 84, 3, 1, 1)
    w.op("Conv", "images w", "conv")
    w.op("Reshape", "conv " + w.constant("s", [1, 84, SIDE * SIDE], np.int64), "output0")
    model = w.model({"images": NCHW}, {"output0": (1, 84, SIDE * SIDE)})
    with pytest.raises(ExportError, match=r"output0 is \[N, 84, 256\], not \[N, K\]: no classifier's"):
        read(model, tmp_path)


# --- what the input takes


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.FLOAT])
def test_precisions(dtype: int, tmp_path: Path) -> None:
    numpy_type = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    w = Writer(dtype=numpy_type)
    w.op("Flatten", w.features("x"), "flat")
    w.fc("flat", "output")
    model = w.model({"x": NCHW}, {"output": (1, K)}, dtype=dtype, output_dtype=dtype)
    classifier = read(model, tmp_path)
    expected, _ = by_hand(model, normalised(images()))
    logits, penultimate = outputs(classifier, images())
    assert logits.dtype == penultimate.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=2e-2 * np.abs(expected).max())
    assert classifier.precision == ("fp16" if dtype == TensorProto.FLOAT16 else "fp32")
    assert LastLayers(classifier.graph()).is_linear


def test_pixels_as_they_are(tmp_path: Path) -> None:
    w = Writer()
    w.op("Cast", "x", "float", to=TensorProto.FLOAT)
    w.op("Div", "float " + w.constant("255", np.float32(255)), "unit")
    w.op("Transpose", "unit", "nchw", perm=[0, 3, 1, 2])
    w.op("Flatten", w.features("nchw"), "flat")
    w.fc("flat", "output")
    model = w.model({"x": NHWC}, {"output": (1, K)}, dtype=TensorProto.UINT8)
    check(model, read(model, tmp_path), lambda x: x.transpose(0, 3, 1, 2) / 255)


def test_the_other_order_of_channels(tmp_path: Path) -> None:
    model = torch_like()
    check(model, read(model, tmp_path, channels="bgr"), lambda x: normalised(x)[:, ::-1])


def test_grey(tmp_path: Path) -> None:
    pil = pytest.importorskip("PIL.Image")
    w = Writer()
    w.weights("conv.w", D, 1, 3, 3)
    w.op("Conv", "x conv.w", "conv")
    w.op("Flatten", w.op("GlobalAveragePool", "conv", "pool"), "flat")
    w.fc("flat", "output")
    model = w.model({"x": (1, 1, SIDE, SIDE)}, {"output": (1, K)})
    classifier = read(model, tmp_path, channels="grey", spec=InputSpec(SIDE, SIDE, (0.13,) * 3, (0.31,) * 3))
    grey = np.stack([np.asarray(pil.fromarray(image).convert("L")) for image in images()])
    x = ((grey / 255 - 0.13) / 0.31).astype(np.float32)[:, None]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"x": one[None]})[0] for one in x])
    np.testing.assert_allclose(outputs(classifier, images())[0], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(classifier.run(images())[0], expected, rtol=1e-4, atol=1e-4)


def test_any_size(tmp_path: Path) -> None:
    w = Writer()
    w.op("Flatten", w.features("x"), "flat")
    w.fc("flat", "output")
    model = w.model({"x": ("batch", "channels", "height", "width")}, {"output": ("batch", K)})
    check(model, read(model, tmp_path))


def test_a_layout_that_the_shape_leaves_open(tmp_path: Path) -> None:
    w = Writer()
    w.op("Flatten", w.features("x"), "flat")
    w.fc("flat", "output")
    model = w.model({"x": (1, 3, SIDE, 3)}, {"output": (1, K)})
    with pytest.raises(ExportError, match=r"x \[1, 3, 16, 3\] could be either: say --layout nchw"):
        read(model, tmp_path)
    classifier = read(model, tmp_path, layout="nchw", spec=InputSpec(SIDE, 3, SPEC.mean, SPEC.std))
    expected, _ = by_hand(model, normalised(images()[:, :, :3]))
    np.testing.assert_allclose(outputs(classifier, images()[:, :, :3])[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("inputs", "dtype", "message"),
    [
        ({"x": NCHW, "y": NCHW}, TensorProto.FLOAT, "expected one input, for images; found 2: x"),
        ({"x": (1, 3, SIDE)}, TensorProto.FLOAT, "is none for images"),
        ({"x": (1, 4, SIDE, SIDE)}, TensorProto.FLOAT, "has no 3 channels, nor 1"),
        ({"x": (1, 3, 100_000, 100_000)}, TensorProto.FLOAT, "takes 100000 x 100000 pixels"),
        ({"x": NCHW}, TensorProto.STRING, "is of string"),
    ],
    ids=["two", "three axes", "four channels", "huge", "text"],
)
def test_an_input_that_is_none_for_images(
    inputs: dict[str, tuple[int, ...]], dtype: int, message: str, tmp_path: Path
) -> None:
    w = Writer()
    w.op("Flatten", w.features("x"), "flat")
    w.fc("flat", "output")
    with pytest.raises(ExportError, match=message):
        read(w.model(inputs, {"output": (1, K)}, dtype=dtype), tmp_path)


def test_a_constant_larger_than_any_model(tmp_path: Path) -> None:
    w = Writer()
    w.op("ConstantOfShape", w.constant("shape", [200_000, 200_000], np.int64), "huge")
    w.op("ReduceMean", "huge", "mean")
    w.op("Add", "x mean", "y")
    w.op("Flatten", w.features("y"), "flat")
    w.fc("flat", "output")
    with pytest.raises(ExportError, match=r"huge \(ConstantOfShape\) asks for a constant of \[200000, 200000\]"):
        read(w.model({"x": NCHW}, {"output": (1, K)}), tmp_path)


def test_operators_of_others(tmp_path: Path) -> None:
    w = Writer()
    w.op("Flatten", w.features("x"), "flat")
    w.fc("flat", "fc")
    w.op("Magic", "fc", "output", domain="my.ops")
    with pytest.raises(ExportError, match=r"operators of its own, Magic of 'my\.ops'"):
        read(w.model({"x": NCHW}, {"output": (1, K)}), tmp_path)


def test_behind_another_preprocessing_it_is_the_file_behind_it(tmp_path: Path) -> None:
    """What the search for a better preprocessing runs: its answers are those of a file that is read with it."""
    model = torch_like()
    other = dataclasses.replace(SPEC, mean=(0.0,) * 3, std=(1.0,) * 3)
    classifier = read(model, tmp_path)
    found = classifier.behind(dataclasses.replace(other, channels="bgr"))(images())
    expected, _ = read(model, tmp_path, spec=other, channels="bgr").run(images())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found - classifier.run(images())[0]).max() > 1e-3


# --- rows of numbers, and one value an image


def rows(order: str) -> onnx.ModelProto:
    """A linear classifier of rows of pixels."""
    w = Writer()
    w.constant("row.w", np.random.default_rng(3).normal(0, 0.1, (3 * SIDE * SIDE, D)).astype(np.float32))
    w.op("Relu", w.op("MatMul", "x row.w", "hidden"), "penultimate")
    w.fc("penultimate", order)
    return w.model({"x": (1, 3 * SIDE * SIDE)}, {order: (1, K)})


@pytest.mark.parametrize("layout", [None, "nhwc", "nchw"])
def test_rows_of_numbers_are_in_the_order_that_is_named(layout: str | None, tmp_path: Path) -> None:
    model = rows("output")
    classifier = read(model, tmp_path, layout=layout)
    x = normalised(images())
    x = x if layout == "nchw" else x.transpose(0, 2, 3, 1)
    weights = constants(model)
    penultimate = np.maximum(x.reshape(len(x), -1).astype(np.float64) @ weights["row.w"], 0)
    expected = penultimate @ weights["fc.w"].T + weights["fc.b"]
    np.testing.assert_allclose(outputs(classifier, images())[0], expected, rtol=1e-4, atol=1e-4)
    assert any("height, width, channels; --layout nchw" in line for line in classifier.remarks) == (layout is None)


@pytest.mark.parametrize(("labels", "task"), [(("cat", "dog"), "multilabel"), (("cat",), "multiclass")])
def test_one_value_for_other_than_one_label_or_two_classes(labels: tuple[str, ...], task: Task, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"has (1 values|one value)"):
        read(torch_like(ending="Sigmoid", classes=1), tmp_path, labels, task=task)


def test_one_label_of_an_image_or_none(tmp_path: Path) -> None:
    model = torch_like(ending="Sigmoid", classes=1)
    classifier = read(model, tmp_path, ("crack",), task="multilabel")
    found = outputs(classifier, images())[0]
    assert found.shape == (5, 1)
    np.testing.assert_allclose(found, by_hand(model, normalised(images()))[0], rtol=1e-4, atol=1e-4)
