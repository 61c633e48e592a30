"""A classifier in an ONNX file, whatever wrote it: scores are appended to its own graph, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from export.classifier import Activations, Classifier
from export.detectors import DETECTORS
from export.exceptions import ExportError
from export.from_onnx import assembly, ending, face, file, last_layer, network, scikit
from export.from_onnx.assembly import Tensor
from export.from_onnx.ending import Ending
from export.from_onnx.face import Face
from export.from_onnx.last_layer import LastLayer, Source
from export.from_onnx.network import Network
from export.from_onnx.original import Original, run, session
from export.from_onnx.pixels import IMAGES, Channels, Layout, Pixels
from export.graph import LOGITS, OPSET, PENULTIMATE
from export.last_layers import LastLayers
from runtime.manifest import InputSpec, Precision, Task

# Of what float32, and of what fewer bits, may differ between two ways to compute the same; a share of the largest value.
_ROUNDING, _COARSE = 1e-3, 3e-2
_QUANTISED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm"}


@dataclass(frozen=True)
class Opened:
    """A file that was read, with what it says of itself.

    Attributes:
        model: as it was.
        network: the same, plain.
        face: its input.
        labels: its classes, and where that is said; none where it is not.
    """

    path: Path
    model: onnx.ModelProto
    network: Network
    face: Face
    labels: tuple[str, ...]
    labels_from: str


@dataclass(frozen=True)
class Reading:
    """How logits and penultimate activations follow from tensors inside a file.

    Attributes:
        ending: what the file does behind its logits.
        layer: the last.
        column: that of the only logit of a binary classifier; None for any other.
        written: whether the tensor of logits is the file's own; otherwise the last layer's weights make them.
    """

    ending: Ending
    layer: LastLayer
    column: int | None
    written: bool

    @property
    def tensors(self) -> tuple[str, ...]:
        """What to fetch."""
        own = (self.ending.logits,) if self.written else ()
        return tuple(dict.fromkeys((*own, *(source.tensor for source in self.layer.sources))))

    def raw(self, found: dict[str, npt.NDArray[Any]], constants: Network) -> Activations:
        """Logits as the file has them, and penultimate activations, of tensors inside it."""
        penultimate = np.concatenate(
            [_pooled(source, found[source.tensor], constants) for source in self.layer.sources], axis=1
        )
        if self.written:
            logits = found[self.ending.logits]
            return logits.reshape(len(logits), -1).astype(np.float32), penultimate
        return _affine(self.layer, penultimate), penultimate

    def activations(self, found: dict[str, npt.NDArray[Any]], constants: Network) -> Activations:
        """Logits (N, K) and penultimate activations (N, D), float32."""
        logits, penultimate = self.raw(found, constants)
        if self.column is not None:
            logits = assembly.binary(logits[:, self.column : self.column + 1]).astype(np.float32)
        return logits, penultimate


@dataclass(frozen=True)
class OnnxClassifier(Classifier):
    """A graph of somebody else's.

    Attributes:
        model: with images in front, logits and penultimate activations behind.
        original: the file itself.
        reading: what is looked at in it.
        constants: its initializers.
        precision: of its layers.
    """

    model: onnx.ModelProto
    original: Original
    reading: Reading
    constants: Network
    precision: Precision = "fp32"

    @property
    def framework(self) -> str:
        return "ONNX Runtime"

    @property
    def parameters(self) -> int:
        weights = (tensor for tensor in self.model.graph.initializer if tensor.data_type not in _NO_WEIGHTS)
        return sum(int(np.prod(tensor.dims)) for tensor in weights)

    def graph(self) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        return copy

    def run(self, images: npt.NDArray[np.uint8]) -> Activations:
        return self.reading.activations(self.original(images), self.constants)


def open_file(path: Path, layout: Layout | None = None) -> Opened:
    """Read a file, and what it says of itself.

    Raises:
        ExportError: not an ONNX file, or not one with an input for images.
    """
    model = file.read(path)
    try:
        plain = Network(network.plain(model))
        labels, key = face.labels(model)
        if not labels and (labels := scikit.labels(model)):
            key = "its scikit-learn classifier"
        return Opened(path, model, plain, face.find(plain, layout), labels, key)
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from error


def from_onnx(
    opened: Opened,
    labels: tuple[str, ...],
    spec: InputSpec,
    task: Task,
    *,
    channels: Channels = "rgb",
    output: str | None = None,
    penultimate: str | None = None,
    remarks: Sequence[str] = (),
) -> OnnxClassifier:
    """The classifier of a file.

    Args:
        opened: the file.
        labels: class names, in the order of its output.
        spec: size and normalisation of its input.
        task: what it was trained for.
        channels: in which order, of how many.
        output: the output, or the tensor inside, that has the logits; None where there is no choice.
        penultimate: the tensor of penultimate activations; None for what the last layer reads.
        remarks: what was found before.

    Raises:
        ExportError: no logits [N, K] for K labels, no penultimate activations, batches that can't be made dynamic, or
            answers that depend on the batch.
    """
    try:
        return _Reader(opened, labels, spec, channels, list(remarks)).classifier(task, output, penultimate)
    except ExportError as error:
        raise ExportError(f"{opened.path}: {error}") from error


class _Reader:
    def __init__(
        self, opened: Opened, labels: tuple[str, ...], spec: InputSpec, channels: Channels, remarks: list[str]
    ) -> None:
        self._opened, self._labels, self._remarks = opened, labels, remarks
        one = opened.face
        layout = one.layout or "nhwc"
        self._pixels = Pixels(spec, one.tensor, one.dtype, layout, channels, one.layout is None)
        self._images = np.random.default_rng(0).integers(0, 256, (3, spec.height, spec.width, 3), dtype=np.uint8)

    def classifier(self, task: Task, output: str | None, penultimate: str | None) -> OnnxClassifier:
        opened, pixels = self._opened, self._pixels
        reading, precision = self._reading(output, penultimate)
        original = Original(opened.model, pixels, reading.tensors, opened.face.batch)
        found = original(self._images)
        tensors = {name: Tensor(helper.np_dtype_to_tensor_dtype(v.dtype), (1, *v.shape[1:])) for name, v in found.items()}
        model = assembly.assemble(
            opened.network, pixels, opened.face.batch, reading.layer, reading.ending.logits, reading.column, tensors
        )
        if opened.network.opset < OPSET:
            self._remarks.append(f"operators of version {opened.network.opset} brought to {OPSET}")
        classifier = OnnxClassifier(
            opened.path.name,
            "unknown",
            task,
            self._labels,
            pixels.spec,
            model=model,
            original=original,
            reading=reading,
            constants=opened.network,
            precision=precision,
        )
        self._check_batches(classifier)
        self._remark_on_layers(model, reading, found)
        return replace(classifier, remarks=tuple(self._remarks))

    def _reading(self, output: str | None, penultimate: str | None) -> tuple[Reading, Precision]:
        """What to look at, and of which precision it is."""
        chosen = ending.choose(self._opened.network, output, len(self._labels))
        if len(self._opened.model.graph.output) > 1:
            self._remarks.append(f"of its outputs, {chosen} is taken for the classes'")
        plain = _reduced(self._opened.network.model, chosen)
        end = ending.find(plain, chosen)
        layer = _named(plain, end.logits, penultimate) if penultimate else last_layer.find(plain, end.logits)
        written = end.logits in {name for node in self._opened.model.graph.node for name in node.output}
        reading = Reading(end, layer, None, written)
        precision = _precision(plain)
        tolerance = _ROUNDING if precision == "fp32" else _COARSE
        original = Original(self._opened.model, self._pixels, (*reading.tensors, chosen), self._opened.face.batch)
        found = original(self._images)
        logits, activations = reading.raw(found, plain)
        classes = self._check_classes(chosen, found[reading.ending.logits if written else chosen], logits)
        self._check_ending(end, logits, found[chosen], tolerance)
        if layer.weights is not None and not _close(_affine(layer, activations), logits, tolerance):
            layer = LastLayer(layer.sources, exact=False)
        column = self._column(end, layer, classes)
        return Reading(end, layer, column, written), precision

    def _check_classes(self, output: str, array: npt.NDArray[Any], logits: npt.NDArray[np.float32]) -> int:
        shape, labels = array.shape, len(self._labels)
        if sum(size > 1 for size in shape[1:]) > 1:
            raise ExportError(f"{output} is {['N', *shape[1:]]}, not [N, K]: no classifier's".replace("'N'", "N"))
        if not np.isfinite(logits).all():
            raise ExportError(f"{output}: values that are not finite for random images")
        classes = logits.shape[1]
        if classes == labels or (classes == 1 and labels == 2):
            return classes
        single = ", or of 2 for its one value" if classes == 1 else ""
        raise ExportError(f"{output} has {classes} values an image; expected as many labels{single}, found {labels}")

    def _check_ending(self, end: Ending, logits: npt.NDArray[np.float32], found: Any, tolerance: float) -> None:
        """Raises ExportError where the output is not what the logits should make of it."""
        if "label" in end.steps:
            return
        with np.errstate(all="ignore"):
            expected, values = end.apply(logits.astype(np.float64)), np.asarray(found).reshape(len(logits), -1)
        count = min(expected.shape[1], values.shape[1])
        if not _close(expected[:, :count], values[:, :count], tolerance):
            raise ExportError(
                f"{end.output} is no {ending.describe(end.steps)} of {end.logits} over the classes; name the tensor of "
                "logits by --output"
            )
        if end.steps:
            self._remarks.append(f"it ends with {ending.describe(end.steps)}; the logits are taken in front, from {end.logits}")
        elif _are_probabilities(values):
            raise ExportError(
                f"{end.output}: probabilities, and what made them is not a Softmax or Sigmoid that can be left out; name the "
                "tensor of logits by --output"
            )

    def _column(self, end: Ending, layer: LastLayer, classes: int) -> int | None:
        """The only logit of a binary classifier."""
        column = None
        if classes == 1:
            column = 0
        elif classes == 2 and end.steps[:1] == ("sigmoid",) and layer.weights is not None and layer.bias is not None:
            rows = np.concatenate([*layer.weights, layer.bias[:, None]], axis=1)
            column = 1 if np.allclose(rows[0], -rows[1], rtol=1e-4, atol=1e-6) else None
        if column is not None:
            self._remarks.append(f"one logit z for two classes: the logits are [0, z], {self._labels[1]} where z is positive")
        return column

    def _check_batches(self, classifier: OnnxClassifier) -> None:
        """Raises ExportError where batches fail, or an image's answer depends on the others or on chance."""
        precision, images = classifier.precision, self._images
        tolerance = _ROUNDING if precision == "fp32" else _COARSE
        alone = [np.concatenate(parts) for parts in zip(*(classifier.run(images[i : i + 1]) for i in range(3)), strict=True)]
        again = classifier.run(images)
        if not all(_close(a, b, tolerance) for a, b in zip(alone, again, strict=True)):
            raise ExportError("it answers the same image differently each time, or as the others in its batch are")
        gated = session(classifier.model)
        for count in (1, 2, 3):
            try:
                values = run(gated, (LOGITS, PENULTIMATE), {IMAGES: images[:count]})
            except ExportError as error:
                size = self._opened.face.batch
                raise ExportError(f"it takes batches of {size} only, not of {count}: {error}") from error
            if not all(_close(v, a[:count], tolerance) for v, a in zip(values, alone, strict=True)):
                raise ExportError(
                    f"in a batch of {count} an image's answer is another than alone"
                    if count > 1
                    else "with scores appended, its answers are others"
                )

    def _remark_on_layers(self, model: onnx.ModelProto, reading: Reading, found: dict[str, npt.NDArray[Any]]) -> None:
        names = ", ".join(source.tensor for source in reading.layer.sources)
        size = model.graph.output[1].type.tensor_type.shape.dim[1].dim_value
        pooled = any(np.prod(found[s.tensor].shape[1:]) > size for s in reading.layer.sources)
        self._remarks.append(f"penultimate activations: {names}, {size} an image{', averaged over its places' * pooled}")
        if not _is_linear(model):
            off = ", ".join(name for name, kind in DETECTORS.items() if kind.linear)
            self._remarks.append(f"the logits are no plain linear layer of them: {off} can't be fitted")
        if contributed := sorted({node.op_type for node in model.graph.node if node.domain == "com.microsoft"}):
            self._remarks.append(f"{', '.join(contributed)}: operators of ONNX Runtime, which TensorRT and OpenVINO don't take")


