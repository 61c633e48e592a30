"""The alarm: bets against the calibration set that stay fair on a stream without end.

The null hypothesis is that traffic is exchangeable with the calibration images. The law of a block of bin counts, given
all counts before it, is then known exactly, calibration error included: Dirichlet-multinomial, with the weights m_b of
:class:`serving.drift.reference.Reference` plus what the stream has added to them (Polya's urn). A bet is another
Dirichlet-multinomial law, tilted towards what drift looks like. The ratio L of the two has expectation 1 under the
null, so betting against calibrated traffic earns nothing on average.

Change. Each bet keeps R <- (R + w) L for a block of w images: the sum of the gains of all bettors who started at any
time before, one an image. R minus the number of images is a martingale, which bounds false alarms without assumptions
on the scores: the mean number of images to one is at least A when the alarm is R >= A, and T images raise one with
probability at most T / A, however often one looks.

Mismatch. Each bet also keeps M <- M L, the gain of a bettor who started with the first image. M is a martingale that
starts at 1, so it reaches 1 / d, ever, with probability at most d (Ville's inequality). It sees sooner that traffic
never was like the calibration images, because there is one beginning and there are many moments for a change.

Sources: Shiryaev 1963 and Roberts 1966 (R); Shin, Ramdas & Rinaldo 2022, "E-detectors" (its validity for mixtures of
e-processes); Ville 1939; Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world" (betting against
conformal p-values).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.drift.reference import Reference

Floats = npt.NDArray[np.float64]

_log_gamma = np.frompyfunc(math.lgamma, 1, 1)

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

_MOST_BETTORS = 1000  # that a block brings, lest one huge block ring by their number alone; fewer keep the bound

_LN10 = math.log(10)
_MISMATCH = math.log(1000)  # 1 / d: a false alarm of mismatch in a thousand streams
_CLEARED = math.log(1000)  # the alarm ends when the evidence is this far below its level


@dataclass(frozen=True)
class Evidence:
    """The detector's state after some of the stream.

    Attributes:
        urn: (B,) images of the stream that the null has learned from: all but those of alarms.
        recent: (B,) a fading memory of the latest images.
        log_change: (J,) log R of each bet, minus infinity at first.
        log_mismatch: (J,) log M of each bet, 0 at first.
        alarm: whether the alarm is on.
        alarms: how often it went on.
    """

    urn: Floats
    recent: Floats
    log_change: Floats
    log_mismatch: Floats
    alarm: bool = False
    alarms: int = 0


class Detector:
    """Bets for one calibration set.

    Args:
        reference: its bins.
        requests_per_false_alarm: A, the least mean number of in-distribution images to a false alarm of change.
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
        bins, bets = len(self._slots), len(self._log_weights)
        return Evidence(np.zeros(bins), np.zeros(bins), np.full(bets, -np.inf), np.zeros(bets))

    def after(self, evidence: Evidence, counts: npt.NDArray[np.int64]) -> Evidence:
        """The state after another block of images.

        Args:
            evidence: before it.
            counts: (B,) images in each bin; the order of images in a block does not matter.
        """
        images = int(counts.sum())
        if images == 0:
            return evidence
        ratios = self.log_ratios(evidence, counts)
        # What a bet gains beyond the level is forfeited, which keeps the bounds and lets the alarm end when drift does.
        change = np.minimum(
            np.logaddexp(evidence.log_change, math.log(min(images, _MOST_BETTORS))) + ratios,
            self._level - self._log_weights,
        )
        mismatch = np.minimum(evidence.log_mismatch + ratios, _MISMATCH - self._log_weights)
        above = max(self._log_mixture(change) - self._level, self._log_mixture(mismatch) - _MISMATCH)
        alarm = above >= (-_CLEARED if evidence.alarm else 0.0)
        return Evidence(
            urn=evidence.urn if alarm else evidence.urn + counts,
            recent=evidence.recent * math.exp(-images / _MEMORY) + counts,
            log_change=change,
            log_mismatch=mismatch,
            alarm=bool(alarm),
            alarms=evidence.alarms + (alarm and not evidence.alarm),
        )

    def log_ratios(self, evidence: Evidence, counts: npt.NDArray[np.int64]) -> Floats:
        """(J,) log L of each bet for a block of images; exp of it has expectation 1 under the null."""
        null = self._slots + evidence.urn
        tilts = np.vstack([self._tilts, self._learned_tilt(evidence, null)])
        bets = null * tilts
        bets *= null.sum() / bets.sum(axis=1, keepdims=True)
        seen = np.flatnonzero(counts)
        bets, null, counts = bets[:, seen], null[seen], counts[seen]
        return np.asarray((_log_rising(bets, counts) - _log_rising(null, counts)).sum(axis=1))

    def change(self, evidence: Evidence) -> float:
        """log10 of R over its level A, from -log10(A) for no evidence at all; the alarm goes on at 0."""
        return max(self._log_mixture(evidence.log_change), 0.0) / _LN10 - self._level / _LN10

    def mismatch(self, evidence: Evidence) -> float:
        """log10 of M over its level, -3 before the first image; the alarm goes on at 0."""
        return (self._log_mixture(evidence.log_mismatch) - _MISMATCH) / _LN10

    def _log_mixture(self, log_values: Floats) -> float:
        return float(np.logaddexp.reduce(log_values + self._log_weights))

    def _learned_tilt(self, evidence: Evidence, null: Floats) -> Floats:
        probabilities = null / null.sum()
        recent = (evidence.recent + _PRIOR * probabilities) / (evidence.recent.sum() + _PRIOR)
        return np.asarray(1 - _LEARNED_SHARE + _LEARNED_SHARE * recent / probabilities)


def _log_rising(a: Floats, k: npt.NDArray[np.int64]) -> Floats:
    """log of a (a + 1) ... (a + k - 1): what k images add to a bin's Dirichlet-multinomial law; the totals cancel."""
    return np.asarray(_log_gamma(a + k) - _log_gamma(a), dtype=np.float64)


def _tilt(reference: Reference, exponent: float, share: float) -> Floats:
    """(B,) a bet's density, averaged over each bin."""
    ends = np.cumsum(reference.probabilities)
    ends[-1] = 1.0
    starts = np.append(0.0, ends[:-1])
    if exponent < 0:
        starts, ends = 1 - ends, 1 - starts
    mass: Floats = ends ** abs(exponent) - starts ** abs(exponent)
    return np.asarray(1 - share + share * mass / reference.probabilities)
