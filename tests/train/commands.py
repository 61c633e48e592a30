"""Commands as a user meets them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest

from runtime.command import run


def failure(capsys: pytest.CaptureFixture[str], main: Callable[[Sequence[str]], int], *argv: object) -> str:
    """The message of a command that must fail: one line after argparse's usage, if any, and no traceback."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        run(partial(main, [str(item) for item in argv]))
    lines = capsys.readouterr().err.splitlines()
    if exit_.value.code == 2:
        assert lines[0].startswith("usage: ")
        assert "error: " in lines[-1]
    else:
        assert exit_.value.code == 1
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
    return lines[-1].split("error: ", 1)[1]
