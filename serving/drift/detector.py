"""The alarm: a Shiryaev-Roberts detector over bets against the calibration set, valid for streams without end.

The null hypothesis is that traffic is exchangeable with the calibration images. The law of a block of bin counts, given
all counts before it, is then known exactly, calibration error included: Dirichlet-multinomial, with the weights m_b of
:class:`serving.drift.reference.Reference` plus what the stream has added to them (Polya's urn). A bet is another
Dirichlet-multinomial law, tilted towards what drift looks like. The ratio L of the two has expectation 1 under the
null, so betting against calibrated traffic earns nothing on average.

Each bet keeps R <- (R + w) L for a block of w images: the sum of the gains of all bettors who started at any time
before. R minus the number of images is a martingale, which bounds false alarms without assumptions on the scores: the
mean number of images to a false alarm is at least A when the alarm is R >= A, and a stream of T images raises one with
probability at most T / A, however often one looks.

Sources: Shiryaev 1963 and Roberts 1966 (the statistic); Shin, Ramdas & Rinaldo 2022, "E-detectors" (its validity for
mixtures of e-processes); Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world" (betting against
conformal p-values).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.drift.reference import Reference

Floats = npt.NDArray[np.float64]

# Bets: (weight, exponent a, share e) says that a share e of the images has p-values of density a p^(a - 1); a negative
# exponent says the same of 1 - p. Gains shrink where the true share is under about half of e, so 0.04 is also the
# tolerance: what is smaller than about 2 % never becomes an alarm.
_BETS = (
    *((0.1, a, e) for a in (0.12, 0.35) for e in (0.04, 0.12, 0.35, 0.8)),
    *((0.05, -a, e) for a in (0.2,) for e in (0.12, 0.5)),
)
_LEARNED = 0.1  # the weight of the bet that the next images are like the latest, whatever they are like
_LEARNED_SHARE = 0.5
_MEMORY = 200.0  # images over which the learned bet forgets
_PRIOR = 20.0  # images' worth of calibration in the learned bet

_CLEARED = math.log(1000)  # the alarm ends when the evidence is this far below its level


@dataclass(frozen=True)
class Evidence:
    """The detector's state after some of the stream.

    Attributes:
        urn: (B,) images of the stream that the null has learned from; none while there is an alarm.
        recent: (B,) a fading memory of the latest images.
        log_gains: (J,) log R of each bet, minus infinity at first.
        alarm: whether the alarm is on.
        alarms: how often it went on.
    """

    urn: Floats
    recent: Floats
    log_gains: Floats
    alarm: bool = False
    alarms: int = 0


class Detector:
    """Bets for one calibration set.

    Args:
        reference: its bins.
        requests_per_false_alarm: A, the least mean number of in-distribution images to a false alarm.
    """

    def __init__(self, reference: Reference, requests_per_false_alarm: float) -> None:
        if not requests_per_false_alarm > 1:
            raise ValueError(f"requests_per_false_alarm must be more than 1, found {requests_per_false_alarm}")
        self._slots = reference.slots
        self._tilts = np.array([_tilt(reference, a, share) for _, a, share in _BETS])
        self._log_weights = np.log([*(weight for weight, *_ in _BETS), _LEARNED])
        self._level = math.log(requests_per_false_alarm)

    def start(self) -> Evidence:
        """Before the first image."""
        return Evidence(
            np.zeros(len(self._slots)), np.zeros(len(self._slots)), np.full(len(self._log_weights), -np.inf)
        )

    def after(self, evidence: Evidence, counts: npt.NDArray[np.int64]) -> Evidence:
        """The state after another block of images.

        Args:
            evidence: before it.
            counts: (B,) images in each bin; the order of images in a block does not matter.
        """
        images = int(counts.sum())
        if images == 0:
            return evidence
        gains = np.logaddexp(evidence.log_gains, math.log(images)) + self.log_ratios(evidence, counts)
        # What R exceeds the level by is forfeited, which keeps the bound and lets the alarm end when drift does.
        gains = np.minimum(gains, self._level - self._log_weights)
        level = self._log_mixture(gains) - self._level
        alarm = level >= (-_CLEARED if evidence.alarm else 0.0)
        return Evidence(
            urn=evidence.urn if alarm else evidence.urn + counts,
            recent=evidence.recent * math.exp(-images / _MEMORY) + counts,
            log_gains=gains,
            alarm=bool(alarm),
            alarms=evidence.alarms + (alarm and not evidence.alarm),
        )

    def log_ratios(self, evidence: Evidence, counts: npt.NDArray[np.int64]) -> Floats:
        """(J,) log L of each bet for a block of images; exp of it has expectation 1 under the null."""
        null = self._slots + evidence.urn
        tilts = np.vstack([self._tilts, self._learned_tilt(evidence, null)])
        bets = null * tilts
        bets *= null.sum() / bets.sum(axis=1, keepdims=True)
        # Gamma(a + k) / Gamma(a) is the product of a + i over the k images of a bin; the totals are equal and cancel.
        where = np.repeat(np.arange(len(counts)), counts)
        earlier = np.arange(len(where)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.asarray(np.log((bets[:, where] + earlier) / (null[where] + earlier)).sum(axis=1))

    def log10_evidence(self, evidence: Evidence) -> float:
        """log10 of R over the alarm's level; the alarm goes on at 0."""
        return float(max(self._log_mixture(evidence.log_gains) - self._level, -self._level)) / math.log(10)

    def _log_mixture(self, log_gains: Floats) -> float:
        return float(np.logaddexp.reduce(log_gains + self._log_weights))

    def _learned_tilt(self, evidence: Evidence, null: Floats) -> Floats:
        probabilities = null / null.sum()
        recent = (evidence.recent + _PRIOR * probabilities) / (evidence.recent.sum() + _PRIOR)
        return np.asarray(1 - _LEARNED_SHARE + _LEARNED_SHARE * recent / probabilities)


def _tilt(reference: Reference, exponent: float, share: float) -> Floats:
    """(B,) a bet's density, averaged over each bin."""
    ends = np.cumsum(reference.probabilities)
    ends[-1] = 1.0
    starts = np.append(0.0, ends[:-1])
    if exponent < 0:
        starts, ends = 1 - ends, 1 - starts
    mass: Floats = ends ** abs(exponent) - starts ** abs(exponent)
    return np.asarray(1 - share + share * mass / reference.probabilities)
