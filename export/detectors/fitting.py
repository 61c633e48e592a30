"""Fitting: from a bundle's own outputs for training images to further columns of its ``scores``."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from tqdm import tqdm

from export.detectors import DETECTORS, columns
from export.detectors.interface import ONE_LABEL, Fitted, Observed, Training
from export.detectors.sign import is_meaningless, objection
from export.exceptions import ExportError, NotApplicable
from export.graph.last_layers import LastLayers
from export.images import outliers
from export.images.inference import collect
from export.images.leakage import record
from runtime.engines.interface import Engine, Outputs
from runtime.manifest import Manifest, Task
from train.data import Images, ImageSet, Reading, SelectedImages, read, short_name

_OUTLIERS = 500  # of each set
_SAMPLE = 192  # images that graph and reference are compared on, and a third as many of noise
_TOLERANCE = 1e-3  # beyond this relative difference the graph computes something else
_LABELS: dict[Task, str] = {
    "multiclass": "one label an image",
    "multilabel": "any number of labels an image",
    "unlabelled": "no labels",
}
_LARGEST_FILE = 2**31 - 2**20  # bytes of a protobuf message, less some room for everything but constants


def training_images(
    names: Sequence[str],
    manifest: Manifest,
    source: str | None,
    *,
    reading: Reading = Reading(),  # noqa: B008  frozen
) -> ImageSet | None:
    """The images that the detectors `names` are fitted on, labelled if one of them needs labels; None if none needs any.

    Raises:
        ExportError: no source though a detector needs one; for a model of several labels an image a detector that takes it to
            have one, or images of one label each where labels are needed; for a model without classes a detector that looks
            at logits.
        DataError: images that can't be read, or, where labels are needed, of a class that the model does not have.
    """
    needing = [name for name in names if DETECTORS[name].needs != "nothing"]
    unlabelled = manifest.task == "unlabelled"
    labelled = [name for name in names if DETECTORS[name].needs == "labels" and not unlabelled]
    if impossible := [name for name in names if unlabelled and not DETECTORS[name].of_features]:
        raise ExportError(
            f"{impossible[0]} looks at logits or their layer, which {manifest.model.name} lacks, as it is unlabelled; fit "
            f"{', '.join(for_task('unlabelled'))}"
        )
    if manifest.task == "multilabel" and (single := [name for name in names if DETECTORS[name].of_one_label]):
        raise ExportError(f"{single[0]}: {ONE_LABEL}; fit {', '.join(for_task('multilabel'))}")
    if not needing:
        return None
    if source is None:
        raise ExportError(f"{needing[0]} is fitted: give training images, SOURCE")
    images = read(source, manifest.input, reading=reading, labels=manifest.labels)
    if labelled and images.task != manifest.task:
        expected, found = _LABELS[manifest.task], _LABELS[images.task]
        raise ExportError(
            f"{labelled[0]} needs {expected}, as the model gives, and the images of {source} have {found}"
        )
    return images.with_classes(manifest.labels, source) if labelled else images


def for_task(task: Task) -> list[str]:
    """The detectors that a model can have: without classes those of features alone, with several labels an image those that
    do not take it to have one."""
    if task == "unlabelled":
        return [name for name, kind in DETECTORS.items() if kind.of_features]
    return [name for name, kind in DETECTORS.items() if task == "multiclass" or not kind.of_one_label]


def observe(engine: Engine, manifest: Manifest, layers: LastLayers | None, images: ImageSet | None) -> Training:
    """The graph's own outputs for training images; none for None.

    Raises:
        ExportError: outputs that are not finite.
    """
    if images is None:
        logits, penultimate = (
            np.empty((0, size), np.float32) for size in (len(manifest.labels), manifest.model.features)
        )
        return Training(logits, penultimate, np.empty(0, np.int64), layers)
    outputs, penultimate = _run(engine, images.images, "features")
    finite = np.isfinite(outputs.logits).all(axis=1) & np.isfinite(penultimate).all(axis=1)
    unusable = np.flatnonzero(np.logical_not(finite))
    if len(unusable):
        raise ExportError(
            f"{len(unusable)} of {len(images)} training images have features that are not finite, such as "
            f"{images.names[unusable[0]]}; the model is unusable"
        )
    labels = images.labels if manifest.labels else np.zeros(len(images), np.int64)  # without classes all are of one
    return Training(outputs.logits, penultimate, labels, layers)


def settings_for(manifest: Manifest) -> dict[type[Fitted], Any]:
    """The hyperparameters of every detector that has some: the defaults, with the temperature of the bundle's energy."""
    settings = {kind: kind.settings for kind in DETECTORS.values() if kind.settings}
    temperature = manifest.score_parameters.get("energy", {}).get("temperature", 1.0)
    for kind, defaults in settings.items():
        if hasattr(defaults, "temperature"):
            settings[kind] = dataclasses.replace(defaults, temperature=temperature)
    return settings


