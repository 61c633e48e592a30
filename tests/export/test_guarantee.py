"""The promise, simulated: over 2,000 calibration sets from known laws, the rejection rate that each of them realises.

The rate is exact, by the law's distribution function, not counted on further samples. For continuous scores it must be
distributed as Beta(k, n + 1 - k) with k = floor(alpha (n + 1)), and for any scores its mean is at most alpha.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from export import conformal
from export.calibrate.calibration import calibrate, max_rejection, tpr_interval
from export.detectors.combined.merged import fit, merge, p_values
from runtime.manifest import GateSpec, Manifest, MergeMethod, ModelSpec, PValueCurve
from tests.small import LABELS, SPEC

SETS = 2000
Array = npt.NDArray[np.float64]

LAWS: list[Any] = [stats.norm(3, 2), stats.t(2), stats.expon(), stats.beta(40, 0.7)]
MANIFEST = Manifest(ModelSpec("small", "net", "none", 10, 8), "multiclass", LABELS, SPEC, ("energy",))


def rejections(law: Any, n: int, alpha: float, rng: np.random.Generator) -> Array:
    """The rejection rate P(score < threshold) that each of many calibration sets realises."""
    samples = law.rvs((SETS, n), random_state=rng)
    thresholds = np.array([conformal.threshold(sample, alpha) for sample in samples])
    return np.asarray(law.cdf(np.nextafter(thresholds, -np.inf)))


def beta(n: int, alpha: float) -> Any:
    k = math.floor(alpha * (n + 1) + 1e-9)
    return stats.beta(k, n + 1 - k)


def share_is(found: npt.NDArray[np.bool_], expected: float) -> bool:
    """Whether a share of the sets is what it should be, up to 3.5 standard errors."""
    return bool(abs(found.mean() - expected) < 3.5 * math.sqrt(expected * (1 - expected) / SETS))


@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (150, 0.05), (150, 0.1), (500, 0.01)])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: str(law.dist.name))
def test_rejection_rates_follow_the_beta_law(law: Any, n: int, alpha: float, rng: np.random.Generator) -> None:
    rates = rejections(law, n, alpha, rng)
    assert rates.mean() <= alpha + 3.5 * rates.std() / math.sqrt(SETS)
    assert stats.kstest(rates, beta(n, alpha).cdf).pvalue > 0.005
    low, high = tpr_interval(n, alpha)
    assert share_is((low <= 1 - rates) & (1 - rates <= high), 0.95)
    assert share_is(rates > max_rejection(n, alpha), 0.05)


@pytest.mark.parametrize(
    "law", [stats.poisson(3), stats.randint(0, 4), stats.bernoulli(0.97)], ids=lambda law: str(law.dist.name)
)
def test_ties_only_lower_the_rejection_rates(law: Any, rng: np.random.Generator) -> None:
    n, alpha = 150, 0.05
    rates = np.sort(rejections(law, n, alpha, rng))
    assert rates.mean() <= alpha
    expected = beta(n, alpha).ppf((np.arange(SETS) + 0.5) / SETS)
    assert (rates <= expected + 0.01).all()
    assert (rates > max_rejection(n, alpha)).mean() <= 0.065


def test_constant_scores_reject_nothing(rng: np.random.Generator) -> None:
    assert conformal.threshold(np.full(100, 7.5), 0.05) == 7.5
    assert (rejections(stats.randint(7, 8), 100, 0.05, rng) == 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_calibrate_nothing(bad: float, rng: np.random.Generator) -> None:
    scores = rng.normal(size=(200, 1)).astype(np.float32)
    scores[17] = bad
    with pytest.raises(conformal.CalibrationError, match="1 of 200 calibration scores are not finite"):
        calibrate(MANIFEST, scores, "energy", 0.05)


# --- the guarantee for the set at hand (PAC)

# Just enough images for the lowest score to do, so that the share of bad sets is 5 % itself, and sets of every size.
PAC = [(59, 0.05), (150, 0.05), (400, 0.05), (100, 0.2)]


def pac_rejections(law: Any, n: int, alpha: float, confidence: float, rng: np.random.Generator) -> Array:
    samples = law.rvs((SETS, n), random_state=rng)
    k = conformal.rank(n, alpha, confidence)
    thresholds = np.partition(samples, k - 1, axis=1)[:, k - 1]
    assert [conformal.threshold(sample, alpha, confidence) for sample in samples[:5]] == thresholds[:5].tolist()
    return np.asarray(law.cdf(np.nextafter(thresholds, -np.inf)))


@pytest.mark.parametrize(("n", "alpha"), PAC)
def test_a_pac_threshold_keeps_alpha_in_95_of_100_sets_and_not_many_more(
    n: int, alpha: float, rng: np.random.Generator
) -> None:
    """The share of sets that break it is a binomial tail: at most 5 %, and no smaller than the next rank's would allow."""
    broken = pac_rejections(LAWS[0], n, alpha, 0.95, rng) > alpha
    k = next(k for k in range(n, 0, -1) if stats.binom.sf(k - 1, n, alpha) >= 0.95)  # P(at least k of n below)
    expected = stats.binom.cdf(k - 1, n, alpha)
    assert expected <= 0.05 < stats.binom.cdf(k, n, alpha)
    assert share_is(broken, expected)
    assert broken.mean() <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / SETS)


