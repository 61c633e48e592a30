"""How a command ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

import pytest

from runtime.command import prog, run
from runtime.exceptions import EmptyImage, OodgateError


def raising(error: BaseException) -> Callable[[], int]:
    def main() -> NoReturn:
        raise error

    return main


def status_of(main: Callable[[], int]) -> object:
    with pytest.raises(SystemExit) as caught:
        run(main)
    return caught.value.code


@pytest.mark.parametrize("status", [0, 1, 3])
def test_exits_with_the_status_of_main(status: int) -> None:
    assert status_of(lambda: status) == status


@pytest.mark.parametrize("error", [OodgateError("what to do"), EmptyImage("what to do")])
def test_an_error_of_ours_is_one_line_and_status_1(error: OodgateError, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(raising(error)) == 1
    assert capsys.readouterr() == ("", "error: what to do\n")


def test_an_error_of_several_lines_is_joined_to_one(capsys: pytest.CaptureFixture[str]) -> None:
    status_of(raising(OodgateError("first\n  second\n\nthird")))
    assert capsys.readouterr().err == "error: first second third\n"


def test_an_interrupt_is_status_130_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_went_away_is_status_1_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(sys.stderr, "close", lambda: closed.append(True))
    assert status_of(raising(BrokenPipeError())) == 1
    assert (capsys.readouterr().err, closed) == ("", [True])


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)


@pytest.mark.parametrize("typed", ["/somewhere/export/__main__.py", "pytest"])
def test_a_command_is_called_by_its_module(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.setattr(sys, "argv", [typed, "--help"])
    assert prog("export") == "python -m export"


def test_a_command_that_oodgate_hands_over_to_is_called_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["oodgate run", "--help"])
    assert prog("runtime") == "oodgate run"
