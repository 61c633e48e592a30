"""A worker of ``oodgate serve``, which is started where the command was typed: ``python -m oodgate.service DESCRIPTOR``."""

import sys
from importlib import import_module

from oodgate import beside


def main() -> int:
    """Serve on the socket that is given; the exit status."""
    beside.prefer()
    status: int = import_module("serving.application").work(int(sys.argv[1]))
    return status


if __name__ == "__main__":
    sys.exit(main())
