"""A classifier in an ONNX file, whatever wrote it: scores are appended to its own graph, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from export.checks.verification import ROUNDING
from export.classifier import Activations, Answers, Classifier
from export.exceptions import ExportError
from export.from_onnx import ending, face, file, reading
from export.from_onnx.face import Face
from export.from_onnx.original import Original
from export.from_onnx.reading import Reading, are_close
from export.from_onnx.surgery import assembly, network, scikit
from export.from_onnx.surgery.assembly import Tensor
from export.from_onnx.surgery.network import Network
from export.from_onnx.surgery.pixels import IMAGES, PREFIX, Layout, Pixels
from export.graph.building import OPSET
from export.graph.session import run, session
from runtime.manifest import InputSpec, Task

_NO_WEIGHTS = (TensorProto.INT64, TensorProto.INT32, TensorProto.STRING, TensorProto.BOOL)


@dataclass(frozen=True)
class Opened:
    """A file that was read, with what it says of itself.

    Attributes:
        model: as it was.
        network: the same, plain.
        face: its input.
        labels: its classes, and where that is said; none where it is not.
        beside: whether other files may lie beside it, as they can't beside a model in memory.
    """

    path: Path
    model: onnx.ModelProto
    network: Network
    face: Face
    labels: tuple[str, ...]
    labels_from: str
    beside: bool = False


@dataclass(frozen=True)
class OnnxClassifier(Classifier):
    """A graph of somebody else's.

    Attributes:
        model: with images in front, logits and penultimate activations behind.
        original: the file itself.
        reading: what is looked at in it.
    """

    model: onnx.ModelProto
    original: Original
    reading: Reading

    @property
    def framework(self) -> str:
        return "ONNX Runtime"

    @property
    def parameters(self) -> int:
        constants = (tensor for tensor in self.model.graph.initializer if not tensor.name.startswith(PREFIX))
        weights = (tensor for tensor in constants if tensor.data_type not in _NO_WEIGHTS)
        return sum(int(np.prod(tensor.dims)) for tensor in weights)

    def graph(self) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        return copy

    def run(self, images: npt.NDArray[np.uint8]) -> Activations:
        return self.reading.activations(self.original(images))

    def behind(self, spec: InputSpec) -> Answers:
        original = self.original.behind(spec)
        return lambda images: self.reading.activations(original(images))[0]


def open_file(path: Path, layout: Layout | None = None) -> Opened:
    """Read a file, and what it says of itself.

    Args:
        path: of the file.
        layout: of its input, where the shape leaves it open.

    Raises:
        ExportError: not an ONNX file, or not one with an input for images.
    """
    return replace(open_model(file.read(path), path, layout), beside=True)


def open_model(model: onnx.ModelProto, path: Path, layout: Layout | None = None) -> Opened:
    """The same of a model in memory, which messages call `path`."""
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
    output: str | None = None,
    penultimate: str | None = None,
    remarks: Sequence[str] = (),
) -> OnnxClassifier:
    """The classifier of a file.

    Args:
        opened: the file.
        labels: class names, in the order of its output.
        spec: size, normalisation and channels of its input.
        task: what it was trained for; of ``unlabelled`` there are no logits.
        output: the output, or the tensor inside, that has the logits, or without classes the features; None where there is no
            choice.
        penultimate: the tensor of penultimate activations; None for what the last layer reads.
        remarks: what was found before.

    Raises:
        ExportError: no logits [N, K] for K labels, no penultimate activations, batches that can't be made dynamic, or
            answers that depend on the batch or on chance.
    """
    one = opened.face
    pixels = Pixels(spec, one.tensor, one.dtype, one.layout or "nhwc", one.row is not None)
    try:
        if task == "unlabelled":
            found, batch = _read_features(opened, pixels, output or penultimate)
        else:
            found, batch = _read(opened, pixels, len(labels), task, output, penultimate)
        classifier = _assembled(opened, pixels, found, batch, labels, task)
        _check_batches(classifier, _images(spec))
    except ExportError as error:
        raise ExportError(f"{opened.path}: {error}") from error
    return replace(classifier, remarks=(*remarks, *_remarks(opened, classifier, output)))


def _read(
    opened: Opened, pixels: Pixels, labels: int, task: Task, output: str | None, penultimate: str | None
) -> tuple[Reading, int | None]:
    """Where logits and penultimate activations are, and how many images the file takes at once; None for any number."""
    chosen = ending.choose(opened.network, output, labels)
    found = reading.find(opened.network, opened.model, chosen, penultimate)
    original, batch = _running(opened, pixels, (*found.tensors, chosen))
    return reading.tried(found, original, _images(pixels.spec), labels, task), batch


def _read_features(opened: Opened, pixels: Pixels, wanted: str | None) -> tuple[Reading, int | None]:
    """The same of a file without classes."""
    found = reading.features(opened.network, wanted)
    original, batch = _running(opened, pixels, found.tensors)
    (values,) = (original(_images(pixels.spec))[name] for name in found.tensors)
    if values.ndim == 3:  # tokens, of which the mean is taken
        found = replace(found, layer=replace(found.layer, sources=(replace(found.layer.sources[0], last=True),)))
    return found, batch


def _running(opened: Opened, pixels: Pixels, tensors: tuple[str, ...]) -> tuple[Original, int | None]:
    """The file, and how many images it takes at once; None for any number."""
    batch = opened.face.batch
    original = Original(opened.model, pixels, tensors, batch)
    if batch is None:
        try:
            original(_images(pixels.spec))
        except ExportError:  # it says that it takes any number, and doesn't
            batch = 1
            original = Original(opened.model, pixels, tensors, batch)
    return original, batch


def _assembled(
    opened: Opened, pixels: Pixels, found: Reading, batch: int | None, labels: tuple[str, ...], task: Task
) -> OnnxClassifier:
    original = Original(opened.model, pixels, found.tensors, batch)
    values = original(_images(pixels.spec))
    dtypes = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in values.items()}
    tensors = {name: Tensor(dtypes[name], value.shape) for name, value in values.items()}
    if found.own is not None and found.own.scale is not None:
        tensors[found.ending.logits] = Tensor(TensorProto.FLOAT, tensors[found.own.tensor].shape)
    model = assembly.assemble(
        found.network,
        pixels,
        batch or 1,
        found.layer,
        found.ending.logits if found.classes else None,
        found.column,
        tensors,
    )
    return OnnxClassifier(
        opened.path.name,
        "unknown",
        task,
        labels,
        pixels.spec,
        precision=found.precision,
        model=model,
        original=original,
        reading=found,
    )


def _check_batches(classifier: OnnxClassifier, images: npt.NDArray[np.uint8]) -> None:
    """Raises ExportError where batches fail, or an image's answer depends on the others or on chance."""
    share = ROUNDING[classifier.precision]
    parts = [classifier.run(images[i : i + 1]) for i in range(len(images))]
    alone = [np.concatenate(values) for values in zip(*parts, strict=True)]
    if not all(are_close(a, b, share) for a, b in zip(alone, classifier.run(images), strict=True)):
        raise ExportError("it answers the same image differently each time, or as the others in its batch are")
    gated, names = session(classifier.model), [output.name for output in classifier.model.graph.output]
    alone = alone[-len(names) :]
    for count in range(1, len(images) + 1):
        try:
            values = run(gated, names, {IMAGES: images[:count]})
        except ExportError as error:
            raise ExportError(f"it does not take batches of {count}: {error}") from error
        if not all(are_close(value, a[:count], share) for value, a in zip(values, alone, strict=True)):
            raise ExportError(f"in a batch of {count} an image's answer is another than the file's for it alone")


