"""int8: the trunk's layers with 8-bit weights and activations, written into the graph as QuantizeLinear and DequantizeLinear.

Weights are symmetric, one scale for each output channel, and of 7 bits. A CPU without VNNI multiplies two pairs of bytes
and adds them in 16 bits that saturate: 2 * 255 * 127 does not fit, 2 * 255 * 64 does. With 7 bits every CPU computes
the same integers, so a threshold calibrated on one holds on all.

Activations follow what the graph is to run on:

- ``cpu``: unsigned with a zero point, so that a ReLU is the clipping of its layer's output and vanishes; sums of
  branches are quantised too. ONNX Runtime then stays in integers from layer to layer.
- ``tensorrt``: signed and symmetric, for TensorRT takes no zero point but 0, at the inputs of layers alone, with biases in
  floating point. ONNX Runtime's CPU engine computes the same in floating point, slower than fp32.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from tqdm import tqdm

from export.convert import trunk as trunks
from export.exceptions import ExportError
from export.graph.session import run, session
from train.data import Images, batches

Target = Literal["cpu", "tensorrt"]
Method = Literal["minmax", "entropy", "percentile"]
Layer = Literal["first", "last"]

BATCH = 16  # images whose activations are held at once
_METHODS: dict[Method, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
_SCALED = frozenset(trunks.LAYERS)
_OPERATORS: dict[Target, frozenset[str]] = {
    "cpu": _SCALED | {"Add", "Relu", "Clip", "MaxPool", "Concat", "Reshape", "Transpose", "Squeeze", "Unsqueeze"},
    "tensorrt": _SCALED,
}
_ACTIVATIONS: dict[Target, QuantType] = {"cpu": QuantType.QUInt8, "tensorrt": QuantType.QInt8}


@dataclass(frozen=True)
class Int8Options:
    """How the trunk is quantised.

    Attributes:
        target: what the graph is to run on.
        method: how the range of an activation follows from its values; None chooses the one whose penultimate
            activations are nearest to those of fp32, on images that set no range.
        keep: layers that stay float32.
    """

    target: Target = "cpu"
    method: Method | None = None
    keep: tuple[Layer, ...] = ("first",)


@dataclass(frozen=True)
class Quantised:
    """How a trunk was quantised.

    Attributes:
        method: of the ranges.
        errors: for each method tried, the root mean square error of the penultimate activations relative to that of
            fp32's deviation from their mean; empty where the method was given.
        layers: number of layers in 8 bits.
    """

    method: Method
    errors: dict[str, float]
    layers: int


def quantise(model: onnx.ModelProto, images: Images, others: Images, options: Int8Options) -> Quantised:
    """Quantise the trunk, in place.

    Args:
        model: in fp32.
        images: uint8 [N, H, W, 3] that set the ranges of activations.
        others: that choose the method, where one is to be chosen.
        options: how.

    Raises:
        ExportError: no layer to quantise.
    """
    trunk = trunks.extract(model)
    chosen = _chosen(trunk, options)
    methods = get_args(Method) if options.method is None else (options.method,)
    candidates = {
        method: _quantised(trunk, chosen, _ranges(trunk, images, method, options), options) for method in methods
    }
    errors: dict[str, float] = {}
    method: Method = methods[0]
    if options.method is None:
        expected = _penultimate(trunk, others)
        spread = np.square(expected - expected.mean(axis=0)).mean()
        spread = max(spread, np.finfo(np.float32).tiny)  # it is 0 of a single image
        for name, candidate in candidates.items():
            errors[name] = float(np.sqrt(np.square(_penultimate(candidate, others) - expected).mean() / spread))
        method = min(methods, key=lambda name: errors[name])
    trunks.replace(model, trunk, candidates[method])
    return Quantised(method, errors, _eight_bit_layers(candidates[method]))


def _chosen(trunk: onnx.ModelProto, options: Int8Options) -> list[onnx.NodeProto]:
    """The nodes to quantise."""
    layers = trunks.layers(trunk)
    kept = {"first": layers[0].name, "last": layers[-1].name}
    left_out = {kept[which] for which in options.keep}
    nodes = [node for node in trunks.behind_first_layer(trunk) if node.op_type in _OPERATORS[options.target]]
    chosen = [node for node in nodes if node.name not in left_out]
    if not any(node.op_type in trunks.LAYERS for node in chosen):
        raise ExportError(
            f"nothing to quantise: the {len(layers)} layer(s) before the penultimate activations stay float32 by "
            "--int8-keep; give --int8-keep none, or another --precision"
        )
    return chosen


def _ranges(trunk: onnx.ModelProto, images: Images, method: Method, options: Int8Options) -> TensorsData:
    """The range of every activation, by ONNX Runtime's calibrators, a batch at a time."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trunk.onnx"
        onnx.save(trunk, file)
        calibrator = create_calibrator(
            file,
            sorted(_OPERATORS[options.target]),
            str(Path(folder) / "augmented.onnx"),
            _METHODS[method],
            extra_options={"symmetric": options.target == "tensorrt"},
        )
        count = -(-len(images) // BATCH)
        for batch in tqdm(
            batches(images, BATCH), total=count, desc=f"ranges, {method}", unit="batch", disable=None, leave=False
        ):
            with redirect_stdout(io.StringIO()):  # a line for every batch
                calibrator.collect_data(_OneBatch(batch))
        with redirect_stdout(io.StringIO()):
            return calibrator.compute_data()


class _OneBatch(CalibrationDataReader):  # type: ignore[misc]  # the library is untyped
    def __init__(self, images: npt.NDArray[np.uint8]) -> None:
        self._batches: Iterator[Mapping[str, npt.NDArray[np.uint8]]] = iter([{"images": images}])

    def get_next(self) -> Mapping[str, npt.NDArray[np.uint8]] | None:
        return next(self._batches, None)


def _quantised(
    trunk: onnx.ModelProto, chosen: list[onnx.NodeProto], ranges: TensorsData, options: Int8Options
) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(trunk)
    extra: dict[str, Any] = {"WeightSymmetric": True, "ActivationSymmetric": options.target == "tensorrt"}
    if options.target == "tensorrt":
        extra |= {"QuantizeBias": False, "OpTypesToExcludeOutputQuantization": sorted(trunks.LAYERS)}
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=_ACTIVATIONS[options.target],
        tensors_range=ranges,
        nodes_to_quantize=[node.name for node in chosen],
        nodes_to_exclude=[],
        op_types_to_quantize=sorted(_OPERATORS[options.target]),
        extra_options=extra,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantised: onnx.ModelProto = quantizer.model.model
    return quantised


def _eight_bit_layers(quantised: onnx.ModelProto) -> int:
    widened = {node.output[0] for node in quantised.graph.node if node.op_type == "DequantizeLinear"}
    return sum(node.op_type in trunks.LAYERS and node.input[1] in widened for node in quantised.graph.node)


def _penultimate(trunk: onnx.ModelProto, images: Images) -> npt.NDArray[np.float64]:
    loaded = session(trunk)
    parts = [run(loaded, ["penultimate"], {"images": batch})[0] for batch in batches(images, BATCH)]
    return np.concatenate(parts).astype(np.float64)