def _reduced(model: onnx.ModelProto, output: str) -> Network:
    """What an output depends on."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.append(onnx.ValueInfoProto(name=output))
    network.prune(copy)
    return Network(copy)


def _named(plain: Network, logits: str, name: str) -> LastLayer:
    """The last layer of the activations that ``--penultimate`` names."""
    if name not in plain.producers:
        known = ", ".join(last_layer.candidates(plain)[:8])
        raise ExportError(f"--penultimate {name}: there is no such tensor in front of the logits; layers read {known}")
    found = last_layer.find(plain, logits)
    return found if [source.tensor for source in found.sources] == [name] else LastLayer((Source(name),), exact=False)


def _pooled(source: Source, array: npt.NDArray[Any], constants: Network) -> npt.NDArray[np.float32]:
    """Activations (N, D) of a tensor inside a file."""
    values = array.astype(np.float32)
    if source.scale is not None:
        scale, zero = constants.constant(source.scale), constants.constant(source.zero_point or "")
        values = (values - np.float32(0 if zero is None else zero)) * np.float32(0 if scale is None else scale)
    axes = assembly.pooled_axes(source, values.shape)
    return np.asarray(values.mean(axis=axes) if axes else values.reshape(len(values), -1), dtype=np.float32)


def _affine(layer: LastLayer, penultimate: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if layer.weights is None or layer.bias is None:
        raise ExportError("the logits are no affine function of the penultimate activations")
    weights = np.concatenate(layer.weights, axis=1)
    if weights.shape[1] != penultimate.shape[1]:
        return np.full((len(penultimate), len(weights)), np.nan, np.float32)
    return np.asarray(penultimate.astype(np.float64) @ weights.T + layer.bias, dtype=np.float32)


def _close(found: npt.NDArray[Any], expected: npt.NDArray[Any], tolerance: float) -> bool:
    if found.shape != expected.shape:
        return False
    largest = max(1.0, float(np.abs(expected).max(initial=0)))
    return bool((np.abs(found.astype(np.float64) - expected) <= tolerance * largest).all())


def _are_probabilities(values: npt.NDArray[Any]) -> bool:
    """Whether rows sum to one, or are the logarithms of what does."""
    if values.shape[1] < 2:
        return False
    with np.errstate(over="ignore"):
        sums = [values.sum(axis=1), np.exp(values.astype(np.float64)).sum(axis=1)]
    shares = bool((values >= 0).all()) and np.allclose(sums[0], 1, atol=1e-3)
    return shares or bool((values <= 0).all() and np.allclose(sums[1], 1, atol=1e-3))


def _is_linear(model: onnx.ModelProto) -> bool:
    try:
        return LastLayers(model).is_linear
    except ExportError:
        return False


def _precision(plain: Network) -> Precision:
    kinds = {node.op_type for node in plain.model.graph.node}
    if kinds & _QUANTISED or any("Integer" in kind for kind in kinds):
        return "int8"
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in plain.model.graph.initializer)
    return "fp16" if half else "fp32"


_NO_WEIGHTS = (TensorProto.INT64, TensorProto.INT32, TensorProto.STRING, TensorProto.BOOL)
