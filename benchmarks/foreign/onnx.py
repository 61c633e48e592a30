"""ONNX files of several exporters; ONNX Runtime runs them as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from PIL import Image
from torch import nn

from benchmarks.foreign.cases import Case, Logits, Maker, names, registry, spread
from benchmarks.foreign.factories import INPUT, transform
from benchmarks.foreign.strangers.net import Small

CASES, case = registry()

Pixels = Callable[[Path], npt.NDArray[np.float32]]


def _pixels(path: Path) -> npt.NDArray[np.float32]:
    """Normalised, [1, 3, H, W]."""
    made: npt.NDArray[np.float32] = transform()(Image.open(path).convert("RGB"))[None].numpy()
    return made


def _running(
    file: Path, pixels: Pixels, of_output: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
) -> Logits:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # as the file says, on CPUs without VNNI too
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda path: of_output(np.asarray(session.run(None, {name: pixels(path)})[0]))[0]


def _exported(module: nn.Module, file: Path, *, dynamo: bool) -> None:
    axes = {"dynamic_shapes": ({0: torch.export.Dim("N")},)} if dynamo else {"dynamic_axes": {"input": {0: "N"}}}
    example = torch.zeros(2, 3, 96, 128)
    torch.onnx.export(module.eval(), (example,), file, dynamo=dynamo, input_names=["input"], verbose=False, **axes)


def _same(outputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return outputs


def _of_torch(*, dynamo: bool) -> Maker:
    def make(folder: Path) -> Case:
        file = folder / "model.onnx"
        _exported(spread(Small()), file, dynamo=dynamo)
        return Case(["--checkpoint", str(file), *names(folder, 5), *INPUT], _running(file, _pixels, _same))

    return make


CASES["ONNX of torch's exporter"] = _of_torch(dynamo=True)
CASES["ONNX of torch's exporter before 2.5"] = _of_torch(dynamo=False)


@case("ONNX that ends in a softmax")
def _softmax(folder: Path) -> Case:
    module, file = spread(Small()), folder / "model.onnx"
    _exported(nn.Sequential(module, nn.Softmax(1)), file, dynamo=False)
    _exported(module, folder / "logits.onnx", dynamo=False)
    logits = _running(folder / "logits.onnx", _pixels, _same)
    return Case(["--checkpoint", str(file), *names(folder, 5), *INPUT], logits)


@case("ONNX of 8 bits, QDQ")
def _eight_bits(folder: Path) -> Case:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Noise(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [np.random.default_rng(i).normal(size=(2, 3, 96, 128)).astype(np.float32) for i in range(4)]

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return {"input": self.left.pop()} if self.left else None

    file = folder / "model.onnx"
    _exported(spread(Small()), folder / "whole.onnx", dynamo=False)
    quantize_static(folder / "whole.onnx", file, Noise(), quant_format=QuantFormat.QDQ)
    return Case(["--checkpoint", str(file), *names(folder, 5), *INPUT], _running(file, _pixels, _same))


@case("ONNX of NHWC uint8 pixels, as TensorFlow's")
def _nhwc(folder: Path) -> Case:
    """Rescaling inside, channels last, any number of images."""
    rng, file = np.random.default_rng(0), folder / "model.onnx"
    arrays = {
        "scale": np.float32(1 / 127.5),
        "one": np.float32(1),
        "kernel": rng.normal(0, 0.2, (16, 3, 5, 5)).astype(np.float32),
        "weights": rng.normal(0, 1, (16, 5)).astype(np.float32),
        "bias": rng.normal(0, 1, 5).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["normal"]),
        helper.make_node("Transpose", ["normal"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel"], ["features"], strides=[2, 2]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("ReduceMean", ["positive"], ["pooled"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["pooled", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tf",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 96, 128, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)

    def pixels(path: Path) -> npt.NDArray[np.uint8]:
        from torchvision import transforms as t

        image = t.Compose([t.Resize((110, 150)), t.CenterCrop((96, 128))])(Image.open(path).convert("RGB"))
        return np.asarray(image)[None]

    argv = ["--checkpoint", str(file), *names(folder, 5), "--resize-to", "110x150", "--colour", "ignore"]
    return Case(argv, _running(file, pixels, _same))
