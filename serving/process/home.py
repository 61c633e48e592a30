"""``BENTOML_HOME``: the directory where BentoML keeps its state, and where the metrics lie that workers share."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from serving.exceptions import SettingsError

METRICS = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that tells prometheus_client where the workers share their metrics."""


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
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise SettingsError(
            f"BENTOML_HOME, {home}, can't be written ({error.strerror}): the metrics are kept there; name a directory of a "
            "volume of its own"
        ) from error
    return home


def fresh_metrics() -> Path:
    """An empty directory for the metrics of a service's workers, where BentoML has it.

    Raises:
        SettingsError: the home can't be written.
    """
    directory = check_home() / "prometheus_multiproc_dir"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(exist_ok=True)
    return directory
