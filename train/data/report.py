"""What was read of a source, what was not, and why: the lines that every command prints."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

_NAMED = 3  # names in a message


@dataclass(frozen=True)
class Passed:
    """What was left out for one reason.

    Attributes:
        reason: such as ``not images``.
        names: of what.
        detail: what was wrong with the first.
        counts: whether they are files that might have been images.
    """

    reason: str
    names: tuple[str, ...]
    detail: str = ""
    counts: bool = True

    def __str__(self) -> str:
        first, *others = self.names
        named = [f"{first}: {self.detail}" if self.detail else first, *others]
        return f"{len(self.names):,} {self.reason} ({some(named)})"


@dataclass(frozen=True)
class Report:
    """What is to be said of a source.

    Attributes:
        labels: where the labels are from, such as ``labels = innermost folder``.
        passed: what was left out.
        remarks: what was found, taken or assumed, a line each.
        strays: images beside the class folders, whose class is called as the source.
    """

    labels: str = ""
    passed: tuple[Passed, ...] = ()
    remarks: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()

    def text(self, source: str, images: str) -> str:
        """One line, and one more a remark.

        Args:
            source: what was read.
            images: how many were, such as ``480 images in 12 classes``.
        """
        line = f"{source}: {images}"
        if self.labels:
            line += f", {self.labels}"
        skipped = [one for one in self.passed if one.counts]
        if skipped:
            count = sum(len(one.names) for one in skipped)
            line += f"; skipped {count:,} {'file' if count == 1 else 'files'}: {', '.join(map(str, skipped))}"
        others = [f"{one}" for one in self.passed if not one.counts]
        if self.strays:
            others.append(
                f"{len(self.strays):,} beside the class folders, of a class called as the source: {some(self.strays)}"
            )
        return "\n  ".join([line, *others, *self.remarks])


def without(passed: Iterable[Passed], names: Container[str]) -> tuple[Passed, ...]:
    """What was left out but for what is used after all."""
    left = (replace(one, names=tuple(name for name in one.names if name not in names)) for one in passed)
    return tuple(one for one in left if one.names)


def some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED:,} more"
