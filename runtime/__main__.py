"""``python -m runtime BUNDLE IMAGE|DIR ...``: one JSON decision a line."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from runtime.command import prog, run
from runtime.decision import Decision
from runtime.engines.interface import EngineName
from runtime.exceptions import ImageError, OodgateError
from runtime.folder import images
from runtime.gate import MAX_BATCH, Gate
from runtime.preprocess import SUFFIXES


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Classify images or reject them as out of distribution: one JSON object a line, with the file's "
        "name and either the decision or the error. Exits with 1 when any file was no usable image.",
        epilog="Example: %(prog)s bundles/cifar10 photo.jpg folder/ | jq -r '[.file, .decision, .label] | @tsv'",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="directory that python -m export wrote")
    parser.add_argument("images", metavar="IMAGE|DIR", nargs="+", type=Path, help="image files, and folders of them")
    parser.add_argument("--alpha", type=float, help="one of the bundle's operating points (default: the bundle's)")
    parser.add_argument(
        "--engine",
        choices=get_args(EngineName),
        default="auto",
        help="what runs the graph; auto takes the best that works here and says so on stderr (default: %(default)s)",
    )
    parser.add_argument(
        "--cache", type=Path, help="folder for what an engine builds at start-up (default: ~/.cache/oodgate)"
    )
    parser.add_argument("--threads", type=int, default=0, help="engine threads (default: one a physical core)")
    return parser


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from map(Path, images(path))
        else:
            yield path


def _answer(gate: Gate, files: list[Path]) -> list[dict[str, Any]]:
    """One object a file: its decision, or its error."""
    contents: dict[Path, bytes] = {}
    unreadable: dict[Path, str] = {}
    for file in files:
        try:
            contents[file] = file.read_bytes()
        except OSError as error:
            unreadable[file] = error.strerror or str(error)
    results = dict(zip(contents, gate.decide_each(list(contents.values())), strict=True))
    return [{"file": str(file), **_result(results.get(file), unreadable.get(file))} for file in files]


def _result(result: Decision | ImageError | None, unreadable: str | None) -> dict[str, Any]:
    if isinstance(result, Decision):
        return result.to_dict()
    if isinstance(result, ImageError):
        return {"error": {"code": result.code, "message": str(result)}}
    return {"error": {"code": "unreadable_file", "message": unreadable}}


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    gate = Gate.load(args.bundle, engine=args.engine, threads=args.threads, cache=args.cache, alpha=args.alpha)
    files = _files(args.images)
    count = failures = 0
    while chunk := list(islice(files, MAX_BATCH)):
        for answer in _answer(gate, chunk):
            print(json.dumps(answer), flush=True)
            failures += "error" in answer
        count += len(chunk)
    if not count:
        raise OodgateError(f"no images in {', '.join(map(str, args.images))}; expected {', '.join(sorted(SUFFIXES))}")
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)
