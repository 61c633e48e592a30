"""Commands as a user meets them, in the process of the tests: what takes a second there takes five in one of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from oodgate.__main__ import main as command
from runtime.command import run


def oodgate(*arguments: str) -> None:
    """Run a command to its end, which must be a good one; what it changes in its process is put back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["oodgate"])
        patch.setattr(sys, "meta_path", list(sys.meta_path))
        with pytest.raises(SystemExit) as ended:
            command(list(arguments))
    assert ended.value.code in (0, None), arguments


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
