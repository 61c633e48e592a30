"""``python -m serving.batch SOURCE .. --bundle BUNDLE --out DIR``: the decisions on a whole source, as Parquet."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

# Before Ray is loaded, which otherwise tells its makers of its use, and prints its processes' messages here.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

from runtime.command import prog, run
from runtime.engines.interface import EngineName
from runtime.exceptions import OodgateError
from serving.batch import job
from serving.batch.images import BATCH
from serving.batch.job import Done, Options
from serving.batch.summary import discovery_text

_EXAMPLES = """\
Example: %(prog)s photos/ --bundle bundles/first --out scores/

Shards, and outliers among all of their images; a bucket, by a Ray cluster:
  %(prog)s 'shards/{000..119}.tar' --bundle bundles/first --out scores/ --fdr 0.1
  %(prog)s s3://bucket/images/ --bundle bundles/first --out s3://bucket/scores --engine ray

Then, with DuckDB: SELECT reason, count(*) FROM 'scores/*.parquet' GROUP BY reason

Run it again and it goes on where it stopped; a source, bundle or option that has changed meanwhile is refused. It exits with
0 when every image has its row, which for an unusable image is an error and no decision; with 1 when it could not go on, or
nothing could be decided on.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Decide on all images of a source, however many: one row an image, in Parquet files that are written as "
        "they are finished. The decisions are those of oodgate run, bit for bit: images are decided on by 64 "
        "consecutive ones, whoever does it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="a directory; image files, tars (WebDataset) or Parquet files; patterns of these, in quotes; by path, or by URL "
        "such as s3://bucket/images/ for which fsspec has a plugin",
    )
    parser.add_argument("--bundle", required=True, type=Path, metavar="BUNDLE", help="whose gate decides")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory or URL to write the Parquet files to")
    parser.add_argument("--alpha", type=float, help="one of the bundle's operating points (default: the bundle's)")
    parser.add_argument(
        "--fdr",
        type=float,
        metavar="Q",
        help="find outliers in the whole output, of which on average at most a share Q are none: the column outlier",
    )
    _add_workers(parser)
    _add_columns(parser)
    return parser


def _add_workers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who does the work")
    group.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="threads of this process; or Ray: the cluster that RAY_ADDRESS names or this machine is part of, else this "
        "machine alone (default: %(default)s)",
    )
    group.add_argument(
        "--backend",
        choices=get_args(EngineName),
        default="auto",
        help="what runs the graph, the --engine of oodgate run; auto takes the best that works here and says so "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--workers",
        type=_positive,
        default=0,
        metavar="N",
        help="threads or Ray's actors (default: one a core, or one a GPU)",
    )


def _add_columns(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is read and written")
    group.add_argument(
        "--image-column",
        metavar="NAME",
        help="of Parquet files, with bytes or paths (default: the one of bytes, or image, path ..)",
    )
    group.add_argument(
        "--key-column", metavar="NAME", help="of Parquet files (default: key, id ..; without any, file/row)"
    )
    group.add_argument(
        "--rows",
        type=_rows,
        default=Options.rows,
        metavar="N",
        help=f"images of a file of the output, a multiple of {BATCH} (default: %(default)s)",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {value}")
    return value


def _rows(text: str) -> int:
    value = _positive(text)
    if value % BATCH:
        raise argparse.ArgumentTypeError(
            f"expected a multiple of {BATCH}, such as {-(-value // BATCH) * BATCH}, found {value}"
        )
    return value


def _options(args: argparse.Namespace) -> Options:
    return Options(
        sources=tuple(args.sources),
        bundle=args.bundle,
        out=args.out,
        engine=args.engine,
        backend=args.backend,
        alpha=args.alpha,
        workers=args.workers,
        rows=args.rows,
        image=args.image_column,
        key=args.key_column,
        fdr=args.fdr,
    )


def _print(out: str, done: Done) -> None:
    print(f"{out}: {done.summary.text()}")
    if done.scored < done.summary.images:
        print(f"{done.summary.images - done.scored:,} of them were there already")
    if done.scored:
        print(f"{done.scored:,} images in {done.seconds:.1f} s, {done.scored / done.seconds:,.0f} images/s")
    if done.discovery:
        print(discovery_text(done.discovery))


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        done = job.run(_options(args))
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from what is in {args.out}", file=sys.stderr)
        raise
    _print(args.out, done)
    if not done.summary.decided:
        raise OodgateError(f"{args.out}: none of the images could be decided on; its columns error and message say why")
    return 0


if __name__ == "__main__":
    run(main)
