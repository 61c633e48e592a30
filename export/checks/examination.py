"""A classifier looked at before it is exported: what it outputs is logits, or is made logits, and each image's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from export.checks.batches import check_batches
from export.checks.heads import layer_of_heads
from export.checks.outputs import (
    FEW,
    RELATIONS,
    UNUSABLE,
    Relation,
    check_features,
    check_values,
    check_width,
    feature_remarks,
    relation,
    value_remarks,
    weights_between,
)
from export.checks.verification import ROUNDING
from export.classifier import Activations, Answers, Classifier
from export.detectors.base import BASE
from export.exceptions import ExportError
from export.graph.building import LOGITS, PENULTIMATE
from export.graph.last_layers import LastLayers, last_layers
from export.graph.logits import Step, activation, let_be_linear, redo, undo, widen
from export.graph.probing import probes
from export.graph.session import session
from runtime.manifest import InputSpec

EXAMINED = 64  # images that are enough
_TOLERANCE = 1e-3
_MOST = 3  # activations on one another

_UNDONE: dict[Step, str] = {
    "softmax": "the model's outputs are probabilities: the softmax is taken off, the logits before it exported",
    "log_softmax": (
        "the model's outputs are logarithms of probabilities, of which the energy is always 0: the log_softmax is taken "
        "off, the logits before it exported"
    ),
    "sigmoid": "the model's outputs are sigmoids: they are taken off, the logits before them exported",
    "one of two": "one output for two labels: it is the logit of the second, and the logits are [-z/2, z/2]",
}
_ONE_PROBABILITY = (
    "the one output for two labels lies within 0 and 1 for all of {} images, as a probability does, and no tensor before it "
    "is its logit; let the model return what goes into its last activation (of an ONNX file --output names such a tensor), "
    "or give images of both classes by --calibration, if it is a logit"
)


@dataclass(frozen=True)
class Examined(Classifier):
    """A classifier that passed, with the logits of which it outputs a function.

    Attributes:
        origin: as it was.
        model: its graph, with logits.
        steps: what was taken off the end of its graph, in this order.
        relation: of its logits to its penultimate activations.
        warnings: what may be a mistake, a line each.
    """

    origin: Classifier
    model: onnx.ModelProto
    steps: tuple[Step, ...]
    relation: Relation
    warnings: tuple[str, ...]

    @property
    def framework(self) -> str:
        return self.origin.framework

    @property
    def parameters(self) -> int:
        return self.origin.parameters

    @property
    def has_features(self) -> bool:
        return self.relation not in UNUSABLE

    def check_scores(self, scores: Sequence[str]) -> None:
        """Raises ExportError for a gate of activations that are not this classifier's."""
        for name in scores:
            if not self.has_features and name in BASE and BASE[name].of_features:
                raise ExportError(f"--score {name}: {RELATIONS[self.relation]}")

    def graph(self) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        return copy

    def run(self, images: npt.NDArray[np.uint8]) -> Activations:
        """The classifier's own outputs, with the logits that its last layers make of its penultimate activations.

        Raises:
            ExportError: logits that are not those of what it outputs.
        """
        outputs, penultimate = self.origin.run(images)
        if not self.steps:
            return outputs, penultimate
        logits = self._logits(images, penultimate)
        expected = redo(self.steps, logits.astype(np.float64)).reshape(outputs.shape)
        difference = np.abs(expected - outputs) / np.maximum(1, np.abs(outputs))
        if not difference.max() <= _TOLERANCE:
            raise ExportError(
                f"{' of '.join(self.steps)} of the exported logits differs from what {self.framework} outputs by "
                f"{difference.max():.2g}; let the model return logits"
            )
        return logits, penultimate

    def behind(self, spec: InputSpec) -> Answers:
        """Values in the logits' order, which is that of softmaxes and sigmoids of them too."""
        answers = self.origin.behind(spec)
        if "one of two" not in self.steps:
            return answers
        even = 0.5 if "sigmoid" in self.steps else 0.0
        return lambda images: (answers(images).reshape(-1, 1) - even) * np.array([-0.5, 0.5], np.float32)

    def _logits(self, images: npt.NDArray[np.uint8], penultimate: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self._last_layers is not None:
            return self._last_layers(penultimate).astype(np.float32)
        return run_graph(self._session, images)[0]

    @cached_property
    def _last_layers(self) -> LastLayers | None:
        return last_layers(self.model)

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return session(self.model)


def examine(classifier: Classifier, images: npt.NDArray[np.uint8]) -> Examined:
    """Look at what a classifier makes of some images, and undo what can be undone exactly.

    Args:
        classifier: to export.
        images: uint8 [N, H, W, 3]; a few dozen, of its own kind where there are any.

    Raises:
        ExportError: outputs that are no logits and can't be made so, or that depend on chance or on the batch.
    """
    model = classifier.graph()
    outputs, penultimate = classifier.run(images)
    if classifier.task == "unlabelled":
        return _examine_features(classifier, model, penultimate, images)
    check_width(outputs, len(classifier.labels), classifier.task)
    check_values(outputs, penultimate)
    _check_batches(classifier, model, images)
    steps = _logits_of(model, classifier, images)
    found = run_graph(session(model), images)
    _relate(model, found, images)
    how = relation(model, found)
    notes, warnings = [_UNDONE[step] for step in steps], [*value_remarks(found[0])]
    if how in RELATIONS:
        (warnings if how in UNUSABLE else notes).append(RELATIONS[how])
    examined = Examined(
        **_known(classifier, notes),
        origin=classifier,
        model=model,
        steps=steps,
        relation=how,
        warnings=tuple(warnings),
    )
    examined.run(images)
    return examined


def _examine_features(
    classifier: Classifier, model: onnx.ModelProto, features: npt.NDArray[np.float32], images: npt.NDArray[np.uint8]
) -> Examined:
    """An extractor of features, which has no logits to look at."""
    check_features(features)
    _check_batches(classifier, model, images)
    warnings = tuple(feature_remarks(features))
    return Examined(
        **_known(classifier), origin=classifier, model=model, steps=(), relation="features", warnings=warnings
    )


def _known(classifier: Classifier, notes: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of a classifier, with further remarks."""
    known = {item.name: getattr(classifier, item.name) for item in dataclasses.fields(Classifier)}
    return known | {"remarks": (*classifier.remarks, *notes)}


def _check_batches(classifier: Classifier, model: onnx.ModelProto, images: npt.NDArray[np.uint8]) -> None:
    """Raises ExportError where an image's answer is not its own, in the classifier or in its graph."""
    own, share = session(model), ROUNDING[classifier.precision]
    check_batches(classifier.run, images, f"the model in {classifier.framework}", model, share)
    check_batches(lambda batch: run_graph(own, batch), images, "the exported graph", model, share)


def run_graph(loaded: ort.InferenceSession, images: npt.NDArray[np.uint8]) -> Activations:
    """Logits and penultimate activations of images uint8 [N, H, W, 3]; logits (N, 0) of a graph without."""
    names = [output.name for output in loaded.get_outputs() if output.name in (LOGITS, PENULTIMATE)]
    found = dict(zip(names, loaded.run(names, {loaded.get_inputs()[0].name: images}), strict=True))
    return found.get(LOGITS, np.empty((len(images), 0), np.float32)), found[PENULTIMATE]


def _relate(model: onnx.ModelProto, found: Activations, images: npt.NDArray[np.uint8]) -> None:
    """Let logits be one linear layer of the penultimate activations, where the graph's own weights do that."""
    layers = last_layers(model)  # None where it computes logits beside the activations
    if layers is not None and layers.is_linear:
        return
    layer = weights_between(model, found) or layer_of_heads(model, found)
    rounding = _TOLERANCE * float(np.ptp(found[0]))  # by which the layer was found
    if layer is not None and _makes_all(model, *layer, images, rounding):
        let_be_linear(model, *layer)


def _makes_all(
    model: onnx.ModelProto,
    weights: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
    images: npt.NDArray[np.uint8],
    rounding: float,
) -> bool:
    """Whether a layer makes the logits of whatever activations, not of those of the images alone, but for rounding."""
    for penultimate, logits in probes(model, PENULTIMATE, images):
        size = (np.abs(penultimate) @ np.abs(weights).T + np.abs(bias)).max(axis=1, keepdims=True)
        if not (np.abs(penultimate @ weights.T + bias - logits) <= _TOLERANCE * size + rounding).all():
            return False
    return True


def _logits_of(model: onnx.ModelProto, classifier: Classifier, images: npt.NDArray[np.uint8]) -> tuple[Step, ...]:
    """Make the graph's logits ones, in place; what was taken off for it."""
    steps: list[Step] = []
    two = len(classifier.labels) == 2
    for _ in range(_MOST):
        outputs = run_graph(session(model), images)[0]
        kind = activation(outputs.reshape(len(outputs), -1))
        if kind is None:
            break
        if undo(model, kind, images):
            steps.append(kind)
        elif kind == "sigmoid":  # values between 0 and 1 may be logits all the same: value_remarks tells
            if two and outputs.size == len(outputs) >= FEW and not steps:
                raise ExportError(_ONE_PROBABILITY.format(len(outputs)))
            break
        else:
            raise ExportError(
                f"the model's outputs are {'probabilities' if kind == 'softmax' else 'logarithms of probabilities'} and no "
                "tensor before them is their logits; let it return the input of its softmax"
            )
    if two and outputs.size == len(outputs):
        widen(model)
        steps.append("one of two")
    return tuple(steps)
