"""How often the classifier is right on labelled calibration images, and which mistake would explain that it is not.

The alternatives are compared image by image with what is exported, by a sign test at 5 % over all that are tried: what is
reported would not be found by luck of the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom
from sklearn.metrics import label_ranking_average_precision_score

from export.metrics.intervals import Interval, share
from export.metrics.multilabel import mean_average_precision
from train.data import Labels

Floats = npt.NDArray[np.floating]
Quality = npt.NDArray[np.float64]  # (n,) in [0, 1]: how right the answer to each image is

_LEVEL = 0.05  # of the sign test, divided by the number of alternatives
GAIN = 0.05  # what is worth saying
_CHANCE = 0.1  # of the way from chance to always right
_MANY = 30  # images, of which those of many classes are not nearly all of one
_NEARLY_ALL = 0.95


@dataclass(frozen=True)
class Accuracy:
    """On labelled images that the model was not trained on.

    Attributes:
        measure: ``accuracy``, or for multi-label models the mean average precision.
        value, interval: and its 95 % interval.
        images, classes: how many images, and of how many of the model's classes.
        chance: what guessing would have; None for multi-label models.
    """

    measure: Literal["accuracy", "mean average precision"]
    value: float
    interval: Interval
    images: int
    classes: int
    chance: float | None


def accuracy_text(found: Mapping[str, Any]) -> str:
    """An :class:`Accuracy`, as a manifest has it, in words."""
    low, high = found["interval"]
    return (
        f"{found['measure']} {100 * found['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f} % with 95 % confidence) on "
        f"{found['images']} labelled calibration images of {found['classes']} classes"
    )


def measure(logits: Floats, labels: Labels) -> Accuracy | None:
    """Accuracy of logits (n, K) by labels (n,), or mAP by multi-hot labels (n, K); None where no image has a label."""
    if labels.ndim == 1:
        right = int((logits.argmax(axis=1) == labels).sum())
        total, chance = len(labels), 1 / logits.shape[1]
        return Accuracy("accuracy", right / total, share(right, total), total, len(np.unique(labels)), chance)
    found = mean_average_precision(logits, labels.astype(np.bool_))
    if found is None:
        return None
    return Accuracy("mean average precision", found.value, found.interval, len(labels), found.labels, None)


def remarks(logits: Floats, labels: Labels, names: Sequence[str], found: Accuracy) -> Iterator[str]:
    """What is wrong by the looks of it, a line each: accuracy near chance, labels in another order, one class alone."""
    if found.chance is not None and found.value <= found.chance + _CHANCE * (1 - found.chance):
        yield (
            f"accuracy {100 * found.value:.1f} % is little more than chance, {100 * found.chance:.1f} %: are the labels in "
            "the logits' order, the weights those that were trained, mean and std theirs?"
        )
    if found.classes == 1 < len(names):
        (only,) = np.flatnonzero(labels.any(axis=0)) if labels.ndim == 2 else np.unique(labels)
        yield (
            f"all labelled calibration images are of one class, {names[int(only)]!r}, of {len(names)}: what the gate "
            "promises is of that class alone"
        )
    others = {
        f"--labels {how}": quality(reordered(logits, names, order), labels) for how, order in orders_of(names).items()
    }
    if labels.ndim == 1:
        how, assigned = _assigned(logits, labels, names)
        others[f"--labels in another order ({how})"] = assigned
    yield from better(quality(logits, labels), others)


def unlabelled_remarks(logits: Floats, names: Sequence[str]) -> Iterator[str]:
    """What is wrong by the looks of logits (n, K) of images without labels, a line each: nearly all of one class."""
    predicted = np.bincount(logits.argmax(axis=1), minlength=len(names))
    if len(logits) >= _MANY and len(names) > 2 and predicted.max() >= _NEARLY_ALL * len(logits):
        yield (
            f"{predicted.max()} of {len(logits)} calibration images are predicted as {names[int(predicted.argmax())]!r}: are "
            "they of many classes, and mean, std and weights those of the training? Labelled images would tell"
        )


def quality(logits: Floats, labels: Labels) -> Quality:
    """How right each answer is: 1 or 0; for several labels an image the average precision with which its own are ranked."""
    if labels.ndim == 1:
        return np.asarray(logits.argmax(axis=1) == labels, dtype=np.float64)
    ranks = [
        label_ranking_average_precision_score(hot[None], row[None]) for hot, row in zip(labels, logits, strict=True)
    ]
    return np.array(ranks, dtype=np.float64)


def better(own: Quality, others: Mapping[str, Quality]) -> Iterator[str]:
    """The best alternative, in a line, if it is better by a lot and by more than luck.

    Of the images that two answer differently well, half would go either way by chance: with b of b + c for the
    alternative, p = P(Binomial(b + c, 1/2) >= b), times the number of alternatives (Bonferroni).
    """
    found = []
    for how, other in others.items():
        wins, losses = int((other > own).sum()), int((other < own).sum())
        p = float(binom.sf(wins - 1, wins + losses, 0.5))
        gain = float((other - own).mean())
        if gain >= GAIN and p * len(others) <= _LEVEL:
            found.append((gain, how, float(other.mean())))
    if found:
        _, how, value = max(found, key=itemgetter(0))
        yield (
            f"{how} would be right on {100 * value:.1f} % of {len(own)} labelled images, instead of "
            f"{100 * own.mean():.1f} %: the export keeps what was given"
        )


def orders_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Orders in which the same labels are often numbered, where they differ from this one."""
    numbers = all(name.isdecimal() for name in names)
    orders = {
        "sorted, as torchvision's ImageFolder numbers folders": sorted(names),
        "sorted without regard to case": sorted(names, key=str.casefold),
        "in reverse": names[::-1],
        "moved down by one, the last first: numbered from 1": [*names[-1:], *names[:-1]],
        "moved up by one, the first last: numbered from 0": [*names[1:], *names[:1]],
        **({"sorted by number": sorted(names, key=int)} if numbers else {}),
    }
    distinct: dict[tuple[str, ...], str] = {}
    for how, order in orders.items():
        if tuple(order) != tuple(names):
            distinct.setdefault(tuple(order), how)
    return {how: order for order, how in distinct.items()}


def reordered(logits: Floats, names: Sequence[str], order: Sequence[str]) -> Floats:
    """Logits (n, K) in the order of `names` if the model's were those of `order`."""
    place = {name: i for i, name in enumerate(order)}
    return logits[:, [place[name] for name in names]]


def _assigned(logits: Floats, labels: Labels, names: Sequence[str]) -> tuple[str, Quality]:
    """The naming of the classes that is right most often, in words; and how right, of each half by that of the other."""
    predicted, first = logits.argmax(axis=1), np.random.default_rng(0).permutation(len(labels)) % 2 == 0
    found = np.zeros(len(labels))
    for half in (first, ~first):
        named = _naming(predicted[half], labels[half], len(names))
        found[~half] = named[predicted[~half]] == labels[~half]
    named = _naming(predicted, labels, len(names))
    pairs = [f"{names[named[k]]!r} for {names[k]!r}" for k in np.unique(predicted) if named[k] != k]
    return ", ".join(pairs[:3]) + (" and so on" if len(pairs) > 3 else ""), found


def _naming(predicted: npt.NDArray[np.int64], labels: Labels, classes: int) -> npt.NDArray[np.int64]:
    """For each output (K,) the class that it is, one to one, by which most images are right."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (predicted, labels), 1)
    named: npt.NDArray[np.int64] = linear_sum_assignment(counts, maximize=True)[1]
    return named
