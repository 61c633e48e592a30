"""How logits and penultimate activations follow from tensors inside a file, found and tried on images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.checks.verification import ROUNDING
from export.classifier import Activations
from export.exceptions import ExportError
from export.from_onnx import ending, last_layer
from export.from_onnx.ending import Ending
from export.from_onnx.last_layer import LastLayer, Source
from export.from_onnx.original import Original
from export.from_onnx.surgery import assembly
from export.from_onnx.surgery.network import Network
from export.graph.building import prune
from runtime.manifest import Precision, Task

Tensors = Mapping[str, npt.NDArray[Any]]

_QUANTISED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm"}


@dataclass(frozen=True)
class Reading:
    """Where logits and penultimate activations are.

    Attributes:
        ending: what the file does behind its logits.
        layer: the last.
        network: what they are made of.
        own: the tensor of logits, or of their 8 bits, if the file has one; otherwise the last layer's weights make them.
        column: of two logits of which one is the other's negative, the one that is taken; None for all logits there are.
        classes: whether there are logits; without, the activations are the file's features.
    """

    ending: Ending
    layer: LastLayer
    network: Network
    own: Source | None
    column: int | None = None
    classes: bool = True

    @property
    def tensors(self) -> tuple[str, ...]:
        """What to fetch."""
        sources = (*filter(None, (self.own,)), *self.layer.sources)
        return tuple(dict.fromkeys(source.tensor for source in sources))

    @property
    def precision(self) -> Precision:
        """Of the layers."""
        if any(node.op_type in _QUANTISED for node in self.network.model.graph.node):
            return "int8"
        half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in self.network.model.graph.initializer)
        return "fp16" if half else "fp32"

    def raw(self, found: Tensors) -> Activations:
        """Logits (N, K) as the file has them, and penultimate activations (N, D)."""
        penultimate = np.concatenate(
            [self._pooled(source, found[source.tensor]) for source in self.layer.sources], axis=1
        )
        if not self.classes:
            return np.empty((len(penultimate), 0), np.float32), penultimate
        if self.own is None:
            return self.affine(penultimate), penultimate
        logits = self._numbers(self.own, found[self.own.tensor])
        return logits.reshape(len(logits), -1), penultimate

    def activations(self, found: Tensors) -> Activations:
        """Logits (N, K), one for two classes perhaps, and penultimate activations (N, D), float32."""
        logits, penultimate = self.raw(found)
        return logits if self.column is None else logits[:, self.column : self.column + 1], penultimate

    def affine(self, penultimate: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits by the last layer's weights, in float64; not a number where they don't fit."""
        if self.layer.weights is None or self.layer.bias is None:
            raise ExportError("the logits are no affine function of the penultimate activations")
        weights = np.concatenate(self.layer.weights, axis=1)
        if weights.shape[1] != penultimate.shape[1]:
            return np.full((len(penultimate), len(weights)), np.nan, np.float32)
        return np.asarray(penultimate.astype(np.float64) @ weights.T + self.layer.bias, dtype=np.float32)

    def _numbers(self, source: Source, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """A tensor in float32, its 8 bits as what they stand for."""
        values = array.astype(np.float32)
        if source.scale is None:
            return values
        zero = self.network.constant(source.zero_point) if source.zero_point else None
        scale = self.network.constant(source.scale)
        if scale is None:
            raise ExportError(f"{source.tensor}: the scale of its 8 bits is computed, not constant")
        return np.asarray((values - np.float32(0 if zero is None else zero)) * np.float32(scale), dtype=np.float32)

    def _pooled(self, source: Source, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Activations (N, D) of a tensor."""
        values = self._numbers(source, array)
        axes = assembly.pooled_axes(source, values.shape)
        return np.asarray(values.mean(axis=axes) if axes else values.reshape(len(values), -1), dtype=np.float32)


def find(network: Network, model: onnx.ModelProto, output: str, penultimate: str | None) -> Reading:
    """Where the logits of an output, and the penultimate activations, are.

    Args:
        network: plain, with all its outputs.
        model: the file itself.
        output: of the file, or a tensor inside.
        penultimate: the tensor of activations by ``--penultimate``; None for what the last layer reads.

    Raises:
        ExportError: no layer, or no such tensor, or 8 bits whose scale follows from the whole batch.
    """
    part = _part(network.model, output)
    if dynamic := next((node for node in part.model.graph.node if node.op_type == "DynamicQuantizeLinear"), None):
        raise ExportError(
            f"{dynamic.name or dynamic.output[0]} (DynamicQuantizeLinear) scales by the largest value of a whole batch, so "
            "that an image's answer depends on the others; quantise statically, or give the file before it was quantised"
        )
    end = ending.find(part, output)
    layer = _named(part, end.logits, penultimate) if penultimate else last_layer.find(part, end.logits)
    return Reading(end, layer, part, _own(part, model, end.logits))


def features(network: Network, wanted: str | None) -> Reading:
    """Where the features of a file without classes are.

    Args:
        network: plain, with all its outputs.
        wanted: an output, or a tensor inside; None for the only output.

    Raises:
        ExportError: no such tensor, or several outputs and none named.
    """
    outputs = [output.name for output in network.model.graph.output]
    if wanted is None and len(outputs) > 1:
        raise ExportError(f"it has several outputs; say with --output which are the features: {', '.join(outputs)}")
    name = outputs[0] if wanted is None else wanted
    if name not in outputs and name not in network.producers:
        raise ExportError(f"--output {name}: there is no such tensor; the outputs are {', '.join(outputs)}")
    layer = LastLayer((Source(name),), exact=False)
    return Reading(Ending(name, name), layer, _part(network.model, name), None, classes=False)


def tried(reading: Reading, original: Original, images: npt.NDArray[np.uint8], labels: int, task: Task) -> Reading:
    """The same, with what images show of it.

    Args:
        reading: where things should be.
        original: the file, with the tensors of `reading` and its output.
        images: to try it on, uint8 [N, H, W, 3].
        labels: how many classes there should be.
        task: what the file was trained for.

    Raises:
        ExportError: another number of classes, values that are not finite, an ending that is not what it seems, or
            probabilities in place of logits.
    """
    end, found = reading.ending, original(images)
    logits, penultimate = reading.raw(found)
    _check_classes(end.output, found[end.output].shape, logits, labels, task)
    close = ROUNDING[reading.precision]
    _check_ending(end, logits, found[end.output], close)
    layer = reading.layer
    if layer.weights is not None and not are_close(reading.affine(penultimate), logits, close):
        layer = LastLayer(layer.sources, exact=False)
    return replace(reading, layer=layer, column=_column(end, layer, logits.shape[1]) if task == "multiclass" else None)


def are_close(found: npt.NDArray[Any], expected: npt.NDArray[Any], share: float) -> bool:
    """Whether arrays are of one shape and differ by no more than a share of the largest value, or of 1."""
    if found.shape != expected.shape:
        return False
    largest = max(1.0, float(np.abs(expected).max(initial=0)))
    return bool((np.abs(found.astype(np.float64) - expected) <= share * largest).all())


def _part(model: onnx.ModelProto, output: str) -> Network:
    """What an output depends on."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.append(onnx.ValueInfoProto(name=output))
    prune(copy)
    return Network(copy)


def _own(part: Network, model: onnx.ModelProto, logits: str) -> Source | None:
    """The tensor of logits, or of their 8 bits, of a file."""
    made = {name for node in model.graph.node for name in node.output}
    if logits in made:
        return Source(logits)
    node = part.producers[logits]
    if node.op_type == "DequantizeLinear" and node.input[0] in made:
        return Source(node.input[0], scale=node.input[1], zero_point=node.input[2])
    return None


def _named(part: Network, logits: str, name: str) -> LastLayer:
    """The last layer of the activations that ``--penultimate`` names."""
    if name not in part.producers:
        known = ", ".join(last_layer.candidates(part)[:8])
        raise ExportError(f"--penultimate {name}: there is no such tensor in front of the logits; layers read {known}")
    found = last_layer.affine(part, logits)
    if found is not None and [source.tensor for source in found.sources] == [name]:
        return found
    return LastLayer((Source(name),), exact=False)


def _check_classes(
    output: str, shape: tuple[int, ...], logits: npt.NDArray[np.float32], labels: int, task: Task
) -> None:
    if sum(size > 1 for size in shape[1:]) > 1:
        raise ExportError(f"{output} is [N, {', '.join(map(str, shape[1:]))}], not [N, K]: no classifier's")
    if not np.isfinite(logits).all():
        raise ExportError(f"{output}: values that are not finite for random images")
    classes, binary = logits.shape[1], task == "multiclass"
    if binary and (classes, labels) == (1, 1):
        raise ExportError(
            f"{output} has one value for two classes; give the labels of both, that of its low values first"
        )
    if classes != labels and not (binary and (classes, labels) == (1, 2)):
        wanted = "as many as labels, or one for 2" if binary and classes == 1 else "as many as labels"
        raise ExportError(f"{output} has {classes} values an image; expected {wanted}, found {labels} labels")


def _check_ending(end: Ending, logits: npt.NDArray[np.float32], found: npt.NDArray[Any], share: float) -> None:
    """Raises ExportError where the output is not what the logits should make of it, or they are probabilities."""
    if _are_probabilities(logits, share):
        raise ExportError(
            f"{end.logits} has probabilities, and what made them is not a Softmax or Sigmoid that can be left out; name the "
            "tensor of logits by --output"
        )
    if "label" in end.steps:
        return
    with np.errstate(all="ignore"):
        expected, values = end.apply(logits.astype(np.float64)), found.reshape(len(logits), -1)
    count = min(expected.shape[1], values.shape[1])
    if not are_close(expected[:, :count], values[:, :count], share):
        raise ExportError(
            f"{end.output} is not {ending.describe(end.steps)} of {end.logits} over the classes; name the tensor of "
            "logits by --output"
        )


def _column(end: Ending, layer: LastLayer, classes: int) -> int | None:
    """The second column of a sigmoid of each of two logits of which one is the other's negative; None of any other."""
    if classes != 2 or end.steps[:1] != ("sigmoid",) or layer.weights is None or layer.bias is None:
        return None
    rows = np.concatenate([*layer.weights, layer.bias[:, None]], axis=1)
    return 1 if np.allclose(rows[0], -rows[1], rtol=1e-4, atol=1e-6) else None


def _are_probabilities(values: npt.NDArray[np.float32], share: float) -> bool:
    """Whether rows sum to one, or are the logarithms of what does."""
    if values.shape[1] < 2:
        return False
    with np.errstate(over="ignore"):
        sums, exponentials = values.sum(axis=1), np.exp(values.astype(np.float64)).sum(axis=1)
    if (values >= 0).all():
        return bool(np.allclose(sums, 1, atol=share))
    return bool((values <= 0).all() and np.allclose(exponentials, 1, atol=share))
