"""Which images of a whole output are outliers, with a bound on the share of them that are none.

Benjamini & Hochberg (1995) on the conformal p-values. These are not independent, as all of them come from one calibration
set, but positively dependent, so that the bound holds: Bates, Candes, Lei, Romano & Sesia (2023), Testing for outliers with
conformal p-values, Annals of Statistics 51. On average over draws of the calibration images and of the source, at most a
share Q of the outliers found is in-distribution, provided that the source's in-distribution images are drawn independently
from where the calibration images are. One calibration set by itself promises nothing.

Where calibration scores tie, or not every order statistic is stored, p-values are larger than the exact ones: there are fewer
thresholds for the procedure to choose from, and the bound holds at each of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runtime.exceptions import CalibrationError
from runtime.manifest import GateSpec
from serving.batch.parts import Parts, with_metadata
from serving.exceptions import NoDiscoveryGuarantee

_LARGEST = 10**8  # calibration images, whose number plus one is a p-value's denominator


@dataclass(frozen=True)
class Discovery:
    """The outliers of an output.

    Attributes:
        q: the false discovery rate asked for.
        threshold: an image whose p-value is at most this is an outlier; None where there is no outlier.
        tested: images with a p-value.
        outliers: how many of them are.
        needed: how many images would need the smallest p-value that is possible for any to be found.
    """

    q: float
    threshold: float | None
    tested: int
    outliers: int
    needed: int


def check(gate: GateSpec, labels: tuple[str, ...], q: float) -> None:
    """Check that a false discovery rate can be promised, before the work begins.

    The p-value of a class with a threshold of its own is among the calibration images predicted as it, and valid for those;
    one of a class without is among all of them, which is valid for all images and not for these alone.

    Raises:
        NoDiscoveryGuarantee: some predicted classes have thresholds of their own, and others not.
        CalibrationError: `q` is no share.
    """
    if not 0 < q < 1:
        raise CalibrationError(f"--fdr must be between 0 and 1, found {q:g}")
    without = [label for label in labels if label not in gate.classes]
    if gate.classes and without:
        raise NoDiscoveryGuarantee(
            f"--fdr: {len(without)} of {len(labels)} classes ({', '.join(without[:3])}..) have no threshold of their own at "
            f"alpha {gate.alpha:g}, so that their p-values are not valid by themselves and no false discovery rate follows; "
            "calibrate with more images of them, or without --class-conditional"
        )


def discover(counts: Mapping[float, int], q: float, smallest: float) -> Discovery:
    """The Benjamini-Hochberg set of m p-values: those up to the largest p with p <= q #{p-values <= p} / m.

    Args:
        counts: how often each p-value occurs.
        q: the false discovery rate.
        smallest: the smallest p-value that is possible.
    """
    rate, tested = Fraction(str(q)), sum(counts.values())
    found, below, threshold = 0, 0, None
    for p in sorted(counts):
        below += counts[p]
        if _exact(p) * tested <= rate * below:
            threshold, found = p, below
    return Discovery(q, threshold, tested, found, max(1, math.ceil(_exact(smallest) * tested / rate)))


def mark(parts: Parts, discovery: Discovery | None) -> None:
    """Write into every part which of its rows are outliers, and by what; None takes back what is written there."""
    said = {"fdr": None if discovery is None else asdict(discovery)}
    for part, rows in parts.tables():
        at = rows.schema.get_field_index("outlier")
        marked = with_metadata(rows.set_column(at, rows.schema.field(at), _outliers(rows, discovery)), said)
        if not marked.equals(rows, check_metadata=True):
            parts.replace(part, marked)


def _outliers(rows: pa.Table, discovery: Discovery | None) -> pa.Array | pa.ChunkedArray:
    if discovery is None:
        return pa.nulls(len(rows), pa.bool_())
    return pc.less_equal(rows["p_value"], 0.0 if discovery.threshold is None else discovery.threshold)


def counted(p_values: pa.ChunkedArray) -> dict[float, int]:
    """How often each p-value occurs; nulls do not count."""
    values, counts = np.unique(p_values.drop_null().to_numpy(), return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def smallest(gate: GateSpec) -> float:
    """The smallest p-value that an image may have, 1 / (n + 1) of the largest calibration set."""
    own = [point.n for point in gate.classes.values()]
    return 1 / (max(own or [gate.n_calibration]) + 1)


def _exact(p: float) -> Fraction:
    """A p-value as the ratio that it is: a whole number over n + 1."""
    return Fraction(p).limit_denominator(_LARGEST)
