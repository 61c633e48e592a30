"""Are a classifier's outputs logits, and its other outputs the activations that they are made of?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from export.classifier import Activations
from export.detectors import DETECTORS
from export.exceptions import ExportError
from export.graph.last_layers import LastLayers
from runtime.manifest import Task

Array = npt.NDArray[np.float64]

_CONSTANT = 1e-6  # of their magnitude: what float32 can't tell from rounding
_SMALL = 1e-3  # logits of an image that lie closer than this say nearly nothing
_AFFINE = 1e-3  # of the logits' range: what an affine function of float32 may differ by
_CLIPPED = 0.1  # share of exact zeros among outputs of which none is negative
FEW = 8  # images too few to say that something is so in all of them


Relation = Literal["linear", "layers", "same", "affine", "unrelated", "unknown", "features"]

_LINEAR = ", ".join(name for name, kind in DETECTORS.items() if kind.linear)
_TAKEN = "the model's second output, or what its last layers read, taken as penultimate activations"
_BESIDE = (
    "nan and feature_norm are left out, detectors that need the last layers can't be fitted, and those of features say "
    "nothing of this classifier; let the model return (logits, the input of its last layer)"
)
RELATIONS: dict[Relation, str] = {
    "layers": f"the logits are no plain linear layer of the penultimate activations: {_LINEAR} can't be fitted",
    "same": "the penultimate activations are the logits again: nan, feature_norm and detectors of features see only them",
    "affine": (
        "the graph computes the logits beside the penultimate activations, though of these images they are affine in them: "
        "detectors that need the last layers can't be fitted"
    ),
    "unrelated": f"the logits are no function of {_TAKEN}: {_BESIDE}",
    "unknown": f"the graph does not make the logits of {_TAKEN}, as another head's would not: {_BESIDE}",
}
UNUSABLE: tuple[Relation, ...] = ("unrelated", "unknown")


def check_width(outputs: npt.NDArray[np.float32], labels: int, task: Task) -> None:
    """Raises ExportError for a number of outputs that is not that of the labels; one may stand for two classes."""
    width = 1 if outputs.ndim == 1 else outputs.shape[1]
    if width == 1 == labels and task == "multiclass":
        raise ExportError(
            "one output and one label leave nothing to tell apart: give the labels of both classes, that of a low output "
            "first, or --task multilabel"
        )
    if width != labels and (width, labels, task) != (1, 2, "multiclass"):
        raise ExportError(
            f"expected logits [N, {labels}] for {labels} labels, found {list(outputs.shape)}: other labels, or an embedding?"
        )


def check_values(outputs: npt.NDArray[np.float32], penultimate: npt.NDArray[np.float32]) -> None:
    """What no logits (N, K) can be, whatever the network.

    Raises:
        ExportError: values that are not finite or the same for every image or class, or rows of length 1.
    """
    for what, values in (("logits", outputs), ("penultimate activations", penultimate)):
        broken = int((~np.isfinite(values.reshape(len(values), -1)).all(axis=1)).sum())
        if broken:
            raise ExportError(
                f"{broken} of {len(values)} images have {what} that are not finite: an overflow of float16, or weights "
                "that are; the model is unusable"
            )
    rows = outputs.reshape(len(outputs), -1).astype(np.float64)
    limit = _CONSTANT * float(np.abs(rows).max())
    if len(rows) > 1 and np.ptp(rows, axis=0).max() <= limit:
        raise ExportError(
            f"the logits of {len(rows)} images are all the same: the weights are missing, or the input is normalised away"
        )
    if rows.shape[1] > 1 and np.ptp(rows, axis=1).max() <= limit:
        raise ExportError(
            f"every class has the same logit, in each of {len(rows)} images: the last layer is not trained"
        )
    if len(rows) >= FEW and rows.shape[1] > 2 and np.abs(np.linalg.norm(rows, axis=1) - 1).max() < _SMALL:
        raise ExportError(
            "the logits of every image have the length 1: an embedding, normalised, is no logits; let the model return "
            "what its last layer makes of it"
        )


def check_features(features: npt.NDArray[np.float32]) -> None:
    """Raises ExportError for values that no features can be: of another shape, not finite, or the same for every image."""
    if features.ndim != 2:
        raise ExportError(
            f"expected features [N, D], found {list(features.shape)}; let the model return one row an image"
        )
    broken = int((~np.isfinite(features).all(axis=1)).sum())
    if broken:
        raise ExportError(
            f"{broken} of {len(features)} images have features that are not finite; the model is unusable"
        )
    if len(features) > 1 and np.ptp(features, axis=0).max() <= _CONSTANT * float(np.abs(features).max()):
        raise ExportError(
            f"the features of {len(features)} images are all the same: the weights are missing, or the input is normalised "
            "away"
        )


def feature_remarks(features: npt.NDArray[np.float32]) -> Iterator[str]:
    """What is unusual in features (N, D) and may be a mistake, a line each."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1)
    if len(features) >= FEW and np.ptp(lengths) <= _SMALL * lengths.max():
        yield (
            "the features of every image have the same length: they are normalised, and nan and feature_norm see little of "
            "them; let the model return what is normalised, or fit ssd or knn"
        )


