"""A classifier to export, whatever it was made with: what is known of it, its graph, and itself to compare with.

One of the task ``unlabelled`` is an extractor of features: it has no labels and K = 0 logits.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.detectors.base import base_scores
from export.detectors.columns import attach
from export.graph.building import PENULTIMATE
from runtime.manifest import DataSpec, InputSpec, Manifest, ModelSpec, Precision, Task

Activations = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # logits (N, K), penultimate (N, D)
Answers = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]  # images [N, H, W, 3] -> logits (N, K)


@dataclass(frozen=True)
class Classifier(ABC):
    """A network with its logits and penultimate activations, and what the manifest says of it.

    Attributes:
        labels: class names, in the order of the logits.
        precision: of its layers.
        training: hyperparameters, sources and metrics of a checkpoint of ours, for its provenance.
        data: sketches of the images that it learned from, by role, as far as the checkpoint has them.
        remarks: what was found, taken or assumed while it was read, a line each.
    """

    arch: str
    method: str
    task: Task
    labels: tuple[str, ...]
    input: InputSpec
    precision: Precision = field(default="fp32", kw_only=True)
    training: dict[str, Any] = field(default_factory=dict, kw_only=True)
    data: dict[str, DataSpec] = field(default_factory=dict, kw_only=True)
    remarks: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    @abstractmethod
    def framework(self) -> str:
        """What runs it, as the verification calls it: ``torch``."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Number of learned weights."""

    @property
    def has_features(self) -> bool:
        """Whether its penultimate activations are what its logits are made of, so that scores of them tell of it."""
        return True

    @abstractmethod
    def graph(self) -> onnx.ModelProto:
        """``images`` uint8 [N, H, W, 3] -> ``logits`` float32 [N, K], ``penultimate`` float32 [N, D], N dynamic.

        Without labels there are no ``logits``.

        Raises:
            ExportError: it can't be expressed.
        """

    @abstractmethod
    def run(self, images: npt.NDArray[np.uint8]) -> Activations:
        """The classifier itself: images uint8 [N, H, W, 3] -> logits (N, K), penultimate (N, D)."""

    def behind(self, spec: InputSpec) -> Answers:
        """The same network behind another preprocessing."""
        other = dataclasses.replace(self, input=spec)
        return lambda images: other.run(images)[0]


def assemble(
    classifier: Classifier, name: str, score_parameters: Mapping[str, Mapping[str, float]]
) -> tuple[onnx.ModelProto, Manifest]:
    """The graph with the base scores that mean something for it, and its manifest, not yet calibrated.

    Args:
        classifier: what to export.
        name: what decisions call the model.
        score_parameters: keyword arguments of a score, such as ``{"energy": {"temperature": 0.1}}``.

    Raises:
        ExportError: the classifier can't be expressed as a graph.
    """
    model = classifier.graph()
    shapes = {output.name: output.type.tensor_type.shape for output in model.graph.output}
    base = base_scores(score_parameters, logits=bool(classifier.labels), features=classifier.has_features)
    names = attach(model, base)
    manifest = Manifest(
        model=ModelSpec(
            name=name,
            arch=classifier.arch,
            method=classifier.method,
            parameters=classifier.parameters,
            features=shapes[PENULTIMATE].dim[1].dim_value,
            precision=classifier.precision,
        ),
        task=classifier.task,
        labels=classifier.labels,
        input=classifier.input,
        scores=names,
        score_parameters={key: dict(value) for key, value in score_parameters.items() if key in base},
        data=dict(classifier.data),
    )
    return model, manifest
