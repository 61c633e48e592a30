"""How every command of the project ends: a user's error is one line on stderr and exit status 1, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, NoReturn

from runtime.exceptions import OodgateError


def prog(package: str) -> str:
    """What help texts and usage errors call the command of `package`: what was typed.

    That is ``python -m PACKAGE``, unless the command `oodgate` has put its own name and the subcommand's first into
    ``sys.argv``.
    """
    return sys.argv[0] if sys.argv[0].startswith("oodgate ") else f"python -m {package}"


def explain_missing(extra: str) -> None:
    """In ``python -m PACKAGE``, whose package asks for this first, let an import that fails be one line too."""
    if sys.argv[:1] == ["-m"]:
        sys.excepthook = partial(_explain, f"pip install 'oodgate[{extra}]'", sys.excepthook)


def _explain(
    remedy: str,
    otherwise: Callable[..., Any],
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    missing = ((error.name or "") if isinstance(error, ModuleNotFoundError) else "").partition(".")[0]
    if missing in {"", "oodgate", "runtime", "train", "export", "serving"}:
        otherwise(kind, error, trace)
    else:
        print(f"error: {missing} is not installed: {remedy}", file=sys.stderr)


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
