"""ASH and SCALE: the energy after the largest activations of each image have reshaped all of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from export.detectors.base import Energy
from export.detectors.choosing import best
from export.detectors.interface import Array, Features, Fitted, Score, Training, check_temperature
from export.exceptions import ExportError
from export.graph.building import Graph
from export.graph.last_layers import LastLayers

_PERCENTILES = (95.0, 90.0, 85.0, 80.0, 75.0, 70.0, 65.0, 50.0, 35.0, 20.0)
_SMALLEST = 1e-12

Mask = npt.NDArray[np.bool_]
# TensorRT's TopK takes no more.
_LARGEST_K = 3840


@dataclass(frozen=True)
class ShapingSettings:
    """Attributes:
    percentile: of an image's own activations, below which they are pruned; None chooses by outliers. The papers' are 65 to
        95; the fewer features, the lower it must be.
    temperature: of the energy; the papers' is 1.
    """

    percentile: float | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        # Above 98 the factor exp(s1 / s2) could leave float32.
        if self.percentile is not None and not 0 < self.percentile <= 98:
            raise ValueError(f"percentile must be above 0 and at most 98, found {self.percentile:g}")
        check_temperature(self.temperature)


@dataclass(frozen=True)
class _Shaped(Fitted):
    """T logsumexp(g(s(a)) / T), g the last layers, s the shape that activations are given.

    Of the D activations the k = D - round(D p / 100) largest are kept, with all that equal the last of these, and of them
    those above 0; s1 is the sum of all activations, s2 that of the kept ones. Higher is more in-distribution. O(K D) and a
    selection; the last layers once more, whatever they are. The predicted class stays that of the raw logits. A row of
    zeros stays one.
    """

    settings = ShapingSettings()
    negative = ("meaningless", "the largest activations are no share of a sum that may cancel")
    kept: int  # k
    features: int  # D
    temperature: float
    layers: LastLayers

    @classmethod
    def fit(cls, training: Training) -> Self:
        given, size = training.settings_of(cls), training.penultimate.shape[1]
        percentiles = _PERCENTILES if given.percentile is None else (given.percentile,)
        numbers = dict.fromkeys(max(1, size - round(size * p / 100)) for p in percentiles)
        if any(min(kept, size - kept + 1) > _LARGEST_K for kept in numbers):
            raise ExportError(
                f"of {size} features at most {_LARGEST_K} can be kept, or pruned; choose another percentile"
            )
        return best((cls(kept, size, given.temperature, training.layers) for kept in numbers), training)

    @property
    def chosen(self) -> dict[str, float]:
        return {"percentile": round(100 * (1 - self.kept / self.features), 4)}

    def reference(self, logits: Features, penultimate: Features) -> Score:
        a = np.asarray(penultimate, dtype=np.float64)
        last = np.partition(a, -self.kept, axis=1)[:, -self.kept, None]
        shaped = self._shape(a, (a >= last) & (a > 0))
        return Energy(self.temperature).reference(self.layers(shaped), shaped)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        """The last of the kept activations is sought from the end that it is nearer to."""
        largest = self.kept <= self.features - self.kept
        count = self.kept if largest else self.features - self.kept + 1
        ends = g.op("TopK", penultimate, g.constant(np.array([count])), axis=1, largest=int(largest))
        last = g.op("Gather", ends, g.constant(np.array([count - 1])), axis=1)
        mask = g.op("And", g.op("GreaterOrEqual", penultimate, last), g.op("Greater", penultimate, 0.0))
        shaped = self._build_shape(g, penultimate, g.op("Cast", mask, to=TensorProto.FLOAT))
        return Energy(self.temperature).build(g, self.layers.append(g, shaped), shaped)

    @abstractmethod
    def _shape(self, a: Array, mask: Mask) -> Array: ...

    @abstractmethod
    def _build_shape(self, g: Graph, a: str, mask: str) -> str: ...


class AshB(_Shaped):
    """T logsumexp(g(s(a)) / T) with s_i = s1 / n for the n kept activations, and 0 for the others.

    Djurisic et al. 2023, arXiv:2209.09858, section 3, ASH-B. Published code divides by k and also fills zeros where fewer
    than k activations are positive, which ones depends on the sort; here s1 is shared among those that are.
    """

    use = "Where which activations are large tells more than how large they are."

    def _shape(self, a: Array, mask: Mask) -> Array:
        return np.asarray(mask * (a.sum(axis=1, keepdims=True) / np.maximum(mask.sum(axis=1, keepdims=True), 1)))

    def _build_shape(self, g: Graph, a: str, mask: str) -> str:
        share = g.op("Div", g.reduce("ReduceSum", a), g.op("Max", g.reduce("ReduceSum", mask), 1.0))
        return g.op("Mul", mask, share)


class AshS(_Shaped):
    """T logsumexp(g(s(a)) / T) with s_i = a_i exp(s1 / s2) for the kept activations, and 0 for the others.

    Djurisic et al. 2023, arXiv:2209.09858, section 3, ASH-S.
    """

    use = "Wide networks trained with cross-entropy, ImageNet's above all."

    def _shape(self, a: Array, mask: Mask) -> Array:
        return np.asarray(mask * a * _factor(a, mask))

    def _build_shape(self, g: Graph, a: str, mask: str) -> str:
        return g.op("Mul", g.op("Mul", a, mask), _build_factor(g, a, mask))


class Scale(_Shaped):
    """T logsumexp(g(s(a)) / T) with s_i = a_i exp(s1 / s2) for all activations.

    Xu et al. 2024, arXiv:2310.00227, eq. 4: nothing is pruned, so that the prediction stays what it is.
    """

    use = "As `ash-s`, which it betters in most published comparisons."

    def _shape(self, a: Array, mask: Mask) -> Array:
        return a * _factor(a, mask)

    def _build_shape(self, g: Graph, a: str, mask: str) -> str:
        return g.op("Mul", a, _build_factor(g, a, mask))


def _factor(a: Array, mask: Mask) -> Array:
    """exp(s1 / s2), of rows (N, D): (N, 1)."""
    return np.asarray(
        np.exp(a.sum(axis=1, keepdims=True) / np.maximum((a * mask).sum(axis=1, keepdims=True), _SMALLEST))
    )


def _build_factor(g: Graph, a: str, mask: str) -> str:
    kept = g.op("Max", g.reduce("ReduceSum", g.op("Mul", a, mask)), _SMALLEST)
    return g.op("Exp", g.op("Div", g.reduce("ReduceSum", a), kept))
