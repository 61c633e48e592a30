"""The martingale by enumeration, the null by counting permutations, alarms by simulation."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from export import conformal
from serving.drift.detector import Detector, Evidence
from serving.drift.reference import Reference
from tests.p_values import p_values

FEW_BINS = Reference(edges=np.array([0.05, 0.3, 0.9, 1.0]), slots=np.array([1.0, 5.0, 12.0, 2.0]))


def blocks_of(images: int, bins: int) -> list[npt.NDArray[np.int64]]:
    """All count vectors with that many images."""
    counts = product(range(images + 1), repeat=bins)
    return [np.array(block) for block in counts if sum(block) == images]


def null_probability(reference: Reference, evidence: Evidence, block: npt.NDArray[np.int64]) -> float:
    """Dirichlet-multinomial, by scipy."""
    return float(stats.dirichlet_multinomial.pmf(block, reference.slots + evidence.urn, block.sum()))


@pytest.mark.parametrize("images", [1, 2, 5])
def test_bets_earn_nothing_on_average_under_the_null(images: int, rng: np.random.Generator) -> None:
    detector = Detector(FEW_BINS, 1000)
    evidence = detector.start()
    for _ in range(3):  # at the start, and after some of the stream
        blocks = blocks_of(images, 4)
        means = sum(null_probability(FEW_BINS, evidence, b) * np.exp(detector.log_ratios(evidence, b)) for b in blocks)
        np.testing.assert_allclose(means, 1, rtol=1e-12)
        evidence = detector.after(evidence, rng.multinomial(9, [0.2, 0.3, 0.4, 0.1]))


def test_ranks_of_new_scores_have_the_null_s_law() -> None:
    """Every order of 3 calibration and 3 new scores is equally likely: counted, slot by slot."""
    n, new = 3, 3
    seen: Counter[tuple[int, ...]] = Counter()
    for order in permutations(range(n + new)):
        calibration = np.sort(np.array(order[:n], dtype=float))
        p = p_values(np.array(order[n:], dtype=float), np.arange(1, n + 1), calibration)
        seen[tuple(np.bincount(np.round(p * (n + 1)).astype(int) - 1, minlength=n + 1).tolist())] += 1
    slots = Reference(edges=np.array([0.25, 0.5, 0.75, 1.0]), slots=np.ones(4))
    start = Detector(slots, 10).start()
    for block in blocks_of(new, n + 1):
        share = seen[tuple(block.tolist())] / math.factorial(n + new)
        assert share == pytest.approx(null_probability(slots, start, block))


def test_a_block_is_the_product_of_its_images() -> None:
    """Fixed tilts, by the Dirichlet-multinomial law itself."""
    detector = Detector(FEW_BINS, 1000)
    evidence = replace(detector.start(), urn=np.array([3.0, 0.0, 40.0, 7.0]))
    block = np.array([2, 0, 3, 1])
    null = FEW_BINS.slots + evidence.urn
    share, exponent = 0.04, 0.12  # the first bet
    starts, ends = np.array([0, 0.05, 0.3, 0.9]), np.array([0.05, 0.3, 0.9, 1.0])
    tilt = 1 - share + share * (ends**exponent - starts**exponent) / (ends - starts)
    bet = null * tilt * null.sum() / (null * tilt).sum()
    expected = stats.dirichlet_multinomial.logpmf(block, bet, 6) - stats.dirichlet_multinomial.logpmf(block, null, 6)
    assert detector.log_ratios(evidence, block)[0] == pytest.approx(expected)


def test_a_block_of_any_size() -> None:
    """What waited through an hour without a disk, at once."""
    detector = Detector(FEW_BINS, 1e7)
    evidence = detector.after(detector.start(), np.array([50_000, 250_000, 600_000, 100_000]) * 100)
    assert evidence.urn.sum() == 1e8
    assert not evidence.alarm
    assert detector.after(detector.start(), np.array([900_000, 50_000, 25_000, 25_000]) * 100).alarm


def test_change_grows_by_an_image_on_average_and_mismatch_not_at_all() -> None:
    """R - t and M are martingales, and the bets' weights add up to one bettor."""
    detector = Detector(FEW_BINS, 1e6)
    change, mismatch = 0.0, 0.0
    for first in blocks_of(3, 4):
        once = detector.after(detector.start(), first)
        for second in blocks_of(2, 4):
            twice = detector.after(once, second)
            probability = null_probability(FEW_BINS, detector.start(), first) * null_probability(FEW_BINS, once, second)
            change += probability * 10 ** detector.change(twice) * 1e6
            mismatch += probability * 10 ** detector.mismatch(twice) * 1000
    assert change == pytest.approx(3 + 2)
    assert mismatch == pytest.approx(1)


