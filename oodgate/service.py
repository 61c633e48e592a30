"""A worker of ``oodgate serve``, which is started where the command was typed.

``python -m oodgate.service DESCRIPTOR PARENT NUMBER``
"""

import sys
from importlib import import_module

from oodgate import beside


def main() -> int:
    """Serve on the socket that is given; the exit status."""
    beside.prefer()
    import_module("serving.process.workers").end_with_parent(int(sys.argv[2]))  # before imports that take a second
    status: int = import_module("serving.application").work(int(sys.argv[1]), int(sys.argv[3]))
    return status


if __name__ == "__main__":
    sys.exit(main())
