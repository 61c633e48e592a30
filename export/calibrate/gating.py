"""From an exported graph and in-distribution images to a calibrated gate.

Whatever is chosen or fitted beside the threshold - the score, the energy's temperature, the p-value curves of a merged
score - comes from a random quarter of the calibration images, and the threshold from the others alone. To those the
chosen score is then a fixed function, and split conformal prediction keeps its promise exactly; a score chosen among S
on the very images that set the threshold could exceed alpha by an amount of the order of sqrt(log(S) / n).

So it is with an int8 graph. The ranges of its activations are learned from images of that quarter, which makes the graph
a function of them: no value of theirs is clipped, as one of a new image may be.

The images that chose, and those of an int8 graph, are recorded in the manifest, and set no threshold, whenever and with
whatever images a gate is calibrated; all others, one by one, are exchangeable with new images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import onnx

from export import conformal
from export.calibrate import confidence, labelled, provenance, selecting
from export.calibrate.calibration import calibrate
from export.calibrate.options import GateOptions
from export.calibrate.selecting import MakeEngine
from export.checks.images import image_remarks, score_remarks
from export.checks.precision import precision_warning
from export.checks.sample import Sample, sample
from export.detectors import DETECTORS, columns
from export.detectors.base import BASE
from export.detectors.combined import merged
from export.detectors.confidence import CONFIDENCE
from export.detectors.interface import Fitted, negative_share
from export.detectors.sign import objections
from export.graph import head
from export.images import leakage
from export.images.inference import collect, make_engine, numerics
from runtime.engines.interface import Engine, Outputs
from runtime.manifest import Choice, Confidence, Manifest, Precision
from train.data import Images, ImageSet, Labels, SelectedImages, check, read, short_name

_FEW = 64  # images that tell the sign of features
GATE = "gate"  # what the provenance of a manifest calls what was unusual in its calibration
# Scores of this correlation order images alike.
ALIKE = 0.999


@dataclass(frozen=True)
class Gated:
    """A calibrated gate.

    Attributes:
        manifest: of the graph, which was edited in place.
        images: those that set the threshold.
        warning: what is unusual in the images or in their scores, why the reported confidence could not be calibrated, which
            images were learned from, if that is allowed, and that the graph is another classifier than that of fp32.
        logits: float32 (n, K), of them.
        labels: of the model's classes, or None where they have none.
        note: which of the scores is none of its own for this model, if one is.
        fitted: the detectors that were fitted for the gate, by the names of their columns.
    """

    manifest: Manifest
    images: Images
    warning: str | None
    logits: npt.NDArray[np.float32]
    labels: Labels | None
    note: str | None = None
    fitted: Mapping[str, Fitted] = field(default_factory=dict)


def fit_gate(
    model: onnx.ModelProto,
    manifest: Manifest,
    source: str | ImageSet,
    options: GateOptions,
    *,
    threads: int = 0,
    seen: Sample | None = None,
    before: Manifest | None = None,
) -> Gated:
    """Choose what is to be chosen, and calibrate.

    Args:
        model: an exported graph; its columns of ``scores`` are edited where a temperature or a merged score asks for it.
        manifest: its manifest; an earlier calibration, and an earlier merged score, are dropped.
        source: in-distribution images that the model was not trained on; read before, or to be.
        options: what gate is wanted.
        threads: of the engine.
        seen: a sample of the source, if one was drawn already.
        before: the manifest with the gate that there was, where `manifest` has it no more.

    Raises:
        ExportError: options that don't fit, images that the model learned from, or that are all the same.
        DataError: a source that can't be read.
        CalibrationError: too few images for alpha, or scores that are not finite.
    """
    options, before = options.for_task(manifest.task), before or manifest
    manifest = provenance.still_chosen(_ungated(model, manifest, options), before.gate, options)
    make = partial(_make, precision=manifest.model.precision, threads=threads)
    images, title = _read(manifest, source, options)
    seen = seen or sample(source, manifest.input, manifest.labels, options.reading)
    looked = [*image_remarks(seen, manifest.input)]
    labels = labelled.true_labels(manifest, images, title) if options.promises_labels else None
    training = selecting.training_images(manifest, options)
    manifest, said = provenance.recorded(manifest, images, title, training, options)
    fitted: Mapping[str, Fitted] = {}
    rest, chosen = np.arange(len(images)), _chosen_before(before, options)
    earlier = manifest  # the part that chooses now is left out by its places: an image may be there twice
    if options.merges or options.chooses:
        held, rest = split(len(images), leakage.SIZE if options.chooses else None)
        conformal.rank(len(rest), options.alpha, options.pac)  # refuses too few before the work of choosing
        part = SelectedImages(images.images, held)
        if options.chooses:
            manifest = leakage.record(manifest, provenance.role(options), title, part)
        manifest, now, options, fitted = _chosen(model, manifest, part, training, options, make)
        chosen = now or chosen
    rest = provenance.unseen(earlier, images.images, rest)
    rest, test = (rest, rest[:0]) if labels is None else labelled.halves(rest)
    calibrating = SelectedImages(images.images, rest)
    outputs = _run(model, calibrating, make, "calibrate")
    classes = outputs.logits.argmax(axis=1) if options.class_conditional else None
    manifest = calibrate(
        manifest, outputs.scores, options.score, options.alpha, pac=options.pac, classes=classes, choice=chosen
    )
    manifest, remarks = _remarked(manifest, looked)
    calibrated, warning = _confidence(manifest, outputs, images, rest, title)
    computed = dataclasses.replace(manifest.model, numerics=numerics(manifest.model.precision))
    manifest = dataclasses.replace(manifest, confidence=calibrated, model=computed)
    if labels is not None:
        tuning = labelled.Labelled(outputs, labels[rest])

        def run(graph: onnx.ModelProto, images: Images) -> Outputs:
            return _run(graph, images, make, "labels")

        testing = SelectedImages(images.images, test), labels[test]
        manifest = labelled.with_promises(model, manifest, options, tuning, testing, run)
    unfit = precision_warning(manifest.model.precision, manifest.parity)
    warned = "; ".join([*filter(None, [unfit, *remarks, *said, _signed(model, calibrating, options, make), warning])])
    known = _labels(manifest, images, rest, title)
    return Gated(manifest, calibrating, warned or None, outputs.logits, known, _note(manifest, outputs), fitted)


def split(n: int, most: int | None = None, seed: int = 0) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The positions of two random parts of n images: a quarter to choose on, or `most`, and the others to calibrate on."""
    order = np.random.default_rng(seed).permutation(n)
    held = max(1, min(n // 4, most or n))
    return order[:held], np.sort(order[held:])


def without_gate(model: onnx.ModelProto, manifest: Manifest) -> Manifest:
    """The manifest without calibration; merged scores and the confidence are part of it and leave the graph too, in place."""
    kept = tuple(name for name in manifest.scores if name not in manifest.merged and name != CONFIDENCE)
    if kept != manifest.scores:
        columns.attach(model, {}, manifest.scores, kept)
    return dataclasses.replace(
        manifest,
        model=dataclasses.replace(manifest.model, numerics=None),
        scores=kept,
        score_parameters={name: own for name, own in manifest.score_parameters.items() if name != CONFIDENCE},
        merged={},
        gate=None,
        confidence=None,
        parity=manifest.parity and manifest.parity.of_graph,
        provenance={name: own for name, own in manifest.provenance.items() if name != GATE},
    )


def _ungated(model: onnx.ModelProto, manifest: Manifest, options: GateOptions) -> Manifest:
    """The manifest before any calibration, for options that fit it, with the temperature that they name."""
    manifest = without_gate(model, manifest)
    options.check(manifest.scores, manifest.task)
    if isinstance(options.temperature, float):
        manifest = selecting.with_temperature(model, manifest, options.temperature)
    return manifest


def _read(manifest: Manifest, source: str | ImageSet, options: GateOptions) -> tuple[ImageSet, str]:
    """The images and what to call them; a source that is not there, among all that are needed, fails before any is read."""
    check(source)
    for needed in filter(None, (options.fit, *options.aux)):
        check(needed)
    images = read(source, manifest.input, reading=options.reading, labels=manifest.labels)
    return images, source if isinstance(source, str) else short_name(source)


def _chosen(
    model: onnx.ModelProto,
    manifest: Manifest,
    images: Images,
    training: ImageSet | None,
    options: GateOptions,
    make: MakeEngine,
) -> tuple[Manifest, Choice | None, GateOptions, Mapping[str, Fitted]]:
    """The score chosen and the p-values fitted, as the options ask, by images that set no threshold."""
    chosen = None
    fitted: Mapping[str, Fitted] = {}
    if options.chooses:

        def run(images: Images, title: str) -> Outputs:
            return _run(model, images, make, title, penultimate=True)

        manifest, chosen, options, fitted = selecting.choose(model, manifest, images, training, options, run, make)
    if options.merges:
        manifest = _with_merged(model, manifest, images, options, make)
    return manifest, chosen, options, fitted


def _chosen_before(before: Manifest, options: GateOptions) -> Choice | None:
    """How the score of the gate that there was came to be chosen, where it stays."""
    gate = before.gate
    if (
        gate is None
        or gate.score != options.score
        or options.temperature is not None
        or (options.merges and before.merged[gate.score].method != options.merging)
    ):
        return None
    return gate.choice


def _with_merged(
    model: onnx.ModelProto, manifest: Manifest, images: Images, options: GateOptions, make: MakeEngine
) -> Manifest:
    scores = _run(model, images, make, "p-values").scores
    own = [manifest.scores.index(part) for part in options.parts]
    spec = merged.fit(scores[:, own], options.parts, options.merging)
    tensors = head.columns(model)
    parts = {part: merged.Column(tensors[index]) for part, index in zip(options.parts, own, strict=True)}
    names = columns.attach(model, {options.score: merged.MergedScore(spec, parts)}, manifest.scores)
    return dataclasses.replace(manifest, scores=names, merged={options.score: spec})


def _remarked(manifest: Manifest, looked: Sequence[str]) -> tuple[Manifest, list[str]]:
    """The manifest with what is unusual in its calibration, for its card, and that: of the images, and of their scores."""
    remarks = [*looked, *(score_remarks(manifest.gate) if manifest.gate else ())]
    if not remarks:
        return manifest, []
    return dataclasses.replace(manifest, provenance={**manifest.provenance, GATE: {"warnings": remarks}}), remarks


def _confidence(
    manifest: Manifest, outputs: Outputs, images: ImageSet, rest: npt.NDArray[np.int64], source: str
) -> tuple[Confidence | None, str | None]:
    """How the reported confidence is calibrated, or why it is not."""
    if manifest.task == "unlabelled":
        return None, None
    own = "the reported confidence is the model's own"
    wanting = f"{own}, for want of labelled images: "
    if not images.labelled:
        return None, f"{wanting}{short_name(source)} has no labels"
    if images.task != manifest.task:
        several = f"{short_name(source)} has any number of labels an image"
        one = f"{short_name(source)} has one label an image, which says nothing of the others; give a labels.csv"
        return None, f"{own}: {several if images.task == 'multilabel' else one}"
    if unknown := images.unknown_to(manifest.labels):
        return None, f"{wanting}{min(unknown)!r} of {short_name(source)} is none of the model's classes"
    labels = images.with_classes(manifest.labels, source).labels[rest]
    fitted = confidence.choose(outputs.logits, labels, manifest.task)
    if fitted is None:
        return None, f"{own}: no temperature is the most likely for these images"
    if fitted.temperature == 1:
        return fitted, f"{own}: a temperature makes it no better on images that did not set it"
    return fitted, None


def _labels(manifest: Manifest, images: ImageSet, rest: npt.NDArray[np.int64], source: str) -> Labels | None:
    """The images' labels as the model's classes, where they are labelled as its task asks."""
    if not images.labelled or images.unknown_to(manifest.labels) or images.task != manifest.task:
        return None
    return images.with_classes(manifest.labels, source).labels[rest]


def _signed(model: onnx.ModelProto, images: Images, options: GateOptions, make: MakeEngine) -> str | None:
    """What is to be said of the gate's score where features are negative, by some of the images."""
    kinds = {part: kind for part in options.parts if (kind := (BASE | DETECTORS).get(part)) and kind.negative}
    if not kinds:
        return None
    few = SelectedImages(images, np.arange(min(_FEW, len(images))))
    return objections(kinds, negative_share(np.asarray(_run(model, few, make, "sign", penultimate=True).penultimate)))


def _note(manifest: Manifest, outputs: Outputs) -> str | None:
    """That `nan` is `feature_norm` but for a factor, where nearly every unit is active or features are normalised."""
    if not {"nan", "feature_norm"} <= set(manifest.scores):
        return None
    pair = [outputs.scores[:, manifest.scores.index(name)].astype(np.float64) for name in ("nan", "feature_norm")]
    if len(outputs.scores) < 2 or not all(scores.std() > 0 for scores in pair):
        return None
    correlation = float(np.corrcoef(pair[0], pair[1])[0, 1])
    if correlation < ALIKE:
        return None
    return (
        f"nan says no more than feature_norm does of these images (correlation {correlation:.5f}): nearly as many units are "
        "active in each of them"
    )


def _make(model: onnx.ModelProto, *, precision: Precision, threads: int) -> Engine:
    return make_engine(model.SerializeToString(), precision, threads)


def _run(model: onnx.ModelProto, images: Images, make: MakeEngine, title: str, *, penultimate: bool = False) -> Outputs:
    return collect(make(model), images, penultimate=penultimate, title=title)