def value_remarks(logits: npt.NDArray[np.float32]) -> Iterator[str]:
    """What is unusual in logits (N, K) and may be a mistake, a line each."""
    spread = float(np.ptp(logits, axis=1).max()) if logits.shape[1] > 1 else np.inf
    if spread < _SMALL:
        yield (
            f"the logits of an image differ by {spread:.2g} at most: divided by a large temperature, or not trained; "
            "scores of them say nearly nothing"
        )
    if len(logits) < FEW or logits.min() < 0:
        return
    total = logits.sum(axis=1, dtype=np.float64)
    if logits.shape[1] > 1 and np.ptp(total) <= _SMALL * total.max():
        yield (
            f"no logit is negative and those of every image sum to {total.mean():.3g}: they look like probabilities times "
            "that; let the model return what goes into its softmax"
        )
    elif float((logits == 0).mean()) >= _CLIPPED:
        yield (
            f"no logit is negative and {100 * (logits == 0).mean():.0f} % are exactly 0: they look like features, or logits "
            "behind a ReLU, which hides by how much a class is improbable"
        )
    elif logits.max() <= 1:
        yield (
            "all logits lie between 0 and 1: if they are probabilities, let the model return what goes into its last "
            "activation"
        )


def relation(model: onnx.ModelProto, found: Activations) -> Relation:
    """How logits follow from the penultimate activations in a graph: what it computes, and where it does not, what they do.

    Args:
        model: its graph.
        found: logits (N, K) and penultimate (N, D) of the same images.

    Raises:
        ExportError: the two in the other order.
    """
    logits, penultimate = (part.astype(np.float64) for part in found)
    try:
        layers = LastLayers(model)
    except ExportError:
        if weights_between(model, (found[1], found[0])) is not None:
            raise ExportError(
                "the model's second output is a linear layer of its first: expected (logits, penultimate), found "
                "(penultimate, logits)"
            ) from None
        affine = affine_by_least_squares(logits, penultimate)
        return "unknown" if affine is None else "affine" if affine else "unrelated"
    if penultimate.shape == logits.shape and np.array_equal(penultimate, logits):
        return "same"
    return "linear" if layers.is_linear else "layers"


def weights_between(model: onnx.ModelProto, found: Activations) -> tuple[Array, Array] | None:
    """Weights (K, D) of the graph, with the bias (K,), that make the logits of the activations; None where none do.

    Those of a linear layer, either way round, or of a convolution: 1x1 with the logits pooled, or over its whole input. That
    they leave the same bias in every image proves it, however few there are; two at least.
    """
    logits, penultimate = (part.astype(np.float64) for part in found)
    shape = [logits.shape[1], penultimate.shape[1]]
    for tensor in model.graph.initializer:
        dims = [size for i, size in enumerate(tensor.dims) if i < 2 or size != 1]
        if len(dims) > 2 and dims[0] == shape[0]:  # a convolution over the whole of its input
            dims = [dims[0], math.prod(dims[1:])]
        if len(logits) < 2 or dims not in (shape, shape[::-1]):
            continue
        weights = numpy_helper.to_array(tensor).astype(np.float64).reshape(dims)
        for one in (weights, weights.T):
            if list(one.shape) == shape:
                rest = logits - penultimate @ one.T
                if np.ptp(rest, axis=0).max() <= _AFFINE * np.ptp(logits):
                    return one, rest.mean(axis=0)
    return None


def affine_by_least_squares(logits: Array, penultimate: Array) -> bool | None:
    """Whether an affine function fitted to one half of the rows predicts the other; None where they are too few to tell.

    With no more rows than activations and a bias anything is fitted exactly, and nothing is learned.
    """
    half = len(logits) // 2
    if half < 2 * (penultimate.shape[1] + 1):
        return None
    rows = np.column_stack([penultimate, np.ones(len(penultimate))])
    fitted, *_ = np.linalg.lstsq(rows[:half], logits[:half], rcond=None)
    return bool(np.abs(rows[half:] @ fitted - logits[half:]).max() <= _AFFINE * np.ptp(logits))
