"""python -m serving.rejects export STORE OUT.tar: rejected images for labelling and training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from runtime.command import run
from serving.exceptions import StoreUnusable
from serving.rejects.archive import UNLABELLED, export
from serving.rejects.files import open_files
from serving.rejects.store import RejectStore


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.rejects", description="Work with stored rejects.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    to_tar = commands.add_parser("export", help="all images as a tar with one folder a class")
    to_tar.add_argument("store", metavar="STORE", help="directory or URL, as the service's OODGATE_REJECTS")
    to_tar.add_argument("out", metavar="OUT.tar", type=Path)
    to_tar.add_argument(
        "--by-prediction", action="store_true", help=f"folders are the most probable classes (default: {UNLABELLED}/)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if "://" not in args.store and not Path(args.store).is_dir():
        raise StoreUnusable(f"{args.store}: no such directory; expected the service's reject store")
    count = export(RejectStore(open_files(args.store)), args.out, by_prediction=args.by_prediction)
    print(f"{args.out}: {count} image(s)")
    return 0


if __name__ == "__main__":
    run(main)
