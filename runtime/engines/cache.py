"""A folder on disk for what an engine builds at start-up: complete or not there at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from runtime import atomic
from runtime.exceptions import EngineError

NOTE = "key.json"  # what a folder's name was made from, for people who look into the cache


def filled(root: Path, parts: Mapping[str, str], fill: Callable[[Path], None]) -> Path:
    """The folder under `root` for what was built of `parts`, filled if it is not there yet.

    It is filled under another name and renamed, so a process that is killed meanwhile leaves no half of it. Of several
    processes one fills it and the others wait.

    Args:
        root: of the cache.
        parts: everything that the content depends on.
        fill: writes the content into the folder that it is given.

    Raises:
        EngineError: it can't be written; or what `fill` raises.
    """
    name = key(parts)
    folder = root / name
    try:
        if folder.is_dir():
            return folder
        root.mkdir(parents=True, exist_ok=True)
        with atomic.locked(root / f".{name}.lock"):
            if not folder.is_dir():
                atomic.tidy(folder)
                with atomic.writing(folder) as made:
                    made.mkdir()
                    fill(made)
                    (made / NOTE).write_text(json.dumps(dict(parts), indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def key(parts: Mapping[str, str]) -> str:
    """A folder's name from everything that what lies in it depends on."""
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()[:32]


def write(file: Path, data: bytes) -> None:
    """Replace one file of a folder, by a rename.

    Raises:
        EngineError: it can't be written.
    """
    try:
        atomic.replace(file, data)
    except OSError as error:
        raise _unwritable(file, error) from error


def _unwritable(path: Path, error: OSError) -> EngineError:
    return EngineError(
        f"the engine cache {path} can't be written ({error.strerror}); choose another by --cache, or by HOME"
    )
