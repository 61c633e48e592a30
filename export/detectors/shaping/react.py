"""ReAct: the energy of the logits that follow from rectified activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.detectors.base import Energy
from export.detectors.interface import Features, Fitted, Score, Training, check_temperature
from export.exceptions import ExportError
from export.graph.building import Graph
from export.graph.last_layers import LastLayers


@dataclass(frozen=True)
class ReactSettings:
    """Attributes:
    percentile: of all activations of the training images; 90 is the paper's for CIFAR and ImageNet (section 4).
    temperature: of the energy; the paper's is 1.
    """

    percentile: float = 90.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile must be above 0 and at most 100, found {self.percentile:g}")
        check_temperature(self.temperature)


@dataclass(frozen=True)
class React(Fitted):
    """T logsumexp(g(min(a, c)) / T), g the last layers and c a percentile of the training activations.

    Sun et al. 2021, arXiv:2111.12797, eq. 2 and 8 with the energy score. Higher is more in-distribution. O(K D): the last
    layers once more, whatever they are. The predicted class stays that of the raw logits.
    """

    settings = ReactSettings()
    negative = ("weaker", "it clips the large ones and leaves negative ones as large")
    use = "Where unknown images drive a few activations high, as networks with batch normalisation often do."
    clip: float
    temperature: float
    layers: LastLayers

    @classmethod
    def fit(cls, training: Training) -> React:
        settings = training.settings_of(cls)
        activations = training.penultimate
        # One of the activations themselves, so that float32 holds it exactly.
        clip = float(np.percentile(activations, settings.percentile, method="higher"))
        if clip <= activations.min():
            raise ExportError(
                f"react.percentile={settings.percentile:g} of the activations is their smallest, {clip:g}: "
                "everything would be clipped; raise it"
            )
        return cls(clip, settings.temperature, training.layers)

    def reference(self, logits: Features, penultimate: Features) -> Score:
        rectified = self.rectify(np.asarray(penultimate, dtype=np.float64))
        return Energy(self.temperature).reference(self.layers(rectified), rectified)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        rectified = self.build_rectified(g, penultimate)
        return Energy(self.temperature).build(g, self.layers.append(g, rectified), rectified)

    def rectify(self, penultimate: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """min(a, c), in the precision of a."""
        return np.asarray(np.minimum(penultimate, penultimate.dtype.type(self.clip)))

    def build_rectified(self, g: Graph, penultimate: str) -> str:
        """min(a, c) in the graph."""
        return g.op("Min", penultimate, self.clip)
