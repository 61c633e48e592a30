"""What is left of a detector where features are negative too, as behind a LayerNorm, and not activations of a ReLU."""

from __future__ import annotations

from collections.abc import Mapping

from export.detectors.interface import Detector

# Below it negative features are those of a smooth rectifier, which matter little.
FEW, MANY = 0.01, 0.1


def is_meaningless(kind: type[Detector], share: float) -> bool:
    """Whether the detector says nothing of features of which this share is negative."""
    return kind.negative is not None and kind.negative[0] == "meaningless" and share > MANY


def objection(name: str, kind: type[Detector], share: float) -> str | None:
    """What is to be said of a detector on features of which this share is negative; None if nothing."""
    if kind.negative is None or share <= FEW:
        return None
    found, reason = "meaningless" if is_meaningless(kind, share) else "weaker", kind.negative[1]
    return (
        f"{name} is {found} here: it takes features to be at least 0, as behind a ReLU, and {100 * share:.0f} % of their "
        f"magnitude is negative; {reason}"
    )


def objections(kinds: Mapping[str, type[Detector]], share: float) -> str | None:
    """Those to several, in one line."""
    return "; ".join(filter(None, (objection(name, kind, share) for name, kind in kinds.items()))) or None
