"""Fitting: from a bundle's own outputs for training images to further columns of its ``scores``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
from tqdm import tqdm

from export import head
from export.detectors import DETECTORS
from export.detectors.interface import Detector, Training
from export.exceptions import ExportError
from export.graph import Graph
from export.inference import collect
from export.last_layers import LastLayers
from runtime.engines.interface import Engine
from runtime.manifest import Manifest
from train.data import read, short_name

Images = npt.NDArray[np.uint8]

_SAMPLE = 192  # images that graph and reference are compared on, and a third as many of noise
_TOLERANCE = 1e-3  # beyond this relative difference the graph computes something else
_LARGEST_FILE = 2**31 - 2**20  # bytes of a protobuf message, less some room for everything but constants


def observe(
    engine: Engine, layers: LastLayers, manifest: Manifest, names: Sequence[str], source: str | None
) -> tuple[Training, Images]:
    """The graph's outputs for the training images that the detectors `names` need, and some of the images.

    Raises:
        ExportError: no images though a detector needs them, or features that are not finite.
        DataError: images that can't be read, or, where labels are needed, of a class that the model does not have.
    """
    needs = {DETECTORS[name].needs for name in names}
    if needs == {"nothing"}:
        classes, features = len(manifest.labels), manifest.model.features
        none = np.empty((0, classes), np.float32), np.empty((0, features), np.float32)
        no_images = np.empty((0, manifest.input.height, manifest.input.width, 3), np.uint8)
        return Training(*none, labels=None, layers=layers), no_images
    if source is None:
        needing = next(name for name in names if DETECTORS[name].needs != "nothing")
        raise ExportError(f"{needing} is fitted: give training images, SOURCE")
    loaded = read(source, manifest.input)
    labels = None
    if "labels" in needs:
        if manifest.task != "multiclass":
            needing = next(name for name in names if DETECTORS[name].needs == "labels")
            raise ExportError(f"{needing} needs one label an image, and this model is {manifest.task}")
        if loaded.task != "multiclass":
            raise ExportError(f"{source}: images have any number of labels, and this model's have one")
        labels = cast(npt.NDArray[np.int64], loaded.with_classes(manifest.labels, source).labels)
    outputs = collect(engine, loaded.images, penultimate=True, title="features")
    assert outputs.penultimate is not None
    outliers = np.flatnonzero(~np.isfinite(np.hstack([outputs.logits, outputs.penultimate])).all(axis=1))
    if len(outliers):
        raise ExportError(
            f"{source}: {len(outliers)} of {len(loaded)} images have features that are not finite, such as "
            f"{loaded.names[outliers[0]]}; the model is unusable"
        )
    sample = loaded.images[:: -(-len(loaded.images) // _SAMPLE)].copy()
    return Training(outputs.logits, outputs.penultimate, labels, layers), sample


def fit(names: Sequence[str], examples: Training) -> dict[str, Detector]:
    """The detectors `names`, fitted, with a progress bar on a terminal.

    Raises:
        ExportError: naming the detector.
    """
    fitted = {}
    for name in tqdm(names, desc="fit", unit="detector", disable=None, leave=False):
        try:
            fitted[name] = examples.fit(DETECTORS[name])
        except ExportError as error:
            raise ExportError(f"{name}: {error}") from error
    return fitted


def attach(
    model: onnx.ModelProto, manifest: Manifest, fitted: Mapping[str, Detector], settings: Mapping[type[Detector], Any]
) -> Manifest:
    """Add fitted detectors to a graph, in place, instead of those of the same names; its manifest, without a gate.

    Raises:
        ExportError: the file would be larger than a file can be.
    """
    kept = [name for name in manifest.scores if name not in fitted]
    tensors = dict(zip(manifest.scores, head.columns(model), strict=True))
    g = Graph(model)
    added = [detector.build(g, head.LOGITS, head.PENULTIMATE) for detector in fitted.values()]
    head.set_columns(model, [*(tensors[name] for name in kept), *added])
    if (size := sum(len(tensor.raw_data) for tensor in model.graph.initializer)) > _LARGEST_FILE:
        raise ExportError(
            f"the graph would have {size / 1e9:.1f} GB and an ONNX file can't have more than 2; make the bank smaller by "
            "--set knn.bank=.."
        )
    parameters = {name: manifest.score_parameters[name] for name in kept if name in manifest.score_parameters}
    for name, detector in fitted.items():
        own: dict[str, float] = {}
        for kind in (type(detector), *detector.parts):
            own |= dataclasses.asdict(settings[kind]) if kind in settings else {}
        parameters |= {name: own} if own else {}
    return dataclasses.replace(
        manifest, scores=(*kept, *fitted), score_parameters=parameters, gate=None, calibration=None
    )


def verify(engine: Engine, sample: Images, fitted: Mapping[str, Detector], manifest: Manifest) -> dict[str, float]:
    """Largest difference between the graph's scores and the float64 references, on a sample of images and on noise.

    Relative to the reference's magnitude, or to its median magnitude where it is smaller than that: a score that is a
    difference of two terms passes through zero.

    Raises:
        ExportError: a difference that rounding does not explain.
    """
    noise = np.random.default_rng(0).integers(0, 256, (_SAMPLE // 3, *sample.shape[1:]), dtype=np.uint8)
    outputs = collect(engine, np.concatenate([sample, noise]), penultimate=True, title="verify")
    assert outputs.penultimate is not None
    found = {}
    for name, detector in fitted.items():
        reference = detector.reference(outputs.logits, outputs.penultimate)
        scale = np.maximum(np.abs(reference), np.median(np.abs(reference))) + np.finfo(np.float32).tiny
        difference = np.abs(outputs.scores[:, manifest.scores.index(name)] - reference) / scale
        found[name] = float(difference.max())
        if not found[name] <= _TOLERANCE:
            raise ExportError(
                f"{name}: the graph differs from the float64 reference by {found[name]:.2g} (relative); "
                "the features are of a range that float32 can't handle"
            )
    return found


def with_provenance(
    manifest: Manifest,
    fitted: Mapping[str, Detector],
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
