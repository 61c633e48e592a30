"""The service's settings: one frozen dataclass, filled from ``OODGATE_*`` environment variables."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.exceptions import OodgateError
from runtime.preprocess import Limits

_ROOT = Path(__file__).resolve().parent.parent
_DEFAULTS = Limits()

# What Kubernetes sets in every pod beside a Service that is called oodgate.
_KUBERNETES = re.compile(r"OODGATE_(SERVICE_|PORT($|_))")


class SettingsError(OodgateError):
    """An environment variable that can't be used."""


@dataclass(frozen=True)
class Settings:
    """Each field is set by the variable ``OODGATE_`` and its name in capitals.

    Attributes:
        bundle: directory of the bundle to serve.
        alpha: the operating point to serve, one of the bundle's; its default one otherwise.
        engine_threads: threads of one inference; 0 takes one for each physical core.
        concurrency: images decoded and classified at the same time.
        max_bytes, max_pixels: bounds on one image, checked before it is decoded.
        max_images: bound on the images of one /classify_batch request.
        max_body: bound on the bytes of a /classify_batch request.
    """

    bundle: Path = _ROOT / "bundles" / "cifar10"
    alpha: float | None = None
    engine_threads: int = 1
    concurrency: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    max_bytes: int = _DEFAULTS.max_bytes
    max_pixels: int = _DEFAULTS.max_pixels
    max_images: int = 64
    max_body: int = 64 * 1024 * 1024

    @property
    def limits(self) -> Limits:
        """What one image may cost."""
        return Limits(self.max_bytes, self.max_pixels)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables that are set.

        Raises:
            SettingsError: a number that is none or too small, or an unknown ``OODGATE_`` variable.
        """
        fields = {f"OODGATE_{field.name.upper()}": field.name for field in dataclasses.fields(cls)}
        values: dict[str, Path | int | float] = {}
        for variable, text in environment.items():
            if not variable.startswith("OODGATE_") or _KUBERNETES.match(variable):
                continue
            if variable not in fields:
                raise SettingsError(f"{variable} is no setting; there are {', '.join(sorted(fields))}")
            name = fields[variable]
            if name == "bundle":
                values[name] = Path(text)
            elif name == "alpha":
                values[name] = _share(variable, text)
            else:
                values[name] = _number(variable, text, 0 if name == "engine_threads" else 1)
        return cls(**values)  # type: ignore[arg-type]  # each value has its field's type


def _number(variable: str, text: str, smallest: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = smallest - 1
    if number < smallest:
        raise SettingsError(f"{variable} must be a whole number of at least {smallest}, found {text!r}")
    return number


def _share(variable: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise SettingsError(f"{variable} must be a number between 0 and 1, found {text!r}")
    return share
