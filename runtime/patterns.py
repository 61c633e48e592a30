"""Names that stand for several files: ``train-{000..009}.tar`` for ten, ``photos/**/*.jpg`` for what is there."""

from __future__ import annotations

import re

from runtime.exceptions import OodgateError

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
PARQUETS = (".parquet", ".pq")

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_WILD = re.compile(r"[*?\[]")


def is_wild(name: str) -> bool:
    """Whether a name is a pattern of what is there, as :mod:`glob` takes them."""
    return bool(_WILD.search(name))


def numbered(name: str) -> list[str] | None:
    """The names that a range anywhere in it stands for, there or not, at least as wide as the first; None without a range.

    Further ranges stay as they are.

    Raises:
        OodgateError: it counts down.
    """
    found = _RANGE.search(name)
    if not found:
        return None
    first, last = found.groups()
    if int(first) > int(last):
        raise OodgateError(f"{name}: the pattern {found[0]} counts down; expected {{{last}..{first}}}")
    return [name.replace(found[0], f"{i:0{len(first)}}", 1) for i in range(int(first), int(last) + 1)]
