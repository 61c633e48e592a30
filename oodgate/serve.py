"""``oodgate serve [BUNDLE]``: ``bentoml serve`` on a bundle, from any directory."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import NoReturn

_SERVICE = "oodgate.service:OodGate"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oodgate serve",
        description="Serve a bundle over HTTP, with a page at / to try it. Everything else is set by OODGATE_* variables: "
        "docs/operations.md.",
        epilog="Example: %(prog)s bundles/first --port 8000",
    )
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", help="its directory (default: OODGATE_BUNDLE)")
    parser.add_argument("--host", help="the address to listen on (default: BentoML's, 0.0.0.0)")
    parser.add_argument("--port", type=int, help="the port to listen on (default: BentoML's, 3000)")
    return parser


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Becomes `bentoml serve`, so that signals and the exit status are its own."""
    args = _parser().parse_args(argv)
    if find_spec("bentoml") is None:
        raise ModuleNotFoundError("No module named 'bentoml'", name="bentoml")
    import_module("serving.process.home").check_home()
    command = [sys.executable, "-m", "bentoml", "serve", _SERVICE]
    for option in ("host", "port"):
        if (value := getattr(args, option)) is not None:
            command += [f"--{option}", str(value)]
    environment = {**os.environ, "OODGATE_BUNDLE": args.bundle} if args.bundle else os.environ
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)
