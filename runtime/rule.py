"""The rule: the one place that accepts. Which thresholds an image meets, whether it does, its p-value and its label set."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from runtime.engines.interface import Outputs
from runtime.exceptions import CalibrationError, EngineError
from runtime.manifest import GateSpec, Manifest

Classes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Rule:
    """The decision at one operating point, from logits and scores.

    A class with a threshold of its own also has its own p-values, of the calibration images predicted as it (Mondrian
    conformal prediction; Vovk, Gammerman & Shafer 2005, section 4.5); the others share those of all images. So a
    rejection is always a p-value of at most alpha.

    Attributes:
        column: of the gate's score.
        selects: column of the score that an accepted image has to reach `least` in too; None where nothing bounds the error
            of accepted images.

    Args:
        labels: class names, in the order of the logits; none of a model without classes.
        scores: names of the scores, in the order of their columns.
        gate: at the operating point; its score, and that of its bound on the error, are among `scores`.
    """

    def __init__(self, labels: tuple[str, ...], scores: tuple[str, ...], gate: GateSpec) -> None:
        calibration = gate.calibration
        self.column = scores.index(gate.score)
        self.selects = None if gate.max_error is None else scores.index(gate.max_error.score)
        self.least = np.float32(-np.inf if gate.selection is None else gate.selection.threshold)
        self._thresholds = thresholds(labels, gate)
        self._all = _statistics(calibration.ranks, calibration.quantiles[gate.score])
        self._own = {
            labels.index(label): _statistics(calibration.classes[label].ranks, calibration.classes[label].quantiles)
            for label in gate.classes
        }

    @classmethod
    def of(cls, manifest: Manifest) -> Rule:
        """The rule at the operating point in a manifest.

        Raises:
            CalibrationError: it has none.
        """
        if manifest.gate is None:
            raise CalibrationError(f"{manifest.model.name} has no threshold yet: run oodgate calibrate BUNDLE SOURCE")
        return cls(manifest.labels, manifest.scores, manifest.gate)

    def accepts(self, logits: npt.NDArray[np.floating], scores: npt.NDArray[np.floating]) -> Flags:
        """Whether each image is accepted, bool (N,): it is :meth:`known`, and :meth:`certain`.

        Args:
            logits: (N, K); (N, 0) of a model without classes.
            scores: (N, S), higher is more in-distribution.
        """
        return np.asarray(self.known(logits, scores) & self.certain(scores))

    def known(self, logits: npt.NDArray[np.floating], scores: npt.NDArray[np.floating]) -> Flags:
        """Whether each image passes for in-distribution, bool (N,).

        It does when the gate's score reaches the threshold of the predicted class, every score is finite, and so is the
        largest logit. (Then no logit is NaN.) Arguments as of :meth:`accepts`.
        """
        meets = scores[:, self.column] >= self.thresholds(predicted(logits))
        finite = np.isfinite(scores).all(axis=1)
        return np.asarray(meets & finite & np.isfinite(logits.max(axis=1)) if logits.shape[1] else meets & finite)

    def certain(self, scores: npt.NDArray[np.floating]) -> Flags:
        """Whether each image reaches the threshold that bounds the error of accepted ones, bool (N,); all where none does."""
        if self.selects is None:
            return np.ones(len(scores), np.bool_)
        return np.asarray(scores[:, self.selects] >= self.least)

    def verified(self, outputs: Outputs) -> Flags:
        """What :meth:`accepts` says of a batch, bool (N,), where the graph says the same at its default operating point.

        Args:
            outputs: of a graph that this rule is the default of.

        Raises:
            EngineError: the graph's ``accept`` is not what follows from its logits and scores.
        """
        accepts = self.accepts(outputs.logits, outputs.scores)
        if outputs.accept is not None and not np.array_equal(outputs.accept, accepts):
            raise EngineError(
                f"the graph decides otherwise than the manifest's thresholds on {(outputs.accept != accepts).sum()} of "
                f"{len(accepts)} images; export the bundle again"
            )
        return accepts

    def thresholds(self, classes: Classes) -> npt.NDArray[np.float32]:
        """The threshold of each image, by its predicted class (N,)."""
        return self._thresholds[classes]

    def p_value(self, score: float, predicted: int) -> float:
        """The conformal p-value of an image (:func:`p_value`), from its gate score and class."""
        return p_value(score, *self._own.get(predicted, self._all))

    def p_value_among_all(self, score: float) -> float:
        """The conformal p-value of an image among all calibration images, whatever the classes."""
        return p_value(score, *self._all)


def predicted(logits: npt.NDArray[np.floating]) -> Classes:
    """The class of the largest logit, (N,); 0 for all images of a model without classes, which share one threshold."""
    return np.asarray(logits.argmax(axis=1) if logits.shape[1] else np.zeros(len(logits), np.int64))


def probabilities(
    logits: npt.NDArray[np.float32], temperature: float, multilabel: bool = False
) -> npt.NDArray[np.float64]:
    """The reported probabilities, float64 (N, K): softmax, or a sigmoid a label, of f / T."""
    f = np.divide(logits, temperature, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # infinite logits become NaN here, and their image is rejected
        if multilabel:
            return np.asarray(np.exp(-np.logaddexp(0, -f)))
        exponentials = np.exp(f - f.max(axis=1, keepdims=True, initial=-np.inf))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def label_set(probabilities: npt.NDArray[np.float64], least: float) -> list[int]:
    """The classes of a label set, the most probable first: all with a probability of at least `least`, and the first anyway.

    Args:
        probabilities: float64 (K,), of one image.
        least: the threshold of :class:`runtime.manifest.LabelSet`.
    """
    order = np.argsort(-probabilities, kind="stable")
    members: list[int] = order[: max(1, int((probabilities >= least).sum()))].tolist()
    return members


def thresholds(labels: tuple[str, ...], gate: GateSpec) -> npt.NDArray[np.float32]:
    """The threshold of each predicted class, float32 (K,); without classes that of all images, (1,)."""
    own = [gate.classes[label].threshold if label in gate.classes else gate.threshold for label in labels]
    return np.array(own or [gate.threshold], np.float32)


def p_value(score: float, ranks: Sequence[int], quantiles: Sequence[float]) -> float:
    """The conformal p-value of one score, (1 + #{calibration <= s}) / (n + 1), in [1 / (n + 1), 1].

    Where not every order statistic is stored, the count is rounded up to the next stored rank, which keeps
    P(p <= u) <= u for in-distribution images.

    Args:
        score: one that is not finite gets the smallest p-value.
        ranks: ascending 1-based ranks, the last is n.
        quantiles: calibration scores at these ranks, ascending.
    """
    if not math.isfinite(score):
        return 1 / (ranks[-1] + 1)
    at = bisect_right(quantiles, score)
    below = ranks[at] - 1 if at < len(ranks) else ranks[-1]
    return (1 + below) / (ranks[-1] + 1)


def _statistics(ranks: tuple[int, ...], quantiles: tuple[float, ...]) -> tuple[tuple[int, ...], list[float]]:
    """Ranks and quantiles, these rounded as the scores are that they are compared with."""
    return ranks, np.array(quantiles, dtype=np.float32).tolist()
