"""The six base scores, which every exported file has; one without logits has the two of them that look at features.

All are finite for finite input of any magnitude. In the graph, what two scores have in common, such as the softmax, is
computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from onnx import TensorProto

from export.detectors.interface import Detector, Features, Score
from export.graph.building import Graph
from runtime import scores


@dataclass(frozen=True)
class Msp(Detector):
    """Maximum softmax probability, max_k softmax(f)_k, in [1/K, 1] (Hendrycks & Gimpel 2017)."""

    use = "The baseline; the gate of a network trained with LogitNorm."

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return scores.msp(logits)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        return build_max_probability(g, logits)


@dataclass(frozen=True)
class MaxLogit(Detector):
    """Maximum logit, max_k f_k (Hendrycks et al. 2022)."""

    use = "With many classes, some of them alike, where probability is shared among them."

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return scores.max_logit(logits)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        return g.reduce("ReduceMax", logits)


@dataclass(frozen=True)
class Energy(Detector):
    """Negative free energy, T logsumexp(f / T) (Liu et al. 2020); GReg's S_En is its negation."""

    use = "The gate of a network trained with Energy loss or GReg."
    temperature: float = 1.0

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return scores.energy(logits, self.temperature)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        """max f - T log max softmax(f / T)."""
        log = _scaled(g, g.op("Log", build_max_probability(g, logits, self.temperature)), self.temperature)
        return g.op("Sub", g.reduce("ReduceMax", logits), log)


@dataclass(frozen=True)
class JointEnergy(Detector):
    """Label-wise joint energy, sum_k log(1 + exp f_k), positive (Wang et al. 2021; SNoJoE eq. 9-10)."""

    use = "The gate of multi-label networks."

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return scores.joint_energy(logits)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        """sum_k max(f_k, 0) + log(1 + e) with e = exp(-|f_k|).

        In float32, 1 + e rounds to u. The lost e - (u - 1) is computed exactly and added to log u, so that the sum
        keeps its relative precision where all labels are improbable, which is where multi-label images are rejected.
        """
        e = g.op("Exp", g.op("Neg", g.op("Abs", logits)))
        u = g.op("Add", e, 1.0)
        lost = g.op("Sub", e, g.op("Sub", u, 1.0))
        softplus = g.op("Sum", g.op("Relu", logits), g.op("Log", u), lost)
        return g.reduce("ReduceSum", softplus)


@dataclass(frozen=True)
class FeatureNorm(Detector):
    """Feature norm, ||a||_1 (NAN section 3)."""

    of_features = True
    use = "To see what the count of active features adds to it in `nan`; rarely the best gate."

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return scores.feature_norm(penultimate)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        return g.reduce("ReduceL1", penultimate)


@dataclass(frozen=True)
class Nan(Detector):
    """Negative-aware norm, ||a||_1 / ||a||_0 with ||a||_0 = #{i: a_i > 0} (NAN eq. 9-10); 0 where no a_i > 0."""

    of_features = True
    use = "For networks with a projection head, or whose known images switch many activations off."
    negative = ("weaker", "how many are positive hardly differs among images")

    def reference(self, logits: Features, penultimate: Features) -> Score:
        return scores.negative_aware_norm(penultimate)

    def build(self, g: Graph, logits: str, penultimate: str) -> str:
        """The count c is min(c, 1) / max(c, 1) of the norm."""
        norm = FeatureNorm().build(g, logits, penultimate)
        count = g.reduce("ReduceSum", g.op("Cast", g.op("Greater", penultimate, 0.0), to=TensorProto.FLOAT))
        return g.op("Div", g.op("Mul", norm, g.op("Min", count, 1.0)), g.op("Max", count, 1.0))


BASE: dict[str, type[Detector]] = {
    "msp": Msp,
    "max_logit": MaxLogit,
    "energy": Energy,
    "joint_energy": JointEnergy,
    "nan": Nan,
    "feature_norm": FeatureNorm,
}


def base_scores(
    parameters: Mapping[str, Mapping[str, float]] | None = None, *, logits: bool = True, features: bool = True
) -> dict[str, Detector]:
    """:data:`BASE`, with the parameters of a manifest, such as ``{"energy": {"temperature": 0.1}}``.

    Without `logits` those that need none, and without `features` those that need no penultimate activations.
    """
    return {
        name: cast(Callable[..., Detector], kind)(**(parameters or {}).get(name, {}))
        for name, kind in BASE.items()
        if (features if kind.of_features else logits)
    }


def has_features(names: Sequence[str]) -> bool:
    """Whether the penultimate activations of a graph with these scores are what its logits are made of.

    Of one whose are not :func:`base_scores` are without those of features.
    """
    return any(kind.of_features for name, kind in BASE.items() if name in names)


def build_max_probability(g: Graph, logits: str, temperature: float = 1.0) -> str:
    """max softmax(f / T), in [1/K, 1]."""
    return g.reduce("ReduceMax", g.op("Softmax", _scaled(g, logits, 1 / temperature), axis=1))


def _scaled(g: Graph, tensor: str, factor: float) -> str:
    return tensor if factor == 1.0 else g.op("Mul", tensor, factor)
