"""VRA: the energy of the logits that follow from activations rectified at both ends."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from onnx import TensorProto

from export.detectors.base import Energy
from export.detectors.choosing import best
from export.detectors.interface import Features, Fitted, Score, Training, check_temperature
from export.graph.building import Graph
from export.graph.last_layers import LastLayers

_LOW, _HIGH = (60.0, 50.0, 70.0, 30.0, 80.0), (90.0, 95.0, 85.0, 99.0)


@dataclass(frozen=True)
class VraSettings:
    """Attributes:
    low, high: percentiles of all activations of the training images; None chooses by outliers. The authors' are 60, and 90
        or 95, for CIFAR.
    temperature: of the energy; the paper's is 1.
    """

    low: float | None = None
    high: float | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            if value is not None and not 0 <= value <= 100:
                raise ValueError(f"{name} must be from 0 to 100, found {value:g}")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low must be below high, found {self.low:g} and {self.high:g}")
        check_temperature(self.temperature)


@dataclass(frozen=True)
class Vra(Fitted):
    """T logsumexp(g(s(a)) / T) with s(x) = 0 for x < l, x up to h, and h above, g the last layers.

    Xu et al. 2023, arXiv:2302.11716, eq. 8, and the authors' code; l and h are percentiles of the training activations.
    OpenOOD and pytorch-ood have l instead of 0 below l, the latter with percentiles of each feature by itself. Higher is
    more in-distribution. O(K D): the last layers once more, whatever they are. The predicted class stays that of the raw
    logits.
    """

    settings = VraSettings()
    negative = ("weaker", "it takes off the negative ones, which are evidence here")
    use = "As `react`, where unknown images also light many activations a little."
    low: float
    high: float
    temperature: float
    layers: LastLayers
    percentiles: tuple[float, float]

    @classmethod
    def fit(cls, training: Training) -> Vra:
        given = training.settings_of(cls)
        lows = [low for low in (_LOW if given.low is None else (given.low,)) if low < (given.high or 100)]
        highs = [high for high in (_HIGH if given.high is None else (given.high,)) if high > (given.low or 0)]
        # Of the activations themselves, so that float32 holds them exactly.
        ends = sorted({*lows, *highs})
        values = dict(zip(ends, np.percentile(training.penultimate, ends, method="higher").tolist(), strict=True))
        pairs = ((low, high) for low, high in product(lows, highs) if low < high)
        candidates = (
            cls(values[low], values[high], given.temperature, training.layers, (low, high)) for low, high in pairs
        )
        return best(candidates, training)

    @property
    def chosen(self) -> dict[str, float]:
        return dict(zip(("low", "high"), self.percentiles, strict=True))

    def reference(self, logits: Features, penultimate: Features) -> Score:
        a = np.asarray(penultimate, dtype=np.float64)
        shaped = np.where(a >= self.low, np.minimum(a, self.high), 0.0)
        return Energy(self.temperature).reference(self.layers(shaped), shaped)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        kept = g.op("Cast", g.op("GreaterOrEqual", penultimate, self.low), to=TensorProto.FLOAT)
        shaped = g.op("Mul", kept, g.op("Min", penultimate, self.high))
        return Energy(self.temperature).build(g, self.layers.append(g, shaped), shaped)
