"""What is promised of labels, by labelled images: the error of accepted answers is bounded, and label sets are calibrated.

One random half of the calibration images sets the gate and the temperature of the reported confidence, and the other half
tests what is promised of labels. To that half the gate is a fixed rule, so that its images are exchangeable with new ones
whether one looks at all of them, at those that the gate takes for known, or at those that are accepted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from export.calibrate import label_sets, selection
from export.calibrate.options import GateOptions
from export.detectors import columns
from export.detectors.confidence import CONFIDENCE, Confidence
from export.exceptions import ExportError
from runtime.engines.interface import Outputs
from runtime.exceptions import CalibrationError
from runtime.manifest import ErrorBound, GateSpec, LabelSet, Manifest, OperatingPoint
from runtime.rule import Classes, Rule, probabilities
from train.data import Images, ImageSet, short_name

Positions = npt.NDArray[np.int64]
Run = Callable[[onnx.ModelProto, Images], Outputs]


@dataclass(frozen=True)
class Labelled:
    """Labelled in-distribution images and what the graph says of them.

    Attributes:
        outputs: of the graph.
        labels: int64 (n,), their true classes.
    """

    outputs: Outputs
    labels: Classes

    def judged(self, rule: Rule, column: int) -> selection.Judged:
        """Whether the gate lets each pass, and whether it is classified right, beside a column of its scores."""
        known = rule.known(self.outputs.logits, self.outputs.scores)
        right = self.outputs.logits.argmax(axis=1) == self.labels
        return selection.Judged(self.outputs.scores[:, column], known, right)


def halves(positions: Positions, seed: int = 0) -> tuple[Positions, Positions]:
    """Two random halves, each ascending: for the gate, and to test."""
    first, second = np.array_split(np.random.default_rng([seed, 1]).permutation(positions), 2)
    return np.sort(first), np.sort(second)


def true_labels(manifest: Manifest, images: ImageSet, source: str) -> Classes:
    """The true classes of images, int64 (n,), as indices of the manifest's labels.

    Raises:
        ExportError: a model, or images, of any number of labels.
        DataError: a class that the model does not have.
    """
    if manifest.task != "multiclass" or images.task != "multiclass":
        which = "this model" if manifest.task != "multiclass" else short_name(source)
        raise ExportError(f"--max-error and --prediction-sets are for one label an image, and {which} has any number")
    return images.with_classes(manifest.labels, source).labels.astype(np.int64)


def with_promises(
    model: onnx.ModelProto,
    manifest: Manifest,
    options: GateOptions,
    tuning: Labelled,
    test: tuple[Images, Classes],
    run: Run,
) -> Manifest:
    """The manifest with a bound on the error, with label sets, or with both, as `options` want it.

    Args:
        model: with the gate's columns; the confidence becomes one more, in place, where it selects.
        manifest: with its gate and its confidence.
        options: what is to be promised.
        tuning: the images that set these.
        test: images that set nothing, and their labels.
        run: the graph.

    Raises:
        CalibrationError: the default operating point can't keep the bound, or has too few images for a set.
    """
    images, labels = test
    if options.bounds_error and options.select == CONFIDENCE:
        manifest, tuning = _with_confidence(model, manifest, tuning)
    tested = Labelled(run(model, images), labels)
    if options.prediction_sets:
        manifest = _with_sets(manifest, options.prediction_sets, tested)
    if options.bounds_error:
        bound = ErrorBound(float(options.max_error), options.level, options.select, len(labels))
        manifest = _with_selection(manifest, bound, tuning, tested)
    return manifest


def _with_selection(manifest: Manifest, bound: ErrorBound, tuning: Labelled, tested: Labelled) -> Manifest:
    """With a selection at every operating point; further ones that can't keep the bound are dropped."""
    gate, column = _gate(manifest), manifest.scores.index(bound.score)
    points = []
    for point in gate.points:
        rule = Rule(manifest.labels, manifest.scores, gate.at(point.alpha))
        judged = tuning.judged(rule, column), tested.judged(rule, column)
        try:
            fitted = selection.fit(*judged, bound.rate, bound.confidence)
        except CalibrationError:
            if point.alpha == gate.alpha:
                raise
            continue
        points.append(dataclasses.replace(point, selection=fitted))
    return _with_points(manifest, gate, points, bound)


def _with_sets(manifest: Manifest, coverages: tuple[float, ...], tested: Labelled) -> Manifest:
    """With label sets at every operating point; at further ones without those that there are too few images for."""
    gate, temperature = _gate(manifest), manifest.confidence.temperature if manifest.confidence else 1.0
    reported = probabilities(tested.outputs.logits, temperature)

    def fitted(point: OperatingPoint) -> list[LabelSet]:
        rule, sets = Rule(manifest.labels, manifest.scores, gate.at(point.alpha)), []
        known = rule.known(tested.outputs.logits, tested.outputs.scores)
        for coverage in coverages:
            try:
                sets.append(label_sets.fit(reported[known], tested.labels[known], coverage))
            except CalibrationError:
                if point.alpha == gate.alpha:
                    raise
        return sets

    points = [dataclasses.replace(point, sets=tuple(fitted(point))) for point in gate.points]
    return _with_points(manifest, gate, points, gate.max_error)


def _gate(manifest: Manifest) -> GateSpec:
    if manifest.gate is None:
        raise ExportError("nothing is promised of labels without a gate")
    return manifest.gate


def _with_points(
    manifest: Manifest, gate: GateSpec, points: list[OperatingPoint], max_error: ErrorBound | None
) -> Manifest:
    (own,) = (point for point in points if point.alpha == gate.alpha)
    others = tuple(point for point in points if point.alpha != gate.alpha)
    gate = dataclasses.replace(
        gate, selection=own.selection, sets=own.sets, operating_points=others, max_error=max_error
    )
    return dataclasses.replace(manifest, gate=gate)


def _with_confidence(model: onnx.ModelProto, manifest: Manifest, tuning: Labelled) -> tuple[Manifest, Labelled]:
    """The confidence as a column of the graph, and of the outputs of the images that calibrated the gate."""
    gate, outputs = _gate(manifest), tuning.outputs
    detector = Confidence(manifest.confidence.temperature if manifest.confidence else 1.0)
    names = columns.attach(model, {CONFIDENCE: detector}, manifest.scores)
    own = detector.reference(outputs.logits, outputs.logits).astype(np.float32)
    ordered = np.sort(own)[np.array(gate.calibration.ranks) - 1]
    quantiles = {**gate.calibration.quantiles, CONFIDENCE: tuple(float(str(value)) for value in ordered)}
    gate = dataclasses.replace(gate, calibration=dataclasses.replace(gate.calibration, quantiles=quantiles))
    parameters = {**manifest.score_parameters, CONFIDENCE: {"temperature": detector.temperature}}
    manifest = dataclasses.replace(manifest, scores=names, gate=gate, score_parameters=parameters)
    outputs = dataclasses.replace(outputs, scores=np.column_stack([outputs.scores, own]))
    return manifest, dataclasses.replace(tuning, outputs=outputs)
