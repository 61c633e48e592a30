"""``oodgate serve [BUNDLE]``: the service on a bundle, from any directory."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

_WORKER = "oodgate.service"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oodgate serve",
        description="Serve a bundle over HTTP, with a page at / to try it. Everything else is set by OODGATE_* variables: "
        "docs/operations.md. The same service inside BentoML, with its options for TLS and its Bentos: bentoml serve, at the "
        "repository's root.",
        epilog="Example: %(prog)s bundles/first --port 8000",
    )
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", help="its directory (default: OODGATE_BUNDLE)")
    parser.add_argument("--host", default="0.0.0.0", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=3000, help="the port to listen on (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal ends it; the exit status."""
    args = _parser().parse_args(argv)
    if find_spec("uvicorn") is None:  # which the workers import
        raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
    if args.bundle:
        os.environ["OODGATE_BUNDLE"] = args.bundle
    status: int = import_module("serving.process.server").serve(_WORKER, args.host, args.port)
    return status
