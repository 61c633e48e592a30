"""Libraries of models, of which each is optional."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from train.exceptions import ModelError


def require(name: str, why: str) -> ModuleType:
    """Import a library.

    Raises:
        ModelError: it is not installed, or not with what it needs itself.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # their deprecations are not the user's
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or name).partition(".")[0]
        raise ModelError(f"{why} needs the package {missing}: pip install {missing}") from error
    except Exception as error:  # a broken installation may raise anything
        raise ModelError(f"{why} needs the package {name}, which can't be imported here: {error}") from error


def announce_download(what: str) -> None:
    """Say, before it may take a while, that weights come from the net; a file is named by ``--checkpoint``."""
    print(f"note: weights of {what}: from its cache, or downloaded where they are not there", flush=True)