def test_a_pac_threshold_is_not_needlessly_loose(rng: np.random.Generator) -> None:
    assert 0.03 <= (pac_rejections(LAWS[0], 1000, 0.05, 0.95, rng) > 0.05).mean() <= 0.065


@pytest.mark.parametrize("law", [stats.poisson(3), stats.randint(0, 4)], ids=lambda law: str(law.dist.name))
def test_ties_only_help_a_pac_threshold(law: Any, rng: np.random.Generator) -> None:
    assert (pac_rejections(law, 150, 0.05, 0.95, rng) > 0.05).mean() <= 0.065


def test_a_marginal_threshold_breaks_alpha_in_nearly_half_of_the_sets(rng: np.random.Generator) -> None:
    """What the other guarantee is for."""
    assert (rejections(LAWS[0], 400, 0.05, rng) > 0.05).mean() > 0.4


def test_every_class_has_a_pac_promise_of_its_own_and_all_points_have_it(rng: np.random.Generator) -> None:
    classes = np.repeat([0, 1, 2], [300, 100, 20])
    scores = np.concatenate([rng.normal(size=300), rng.normal(5, 1, 100), rng.normal(-9, 1, 20)])[:, None]
    gate = calibrate(MANIFEST, scores.astype(np.float32), "energy", 0.05, pac=0.9, classes=classes).gate
    assert gate is not None
    assert (gate.guarantee, gate.confidence, gate.alphas) == ("pac", 0.9, (0.01, 0.05, 0.1))
    for point in gate.points:
        for label, own in [*point.classes.items(), (None, None)]:
            part = scores[:, 0] if label is None else scores[classes == LABELS.index(label), 0]
            n, found = len(part), point.threshold if own is None else own.threshold
            k = int((np.sort(part.astype(np.float32)) < np.float32(found)).sum()) + 1
            assert stats.beta.cdf(point.alpha, k, n + 1 - k) >= 0.9 > stats.beta.cdf(point.alpha, k + 1, n - k)
            if own is not None:
                assert own.max_rejection == pytest.approx(stats.beta.ppf(0.95, k, n + 1 - k))
    # 1 - 0.95^20 = 64 % and 1 - 0.9^20 = 88 %: twenty images promise nothing with 90 % confidence
    assert [list(point.classes) for point in gate.points] == [[*LABELS[:1]], [*LABELS[:2]], [*LABELS[:2]]]


