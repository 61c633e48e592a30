"""``BENTOML_HOME``: the directory where BentoML keeps its state, and where the metrics lie that workers share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime import atomic
from serving.exceptions import SettingsError

METRICS = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that tells prometheus_client where the workers share their metrics."""

_OWN = "metrics-"


def check_home() -> Path:
    """The home, which can be written; BentoML ends with a traceback, or puts its metrics elsewhere, if not.

    Raises:
        SettingsError: it can't.
    """
    try:
        home = Path(os.environ.get("BENTOML_HOME", "~/bentoml")).expanduser()
    except RuntimeError:
        raise SettingsError("this user has no home; set BENTOML_HOME to a directory that can be written") from None
    try:
        atomic.check_writable(home)
    except OSError as error:
        raise SettingsError(
            f"BENTOML_HOME, {home}, can't be written ({error.strerror}): the metrics are kept there; name a directory of a "
            "volume of its own"
        ) from error
    return home


@contextmanager
def own_metrics() -> Iterator[Path]:
    """An empty folder of this process's in the home for its workers' metrics; it goes when they do.

    One that a process left that was killed is removed by the next.

    Raises:
        SettingsError: the home can't be written.
    """
    home = check_home()
    for left in home.glob(f"{_OWN}*"):
        if left.name == f"{_OWN}{os.getpid()}" or not lives(left.name.removeprefix(_OWN)):
            shutil.rmtree(left, ignore_errors=True)
    directory = home / f"{_OWN}{os.getpid()}"
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def shared_metrics() -> Path | None:
    """Where the workers of this service share their metrics; BentoML says so when a worker starts, and not before."""
    directory = os.environ.get(METRICS)
    return Path(directory) if directory else None


def lives(pid: str) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # another user's
        return True
    return True