def strange(
    engine: Engine, manifest: Manifest, images: Images, aux: Sequence[str], reading: Reading
) -> tuple[Manifest, dict[str, Observed]]:
    """Sets of outliers, to choose hyperparameters by: auxiliary ones, which are recorded, or made of training images."""
    if aux:
        sets = outliers.auxiliary(aux, manifest.input, _OUTLIERS, reading)
        for name, part in sets.items():
            manifest = record(manifest, f"fit, {name}", name, part)
    else:
        order = np.random.default_rng(1).permutation(len(images))[:_OUTLIERS]
        sets = outliers.synthetic(SelectedImages(images, np.sort(order))[:])
    found = {name: _run(engine, part, name) for name, part in sets.items()}
    return manifest, {name: Observed(outputs.logits, penultimate) for name, (outputs, penultimate) in found.items()}


def fit(names: Sequence[str], examples: Training, *, skip: Container[str] = ()) -> tuple[dict[str, Fitted], list[str]]:
    """The detectors `names`, fitted, with a progress bar on a terminal; without those of `skip` that can't be fitted here.

    Returns:
        the detectors by name, and a line for each that was left out.

    Raises:
        ExportError: naming the detector.
    """
    fitted, left_out = {}, []
    for name in tqdm(names, desc="fit", unit="detector", disable=None, leave=False):
        kind = DETECTORS[name]
        try:
            if is_meaningless(kind, examples.negative_share):
                raise NotApplicable(str(objection(name, kind, examples.negative_share)).removeprefix(f"{name} "))
            fitted[name] = examples.fit(kind)
        except ExportError as error:
            if name not in skip:
                raise ExportError(f"{name}: {error}") from error
            left_out.append(f"left out: {name}: {error}")
    return fitted, left_out


def with_scores(
    model: onnx.ModelProto, manifest: Manifest, fitted: Mapping[str, Fitted], training: Training
) -> Manifest:
    """Add fitted detectors to a graph, in place, instead of those of the same names; its manifest, without a gate.

    Raises:
        ExportError: the file would be larger than a file can be.
    """
    names = columns.attach(model, fitted, manifest.scores)
    if (size := sum(len(tensor.raw_data) for tensor in model.graph.initializer)) > _LARGEST_FILE:
        raise ExportError(
            f"the graph would have {size / 1e9:.1f} GB and an ONNX file can't have more than 2; make the bank smaller by "
            "--set knn.bank=.."
        )
    parameters = {name: own for name, own in manifest.score_parameters.items() if name not in fitted}
    parameters |= {name: own for name, kind in fitted.items() if (own := training.parameters_of(kind))}
    return dataclasses.replace(manifest, scores=names, score_parameters=parameters, gate=None)


def verify(
    engine: Engine, images: ImageSet | None, fitted: Mapping[str, Fitted], manifest: Manifest
) -> dict[str, float]:
    """Largest relative difference between the graph's scores and the float64 references, on some images and on noise.

    Raises:
        ExportError: a difference that rounding does not explain.
    """
    shape = (_SAMPLE // 3, manifest.input.height, manifest.input.width, 3)
    sample = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if images is not None:
        sample = np.concatenate([sample, images.images[:: -(-len(images) // _SAMPLE)]])
    outputs, penultimate = _run(engine, sample, "verify")
    scores = outputs.scores[:, [manifest.scores.index(name) for name in fitted]]
    _, found = columns.verify(fitted, scores, outputs.logits, penultimate)
    for name, difference in found.items():
        if not difference <= _TOLERANCE:
            raise ExportError(
                f"{name}: the graph differs from the float64 reference by {difference:.2g} (relative); "
                "the features are of a range that float32 can't handle"
            )
    return found


def with_provenance(
    manifest: Manifest,
    fitted: Mapping[str, Fitted],
    source: str | None,
    images: int,
    seed: int,
    differences: Mapping[str, float],
) -> Manifest:
    """The manifest with what each detector was fitted on, and the outcome of :func:`verify`."""
    detectors = dict(manifest.provenance.get("detectors", {}))
    for name, detector in fitted.items():
        detectors[name] = {"max_score_difference": differences[name]}
        if detector.needs != "nothing" and source is not None:
            detectors[name] |= {"source": short_name(source), "images": images, "seed": seed}
    return dataclasses.replace(manifest, provenance={**manifest.provenance, "detectors": detectors})


def _run(engine: Engine, images: Images, title: str) -> tuple[Outputs, npt.NDArray[np.float32]]:
    """Outputs, and the penultimate activations among them."""
    outputs = collect(engine, images, penultimate=True, title=title)
    if outputs.penultimate is None:
        raise ExportError("the graph does not output its penultimate activations")
    return outputs, outputs.penultimate
