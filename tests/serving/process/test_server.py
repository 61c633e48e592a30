"""Who follows a worker that ended, when, and what ends the service."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.process import server
from serving.process.server import Workers
from serving.process.workers import REFUSED
from tests.serving.conftest import ROOT

# Ends at once with the status that a file names, and lives while it names none.
WORKER = """
import pathlib, sys, time
file = pathlib.Path(sys.argv[1])
with (file.parent / "starts").open("a") as starts:
    starts.write(sys.argv[2])
code = file.read_text()
time.sleep(0 if code else 60)
sys.exit(int(code))
"""


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


@pytest.fixture
def status(tmp_path: Path) -> Path:
    """What workers that start from now on end with; nothing for those that live."""
    file = tmp_path / "status"
    file.write_text("")
    return file


@pytest.fixture
def workers(bound: socket.socket, status: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    monkeypatch.setattr(server, "_PAUSE", 0.3)
    made = Workers([sys.executable, "-c", WORKER, str(status)], bound)
    yield made
    made.stop()


def starts(status: Path, at_least: int) -> int:
    """How many workers have started, waiting for so many."""
    file, deadline = status.parent / "starts", time.monotonic() + 20
    while time.monotonic() < deadline and (not file.exists() or file.stat().st_size < at_least):
        time.sleep(0.02)
    return file.stat().st_size


def look(workers: Workers, seconds: float) -> bool:
    """Look after them for some time, or until they are given up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not workers.are_kept():
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("code", [REFUSED, 1])
def test_a_service_that_can_t_start_ends(workers: Workers, status: Path, code: int) -> None:
    """Also where its worker could not even be imported."""
    workers.start(1)
    assert starts(status, 1) == 1
    status.write_text(str(code))
    workers.start(1)
    assert not look(workers, 20)
    assert starts(status, 2) == 2  # nobody tried again


def test_those_that_serve_go_on_while_a_successor_is_refused(
    workers: Workers, bound: socket.socket, status: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workers.start(1)
    assert starts(status, 1) == 1
    bound.listen()
    status.write_text(str(REFUSED))
    workers.start(1)  # after 0.3, 0.9 and 2.1 s again
    assert look(workers, 2.5)
    assert 2 <= starts(status, 2) - 1 <= 4
    assert "its successor starts in" in caplog.text
    status.write_text("")
    count = starts(status, 2)
    assert look(workers, 5)
    assert starts(status, count + 1) == count + 1  # as soon as it can


def test_the_last_one_s_successor_that_is_refused_ends_the_service(
    workers: Workers, bound: socket.socket, status: Path
) -> None:
    workers.start(1)
    assert starts(status, 1) == 1
    bound.listen()
    status.write_text(str(REFUSED))
    (place,) = workers._places
    place.process.kill()
    assert not look(workers, 20)


def test_one_that_is_killed_is_followed_again_and_again(workers: Workers, status: Path) -> None:
    workers.start(1)
    for count in (1, 2, 3):
        assert starts(status, count) == count
        workers._places[0].process.kill()
        workers._places[0].process.wait()
        assert look(workers, 0.3 * (2**count - 1) + 0.3)


def test_a_successor_has_its_predecessor_s_number(workers: Workers, status: Path) -> None:
    workers.start(1)
    workers.start(2)
    assert starts(status, 3) == 3
    workers._places[1].process.kill()
    workers._places[1].process.wait()
    assert look(workers, 0.6)
    assert starts(status, 4) == 4
    started = (status.parent / "starts").read_text()
    assert (sorted(started[:3]), started[3:]) == (["1", "2", "3"], "2")


def test_at_the_end_nobody_is_let_in(workers: Workers, bound: socket.socket, status: Path) -> None:
    address = bound.getsockname()
    workers.start(1)
    starts(status, 1)
    bound.listen()
    workers.stop()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(address, timeout=5):
        pass


def test_a_worker_whose_parent_has_ended_does_not_serve(bound: socket.socket) -> None:
    """It found another parent before it could ask the kernel to be told."""
    command = [sys.executable, "-m", "oodgate.service", str(bound.fileno()), str(os.getpid() + 1), "1"]
    ended = subprocess.run(command, cwd=ROOT, pass_fds=[bound.fileno()], timeout=60, check=False)
    assert ended.returncode == REFUSED