def _remarks(opened: Opened, classifier: OnnxClassifier, output: str | None) -> list[str]:
    """What was found and done, a line each."""
    found, lines = classifier.reading, list[str]()
    if not found.classes:
        width = classifier.model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        return [f"features: {found.ending.output}, {width} an image", *_operators(opened, classifier)]
    end, sources = found.ending, found.layer.sources
    if opened.face.row is not None and opened.face.layout is None and classifier.input.channels != "grey":
        lines.append("its rows of numbers are taken as height, width, channels; --layout nchw: channels, height, width")
    if len(opened.model.graph.output) > 1 and output is None:
        lines.append(f"of its outputs, {end.output} is taken for the classes'")
    if words := ending.describe(end.steps):
        lines.append(f"it ends with {words}; the logits are taken in front, from {end.logits}")
    logits, features = (output.type.tensor_type.shape.dim[1].dim_value for output in classifier.model.graph.output)
    if end.steps[:1] == ("sigmoid",) and classifier.task == "multiclass" and logits > 1:
        lines.append("a sigmoid for each class: --task multilabel, if an image can be of several")
    lines.append(f"penultimate activations: {', '.join(source.tensor for source in sources)}, {features} an image")
    return [*lines, *_operators(opened, classifier)]


def _operators(opened: Opened, classifier: OnnxClassifier) -> list[str]:
    """What was done to the file's operators, and what is to be said of them."""
    lines = []
    if opened.network.opset < OPSET:
        lines.append(f"operators of version {opened.network.opset} brought to {OPSET}")
    if own := sorted({node.op_type for node in classifier.model.graph.node if node.domain == "com.microsoft"}):
        lines.append(f"{', '.join(own)}: ONNX Runtime's own, which TensorRT and OpenVINO don't take")
    return lines


def _images(spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Three images of different contrast, to try a file on."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (3, spec.height, spec.width, 3), dtype=np.uint8)
    return np.stack([noise[0], noise[1] // 4, 255 - noise[2] // 8])
