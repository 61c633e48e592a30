"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from export.exceptions import ExportError
from train.data import add_reading_options


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that runs an engine over images: those of reading and ``--threads``."""
    add_reading_options(parser)
    parser.add_argument("--threads", type=int, default=0, help="engine threads (default: one a physical core)")


def add_leakage_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add ``--allow-leakage``."""
    parser.add_argument(
        "--allow-leakage", action="store_true", help="take images that the bundle was made with all the same, and warn"
    )


def parse_ood(options: Sequence[str]) -> dict[str, str]:
    """``--ood NAME=SOURCE`` options by name.

    Raises:
        ExportError: an option of another form, or a name given twice.
    """
    return parse_named("--ood", options)


def parse_named(flag: str, options: Sequence[str]) -> dict[str, str]:
    """``NAME=SOURCE`` options of a flag by name.

    Raises:
        ExportError: an option of another form, or a name given twice.
    """
    sources: dict[str, str] = {}
    for option in options:
        name, separator, source = option.partition("=")
        if not (name and separator and source):
            raise ExportError(f"{flag} {option}: expected NAME=SOURCE, such as textures=dtd.tar")
        if name in sources or name == "ID":
            raise ExportError(f"{flag} {option}: the name {name!r} is taken; choose another")
        sources[name] = source
    return sources


def check_writable(files: Mapping[str, Path | None]) -> None:
    """Raises ExportError for a file, by the option that names it, that can't be written where it is named."""
    for option, file in files.items():
        if file and not file.parent.is_dir():
            raise ExportError(f"{option} {file}: there is no directory {file.parent}")
        if file and file.is_dir():
            raise ExportError(f"{option} {file}: it is a directory; name a file in it")
        if file and not os.access(file if file.exists() else file.parent, os.W_OK):
            raise ExportError(f"{option} {file}: it can't be written")


def print_remarks(*, note: str | None = None, warning: str | None = None) -> None:
    """Print what a command has to say last of a calibration, if anything."""
    for kind, text in (("note", note), ("warning", warning)):
        if text:
            print(f"{kind}: {text}")
