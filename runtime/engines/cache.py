"""A folder on disk for what an engine builds at start-up: complete or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from runtime.exceptions import EngineError

KEY = "key.json"


def key(**parts: str) -> str:
    """A folder's name from everything that what lies in it depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def filled(root: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """The folder `name` under `root`, filled if it is not there yet.

    It is filled under another name and renamed, so a process that is killed meanwhile, or another one that fills it
    too, leaves no half of it. What killed processes left is deleted.

    Raises:
        EngineError: it can't be written; or what `fill` raises.
    """
    folder = root / name
    if folder.is_dir():
        return folder
    temporary = root / f".{name}.new-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for left in root.glob(f".{name}.new-*"):
            if not _runs(int(left.name.rpartition("-")[2])):
                shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir()
        fill(temporary)
        if not folder.is_dir():
            temporary.rename(folder)
    except OSError as error:
        raise EngineError(f"the engine cache {folder} can't be written ({error.strerror}); choose another") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def write(file: Path, data: bytes) -> None:
    """Replace one file of a folder, by a rename.

    Raises:
        EngineError: it can't be written.
    """
    temporary = file.with_name(f".{file.name}.new-{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(file)
    except OSError as error:
        raise EngineError(f"the engine cache {file} can't be written ({error.strerror}); choose another") from error


def note(parts: Mapping[str, str]) -> bytes:
    """What a key was made from, for people who look into the cache."""
    return (json.dumps(parts, indent=1, sort_keys=True) + "\n").encode()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
