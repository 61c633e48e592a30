"""How every command of the project ends: a user's error is one line on stderr and exit status 1, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from runtime.exceptions import OodgateError


def prog(package: str) -> str:
    """What help texts and usage errors call the command of `package`: what was typed.

    That is ``python -m PACKAGE``, unless the command `oodgate` has put its own name and the subcommand's first into
    ``sys.argv``.
    """
    return sys.argv[0] if sys.argv[0].startswith("oodgate ") else f"python -m {package}"


def run(main: Callable[[], int]) -> NoReturn:
    """Call `main` and exit with its status; errors of :mod:`runtime.exceptions` become one line and status 1."""
    try:
        status = main()
    except OodgateError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        status = 1
    except BrokenPipeError:  # `... | head` closed our output
        sys.stderr.close()
        status = 1
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
