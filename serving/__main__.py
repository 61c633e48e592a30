"""``python -m serving``: `bentoml serve` on this service, with its options, after a look at what it would trip over."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.command import run
from serving.home import check_home

ROOT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    check_home()
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    run(main)