def test_nothing_happens_without_images() -> None:
    detector = Detector(FEW_BINS, 1000)
    start = detector.start()
    assert detector.after(start, np.zeros(4, dtype=int)) is start
    assert detector.change(start) == pytest.approx(-3)
    assert detector.mismatch(start) == pytest.approx(-3)


@pytest.mark.parametrize("requests", [0, 1, float("nan")])
def test_no_rate_of_false_alarms(requests: float) -> None:
    with pytest.raises(ValueError, match="requests_per_false_alarm must be more than 1"):
        Detector(FEW_BINS, requests)


# --- streams


class Stream:
    """p-values of one calibration set, through the runtime's own code, as bin counts."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        self.rng = rng
        self.ranks = conformal.stored_ranks(n)
        self.quantiles = np.sort(rng.random(n))[self.ranks - 1]
        self.reference = Reference.from_calibration(self.ranks.tolist(), self.quantiles.tolist())

    def block(self, images: int, ood: float = 0.0) -> npt.NDArray[np.int64]:
        """In-distribution images, and a share of others whose p-values gather at 0."""
        scores = np.where(self.rng.random(images) < ood, self.rng.beta(0.3, 1, images), self.rng.random(images))
        return self.counts(p_values(scores, self.ranks, self.quantiles))

    def counts(self, p_values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        bins = np.searchsorted(self.reference.edges, p_values)
        return np.bincount(bins, minlength=len(self.reference.edges))


def test_false_alarms_are_rarer_than_promised(rng: np.random.Generator) -> None:
    """40 streams of 10,000 images from small calibration sets, with one promised in 10,000."""
    alarms = 0
    for _ in range(40):
        stream = Stream(rng, 200)
        detector = Detector(stream.reference, 10_000)
        evidence = detector.start()
        for _ in range(100):
            evidence = detector.after(evidence, stream.block(100))
        alarms += evidence.alarms
    assert alarms <= 40


@pytest.mark.parametrize(("share", "within"), [(0.05, 6000), (0.5, 300)])
def test_drift_is_noticed_and_its_end_too(share: float, within: int, rng: np.random.Generator) -> None:
    for _ in range(5):
        stream = Stream(rng, 2500)
        detector = Detector(stream.reference, 1e7)
        evidence = detector.start()
        for _ in range(20):
            evidence = detector.after(evidence, stream.block(1000))
        assert not evidence.alarm
        for _ in range(within // 20):
            evidence = detector.after(evidence, stream.block(20, share))
        assert evidence.alarm
        learned = evidence.urn.sum()
        assert detector.after(evidence, stream.block(20, share)).urn.sum() == learned  # drift is no new normal
        for _ in range(100):
            evidence = detector.after(evidence, stream.block(100))
        assert not evidence.alarm
        assert evidence.urn.sum() > learned
        assert 1 <= evidence.alarms <= 3


def test_traffic_that_never_was_like_calibration(rng: np.random.Generator) -> None:
    """5 % of other images from the first one on: too little for an alarm of change with so few calibration images."""
    noticed = 0
    for _ in range(10):
        stream = Stream(rng, 5000)
        detector = Detector(stream.reference, 1e7)
        evidence = detector.start()
        blocks = (stream.block(100, 0.05) for _ in range(100))
        while not evidence.alarm and (block := next(blocks, None)) is not None:
            evidence = detector.after(evidence, block)
        noticed += evidence.alarm and detector.mismatch(evidence) >= 0 > detector.change(evidence)
    assert noticed >= 7


def test_one_image_over_and_over_is_drift_too(rng: np.random.Generator) -> None:
    stream = Stream(rng, 2500)
    detector = Detector(stream.reference, 1e7)
    evidence = detector.start()
    images = 0
    while not evidence.alarm:
        evidence = detector.after(evidence, stream.counts(np.full(1, 0.57)))
        images += 1
    assert images < 60


def test_traffic_that_is_too_usual_is_drift_too(rng: np.random.Generator) -> None:
    stream = Stream(rng, 2500)
    detector = Detector(stream.reference, 1e7)
    evidence = detector.start()
    for _ in range(50):
        evidence = detector.after(evidence, stream.counts(stream.rng.beta(2, 0.7, 20)))
    assert evidence.alarm
