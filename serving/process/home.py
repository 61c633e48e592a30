"""The directory where BentoML keeps its state: the metrics that workers share lie there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from serving.exceptions import SettingsError


def check_home() -> None:
    """See that BentoML's home can be written; BentoML ends with a traceback, or puts its metrics elsewhere, if not.

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
