"""What a detector is: computed twice, in numpy and in the graph; most are fitted on the features of training images first.

To add one, write its file, with its formula, its source and what the score means, and its line in
:data:`export.detectors.DETECTORS`.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt

from export.exceptions import NotApplicable
from export.graph.building import Graph
from export.graph.last_layers import LastLayers
from train.data import Labels

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating]
Score = npt.NDArray[np.float64]

_ROWS = 4096
ONE_LABEL = "it takes an image to have exactly one label, and this model gives any number"


class Detector(ABC):
    """A column of ``scores``, a frozen dataclass of its parameters; HIGHER SCORES MEAN MORE IN-DISTRIBUTION.

    Attributes:
        use: a sentence on when to use it.
        of_features: whether it looks at the penultimate activations alone, and so needs no logits.
        of_one_label: whether it takes an image to have exactly one label, by a softmax over them or by the class of the
            largest logit, and so means nothing where it may have several.
        negative: for one that takes features to be at least 0, what it is where they are not, and why.
    """

    use: ClassVar[str]
    of_features: ClassVar[bool] = False
    of_one_label: ClassVar[bool] = False
    negative: ClassVar[tuple[Literal["weaker", "meaningless"], str] | None] = None

    @abstractmethod
    def reference(self, logits: Features, penultimate: Features) -> Score:
        """The score in float64, (N,), of logits f (N, K) and penultimate activations a (N, D).

        Of a model without classes K is 0.
        """

    @abstractmethod
    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        """Append the same in float32 to a graph; returns the name of a column (N, 1).

        Operators are ones that ONNX Runtime, TensorRT, TensorRT-RTX and OpenVINO all take.
        """


class Fitted(Detector):
    """A detector whose parameters come from training images, or from the network's last layers.

    Attributes:
        needs: what :meth:`fit` looks at beside the last layers: nothing, training images' outputs, or their labels too.
        linear: whether the last layers must be one plain linear layer.
        settings: the hyperparameters' defaults, a frozen dataclass; None where there are none. One that is None is chosen
            by outliers.
        parts: the detectors that this one is composed of; their hyperparameters are its own.
    """

    needs: ClassVar[Literal["nothing", "features", "labels"]] = "features"
    linear: ClassVar[bool] = False
    settings: ClassVar[Any] = None
    parts: ClassVar[tuple[type[Fitted], ...]] = ()

    @classmethod
    @abstractmethod
    def fit(cls, training: Training) -> Fitted:
        """Parameters from the outputs of training images.

        Raises:
            ExportError: features, or last layers, from which they don't follow.
        """

    @property
    def chosen(self) -> dict[str, float]:
        """The hyperparameters that the fit may have chosen, by name."""
        return {}


F = TypeVar("F", bound=Fitted)


@dataclass(frozen=True, eq=False)
class Observed:
    """Outputs for a set of images: float32 (m, K) and (m, D)."""

    logits: npt.NDArray[np.float32]
    penultimate: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Training:
    """What a bundle's own graph outputs for training images, and how to fit.

    Attributes:
        logits, penultimate: float32 (n, K) and (n, D), finite; n = 0 where no detector needs them.
        labels: classes of the model, where a detector needs them: int64 (n,), or multi-hot bool (n, K).
        last_layers: from penultimate to logits; None where the logits need more than them.
        seed: of everything random.
        settings: hyperparameters by detector, where they are not the defaults.
        outliers: sets that hyperparameters are chosen by, by name.
    """

    logits: npt.NDArray[np.float32]
    penultimate: npt.NDArray[np.float32]
    labels: Labels
    last_layers: LastLayers | None
    seed: int = 0
    settings: Mapping[type[Fitted], Any] = field(default_factory=dict)
    outliers: Mapping[str, Observed] = field(default_factory=dict)
    _fitted: dict[type[Fitted], Fitted] = field(default_factory=dict, init=False)

    @property
    def layers(self) -> LastLayers:
        """Those between penultimate and logits.

        Raises:
            NotApplicable: the logits need more than the penultimate activations.
        """
        if self.last_layers is None:
            raise NotApplicable(
                "it needs the last layers, and the logits are no function of the penultimate activations alone: export the "
                "model with what its last layer reads as its second output"
            )
        return self.last_layers

    @cached_property
    def negative_share(self) -> float:
        """:func:`negative_share` of the features."""
        return negative_share(self.penultimate)

    def fit(self, kind: type[F]) -> F:
        """A detector fitted to these features; once, whoever asks.

        Raises:
            NotApplicable: it takes an image to have one label, and these may have several.
        """
        if kind.of_one_label and self.labels.ndim == 2:
            raise NotApplicable(ONE_LABEL)
        if kind not in self._fitted:
            self._fitted[kind] = kind.fit(self)
        return cast(F, self._fitted[kind])

    def settings_of(self, kind: type[Fitted]) -> Any:
        """The hyperparameters of a detector."""
        return self.settings.get(kind, kind.settings)

    def parameters_of(self, detector: Fitted) -> dict[str, float]:
        """The hyperparameters of a detector and of its parts, by name, as a manifest has them."""
        settings = map(self.settings_of, (type(detector), *detector.parts))
        given = {name: value for one in settings if one for name, value in dataclasses.asdict(one).items()}
        return given | detector.chosen

    def with_penultimate(self, penultimate: npt.NDArray[np.float32]) -> Training:
        """The same images with other activations; nothing can be chosen by outliers, which keep theirs."""
        return dataclasses.replace(self, penultimate=penultimate, outliers={})


def check_temperature(temperature: float) -> None:
    """Raises ValueError for a temperature that no energy can have."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive, found {temperature:g}")


def float64_rows(features: Features) -> Iterator[tuple[slice, Array]]:
    """A large array in float64, a few thousand rows at a time, each with their place."""
    for rows in chunks(len(features)):
        yield rows, np.asarray(features[rows], dtype=np.float64)


def chunks(count: int) -> Iterator[slice]:
    """`count` rows, a few thousand at a time."""
    return (slice(start, start + _ROWS) for start in range(0, count, _ROWS))


def negative_share(features: Features) -> float:
    """sum max(-a, 0) / sum |a| of features (n, D): 0 behind a ReLU, about a half behind a LayerNorm; 0 of none."""
    sums = [(np.maximum(-a, 0).sum(), np.abs(a).sum()) for _, a in float64_rows(features)]
    negative, all_together = np.sum(sums, axis=0) if sums else (0.0, 0.0)
    return float(negative / all_together) if all_together > 0 else 0.0