@pytest.mark.parametrize(
    ("alpha", "confidence", "least"),
    [(0.05, 0.95, 59), (0.01, 0.95, 299), (0.1, 0.9, 22), (0.5, 0.5, 1), (0.05, 0.999, 135)],
)
def test_how_many_images_a_pac_threshold_needs(alpha: float, confidence: float, least: int) -> None:
    assert conformal.smallest(alpha, confidence) == least
    assert 1 - (1 - alpha) ** least >= confidence > 1 - (1 - alpha) ** (least - 1)
    assert conformal.rank(least, alpha, confidence) == 1
    if least > 1:
        with pytest.raises(
            conformal.CalibrationError, match=rf"too few for alpha = {alpha} with .*: at least {least} are"
        ):
            conformal.rank(least - 1, alpha, confidence)


# --- by predicted class

SHARES = (0.6, 0.33, 0.07)
CLASS_LAWS: list[Any] = [stats.norm(0, 1), stats.expon(4, 3), stats.norm(-9, 0.1)]


def class_gates(rng: np.random.Generator, n: int, alpha: float) -> Iterator[GateSpec]:
    for classes in rng.choice(3, (SETS, n), p=SHARES):
        drawn = np.stack([rng.normal(0, 1, n), 4 + rng.exponential(3, n), rng.normal(-9, 0.1, n)])
        scores = drawn[classes, np.arange(n), None].astype(np.float32)
        gate = calibrate(MANIFEST, scores, "energy", alpha, classes=classes).gate
        assert gate is not None
        yield gate


def test_every_predicted_class_has_the_promise_of_its_own(rng: np.random.Generator) -> None:
    """Given how many images a class has, the rate is Beta: its distribution function makes it uniform."""
    alpha = 0.1
    gates = list(class_gates(rng, 150, alpha))
    for label, law in zip(LABELS, CLASS_LAWS, strict=True):
        own = [gate.classes[label] for gate in gates if label in gate.classes]
        rates = law.cdf([point.threshold for point in own])
        n = np.array([point.n for point in own])
        k = np.floor(alpha * (n + 1) + 1e-9)
        assert rates.mean() <= alpha
        assert stats.kstest(stats.beta.cdf(rates, k, n + 1 - k), "uniform").pvalue > 0.005
    assert 100 < sum(LABELS[2] not in gate.classes for gate in gates) < 1000  # it needs 9 images and has about 10


# --- merged scores


def quantile(p: Array, curve: PValueCurve) -> Array:
    """The score at which a curve has the p-values p; infinity where it never has."""
    tail = curve.knots[0] - curve.tail * (curve.heights[0] / np.minimum(p, curve.heights[0]) - 1)
    inside = np.interp(p, curve.heights, curve.knots, right=np.inf)
    return np.where(p < curve.heights[0], tail, inside)


@pytest.mark.parametrize("method", ["min", "harmonic", "fisher"])
def test_a_merged_score_has_the_promise_too(method: MergeMethod, rng: np.random.Generator) -> None:
    """Two independent uniform scores; curves and threshold are fitted anew, on images of their own, for every set."""
    held, n, alpha = 60, 150, 0.05
    rates = np.empty(SETS)
    grid = (np.arange(1000) + 0.5) / 1000
    for i in range(SETS):
        scores = rng.random((held + n, 2), dtype=np.float32)
        merged = fit(scores[:held], ("a", "b"), method)
        values = merge({"a": scores[held:, 0], "b": scores[held:, 1]}, merged)
        threshold = conformal.threshold(values, alpha)
        a, b = merged.parts.values()
        if method == "min":  # 2 p < t or 2 q < t
            below_a, below_b = (quantile(np.array(threshold / 2), curve).clip(0, 1) for curve in (a, b))
            rates[i] = 1 - (1 - below_a) * (1 - below_b)
        elif method == "fisher":  # log p + log q < t where q < e^t / p, for every p in turn
            rates[i] = quantile(np.exp(threshold) / p_values(grid, a), b).clip(0, 1).mean()
        else:  # 2 / (1/p + 1/q) < t where 1/q > 2/t - 1/p, for every p in turn
            room = 2 / threshold - 1 / p_values(grid, a)
            rates[i] = np.where(room > 0, quantile(1 / np.maximum(room, 1e-9), b).clip(0, 1), 1).mean()
    assert rates.mean() <= alpha
    assert stats.kstest(rates, beta(n, alpha).cdf).pvalue > 0.005
