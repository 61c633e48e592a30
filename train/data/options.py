"""How sources are to be read: the options of every command that reads images."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Reading:
    """What the user says of the sources.

    Attributes:
        strict: whether one image that can't be read is an error.
        path_column, label_column: of a CSV or Parquet file, where the guess is wrong.
        class_names: a file that says what the source's classes are called beside their names there.
    """

    strict: bool = False
    path_column: str | None = None
    label_column: str | None = None
    class_names: Path | None = None

    @property
    def unlabelled(self) -> Reading:
        """Of sources whose labels are of no use, so that a table needs no column of them."""
        return replace(self, label_column=None)

    @classmethod
    def of(cls, args: argparse.Namespace) -> Reading:
        """From the options of :func:`add_reading_options`."""
        return cls(args.strict, args.path_column, args.label_column, args.class_names)


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that reads images."""
    group = parser.add_argument_group(
        "reading images",
        "SOURCE is a folder of images or of class folders, a tar or zip of either, shards of tars, 'a pattern*', a table "
        "(.csv, .tsv, .txt), Parquet files, or an .npz or .npy; SOURCE@1/2 is half of it (docs/data.md). What was read, what "
        "was left out and why is printed.",
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="one image that can't be read is an error (default: it is left out and named; more than a tenth are an error)",
    )
    group.add_argument(
        "--path-column", metavar="NAME", help="of a CSV or Parquet file: the images (default: a guess, said)"
    )
    group.add_argument(
        "--label-column", metavar="NAME", help="of a CSV or Parquet file: the labels (default: likewise)"
    )
    group.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="what the source's classes are called, such as id2label.json of wnids or indices, to match the model's labels, "
        "or in training to be them",
    )
