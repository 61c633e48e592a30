"""The project's packages come from beside this one, whatever else has their names.

A folder with a train.py, an export.py or a runtime/ of the user's own comes first on ``sys.path`` where a command is
typed; the commands must not run those.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

PACKAGES = frozenset({"runtime", "train", "export", "serving"})
_FOLDER = str(Path(__file__).parents[1])


class Beside(MetaPathFinder):
    """Finds the project's packages in the folder that holds this one, and nothing else."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The module's place, where it is one of the project's packages."""
        return PathFinder.find_spec(name, [_FOLDER], target) if name in PACKAGES else None


def prefer() -> None:
    """From now on in this process, import our packages from beside this one."""
    if not any(isinstance(finder, Beside) for finder in sys.meta_path):
        sys.meta_path.insert(0, Beside())


def check() -> None:
    """Make sure that none of our packages' names is taken by a module that the process has imported already.

    Raises:
        ImportError: one is, say a train.py of the user's own.
    """
    for name in sorted(PACKAGES):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and Path(file).resolve().parents[1] != Path(_FOLDER).resolve():
            raise ImportError(
                f"{file} is imported as {name}, the name of a package of oodgate: rename it, or use the command "
                "`oodgate export`, which keeps the two apart"
            )
