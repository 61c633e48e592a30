"""The application as ``oodgate serve`` names it to its workers, which import it where the command was typed."""

from importlib import import_module
from typing import Any

from oodgate import beside


def application() -> Any:
    """The service as an ASGI application, made of the settings in the environment."""
    beside.prefer()
    return import_module("serving.application").application()
