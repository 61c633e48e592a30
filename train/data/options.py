"""The option of every command that reads images."""

from __future__ import annotations

import argparse


def add_strict_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--strict``."""
    parser.add_argument(
        "--strict",
        action="store_true",
        help="one image that can't be read is an error (default: it is left out and named; more than a tenth are an error)",
    )
