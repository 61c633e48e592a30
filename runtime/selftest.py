"""``python -m runtime.selftest BUNDLE``: are the golden images here, or on a service, what they are in the bundle?"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from runtime.bundle import Bundle
from runtime.command import prog, run
from runtime.engines import selection
from runtime.engines.interface import EngineName, EngineOptions
from runtime.exceptions import OodgateError
from runtime.gate import Gate
from runtime.golden import service
from runtime.golden.document import Golden, read
from runtime.golden.replay import Report, replay


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog("runtime.selftest"),
        description="Replay a bundle's golden images, and say which stage is the first that makes something else of one: "
        "decode, resize, network, scores or rule. A line for each image that fails, with figures, then one in all; exits "
        "with 1 when any fails.",
        epilog="Example: %(prog)s bundles/cifar10 --url http://localhost:3000",
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="directory that python -m export wrote")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--engine",
        choices=get_args(EngineName),
        default="auto",
        help="what runs the graph here; auto takes the best that works and says so on stderr (default: %(default)s)",
    )
    where.add_argument("--url", help="a running service that serves this bundle, such as http://localhost:3000")
    parser.add_argument("--api-key", metavar="KEY", help="for --url, where the service asks for one")
    parser.add_argument("--cache", type=Path, help="folder for what an engine builds (default: ~/.cache/oodgate)")
    parser.add_argument("--threads", type=int, default=0, help="engine threads (default: one a physical core)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    if args.url and (args.cache or args.threads):
        parser.error("--cache and --threads are of an engine here, and --url is a service's")
    if args.api_key and not args.url:
        parser.error("--api-key goes with --url, the service that asks for it")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    bundle = Bundle.load(args.bundle)
    golden = read(bundle)
    if golden is None:
        raise OodgateError(f"{bundle.path} has no golden images; oodgate pipeline {bundle.path} writes them")
    report = service.replay(bundle, golden, args.url, args.api_key) if args.url else _here(bundle, golden, args)
    if args.json:
        print(json.dumps(report.to_dict()))
    else:
        print("\n".join(map(str, (*report.faults, report))))
    return 1 if report.faults else 0


def _here(bundle: Bundle, golden: Golden, args: argparse.Namespace) -> Report:
    options = EngineOptions(args.engine, args.threads, *((args.cache,) if args.cache else ()))
    return replay(Gate(bundle, selection.load(bundle, options)), golden)


if __name__ == "__main__":
    run(main)
