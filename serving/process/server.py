"""``oodgate serve``: the application on worker processes, started again when one has ended.

Ready in less than half the time that `bentoml serve` takes, most of which are imports, twice: here the workers import what
they serve, and the process that starts them what looks at the settings.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from runtime.signals import asked_to_end
from serving.exceptions import SettingsError
from serving.process.home import METRICS, own_metrics
from serving.process.workers import log_end

logger = logging.getLogger("oodgate")

_LOOKED = 0.2  # seconds between looks at the workers
_LASTING = 60  # seconds after which a worker's end has nothing to do with its start
_PAUSE, _LONGEST_PAUSE = 0.5, 30  # seconds before one that did not last is replaced, at first and at most
_FORMAT = "%(asctime)s [%(levelname)s] [%(process)d] %(message)s"


def serve(module: str, host: str, port: int) -> int:
    """Serve until SIGTERM or SIGINT; the exit status, which is 1 where no worker could start.

    Args:
        module: of a worker, which is run with the descriptor of the socket, the number of this process and its own among the
            workers as its arguments, and ends with :data:`serving.process.workers.REFUSED` where it can't serve.
        host, port: to listen on.

    Raises:
        OodgateError: the settings, or what they name, can't be used.
    """
    configure_logging()
    with own_metrics() as directory, _bound(host, port) as bound, asked_to_end() as end:
        os.environ[METRICS] = str(directory)
        workers = Workers([sys.executable, "-m", module, str(bound.fileno()), str(os.getpid())], bound)
        try:
            workers.start(1)  # which imports the application while the settings are looked at here
            workers.start(_wanted() - 1)
            address = f"[{host}]" if ":" in host else host
            logger.info("listening on http://%s:%d; Ctrl-C ends it", address, bound.getsockname()[1])
            while not end.wait(_LOOKED):
                if not workers.are_kept():
                    return 1
        finally:
            workers.stop()
    return 0


@dataclass
class _Place:
    """Where one worker follows another.

    Attributes:
        number: of the place, from 1.
        process: the latest.
        started: on the monotonic clock.
        pause: seconds that its successor waits; 0 after one that lasted.
        ended: when it had ended; None while it lives.
    """

    number: int
    process: subprocess.Popen[bytes]
    started: float
    pause: float = 0.0
    ended: float | None = None


class Workers:
    """Processes that all serve on one socket.

    Args:
        command: that starts one, but for the number of its place, which is added.
        bound: the socket.
    """

    def __init__(self, command: Sequence[str], bound: socket.socket) -> None:
        self._command = command
        self._bound = bound
        self._places: list[_Place] = []

    def start(self, count: int) -> None:
        """So many more."""
        for number in range(len(self._places) + 1, len(self._places) + count + 1):
            self._places.append(_Place(number, self._started(number), monotonic()))

    def are_kept(self) -> bool:
        """Replace those that have ended, of which the log tells why: at once where they lasted, else after a growing pause.

        Returns:
            False where one failed to start and there is none that serves: its successor would fail as well. While others
            serve, on a bundle that was whole when they loaded it, they go on.
        """
        for place in self._places:
            if place.ended is None:
                self._look_at(place)
            if place.ended is not None and monotonic() >= place.ended + place.pause:
                place.process, place.started, place.ended = self._started(place.number), monotonic(), None
        failed = any(place.ended is not None and (place.process.returncode or 0) > 0 for place in self._places)
        return not failed or self._serve()

    def _look_at(self, place: _Place) -> None:
        """Note that a worker has ended, if it has, and how long its successor waits."""
        code = place.process.poll()
        if code is None:
            return
        log_end(place.process.pid, code)
        place.ended = monotonic()
        lasted = place.ended - place.started > _LASTING
        place.pause = 0.0 if lasted else min(2 * place.pause + _PAUSE, _LONGEST_PAUSE)
        if place.pause > _PAUSE:
            logger.warning("its successor starts in %.0f s", place.pause)

    def _serve(self) -> bool:
        """Whether any does: one has listened, and one lives."""
        listening = self._bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return bool(listening) and any(place.ended is None for place in self._places)

    def stop(self) -> None:
        """Ask all to end, and wait until they have answered what they accepted; nobody is let in meanwhile."""
        for place in self._places:
            place.process.terminate()
        self._bound.close()  # or connections would wait in its queue for somebody to take them
        for place in self._places:
            place.process.wait()

    def _started(self, number: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self._command, str(number)], pass_fds=[self._bound.fileno()])


def configure_logging() -> None:
    """Warnings of everything, and of the service's own few lines those of less weight too, on standard error."""
    logging.basicConfig(level=logging.WARNING, format=_FORMAT)
    set_levels()


def set_levels() -> None:
    """Of the loggers, whoever handles what they write."""
    for name in ("oodgate", "runtime"):  # what is served, on which engine and why
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what a client got wrong


def _wanted() -> int:
    from serving.process.checks import checked_settings  # whose imports take as long as a worker's first half

    return checked_settings().workers


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket on which a worker listens when it is ready; until then connections are refused.

    Raises:
        SettingsError: the address can't be had.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            message = f"{host}, port {port}, can't be listened on ({reason}); name others by --host, --port"
            raise SettingsError(message) from error
        yield bound
