"""The options that say which detectors are fitted, and how."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from export.calibrate.options import AUTO
from export.detectors import DETECTORS
from export.detectors.fitting import settings_for
from export.detectors.interface import Fitted
from export.exceptions import ExportError
from runtime.manifest import Manifest


def parse_names(option: str) -> list[str]:
    """The detectors of ``--detectors``, other than ``all``.

    Raises:
        ExportError: an unknown one, or one that is named twice.
    """
    names = option.split(",")
    for index, name in enumerate(names):
        if name not in DETECTORS:
            raise ExportError(f"unknown detector {name!r}; choose from {', '.join(DETECTORS)}")
        if name in names[:index]:
            raise ExportError(f"--detectors names {name} twice")
    return names


def parse_settings(options: Iterable[str], manifest: Manifest) -> dict[type[Fitted], Any]:
    """The hyperparameters of every detector that has some: those of ``--set``, otherwise the defaults.

    Raises:
        ExportError: an option of another form, an unknown setting, or a value out of its range.
    """
    settings = settings_for(manifest)
    for option in options:
        key, equals, text = option.partition("=")
        name, _, setting = key.partition(".")
        kind = DETECTORS.get(name)
        known = dataclasses.asdict(kind.settings) if kind and kind.settings else {}
        if not (kind and equals and setting in known):
            raise ExportError(f"--set {option}: expected DETECTOR.SETTING=VALUE; {default_settings()}")
        try:
            settings[kind] = dataclasses.replace(settings[kind], **{setting: _value(text, known[setting])})
        except ValueError as error:
            raise ExportError(f"--set {option}: {error}") from error
    return settings


def check_used(options: Iterable[str], names: Iterable[str]) -> None:
    """Raises ExportError for an option of ``--set`` that none of the detectors `names` looks at."""
    used = {kind for name in names for kind in (DETECTORS[name], *DETECTORS[name].parts)}
    for option in options:
        name, _, _ = option.partition(".")
        if DETECTORS[name] not in used:
            raise ExportError(f"--set {option}: nothing that is fitted looks at it; add {name} to --detectors")


def chooses(names: Iterable[str], settings: Mapping[type[Fitted], Any]) -> bool:
    """Whether one of the detectors `names`, with these settings, has one that outliers choose."""
    kinds = {kind for name in names for kind in (DETECTORS[name], *DETECTORS[name].parts)} & settings.keys()
    return any(value is None for kind in kinds for value in dataclasses.asdict(settings[kind]).values())


def _value(text: str, default: float | None) -> float | None:
    """The value of a setting; one that outliers choose is a number or ``auto``."""
    if default is None:
        return None if text == AUTO else float(text)
    return type(default)(text)


def default_settings() -> str:
    """The settings of ``--set`` and their defaults, in words."""
    described = (
        f"{name}.{setting}={AUTO if value is None else format(value, 'g')}"
        for name, kind in DETECTORS.items()
        if kind.settings
        for setting, value in dataclasses.asdict(kind.settings).items()
    )
    return f"defaults: {', '.join(described)}, and for a temperature that of the bundle's energy"
