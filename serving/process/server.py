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

from runtime.signals import asked_to_end
from serving.exceptions import SettingsError
from serving.process.home import METRICS, own_metrics
from serving.process.workers import REFUSED, log_end

logger = logging.getLogger("oodgate")

_LOOKED = 0.2  # seconds between looks at the workers
_FORMAT = "%(asctime)s [%(levelname)s] [%(process)d] %(message)s"


def serve(module: str, host: str, port: int) -> int:
    """Serve until SIGTERM or SIGINT; the exit status, which is 1 where a worker refused to start.

    Args:
        module: of a worker, which is run with the descriptor of the socket as its argument and ends with
            :data:`serving.process.workers.REFUSED` where it can't serve.
        host, port: to listen on.

    Raises:
        OodgateError: the settings, or what they name, can't be used.
    """
    configure_logging()
    with own_metrics() as directory, _bound(host, port) as bound, asked_to_end() as end:
        os.environ[METRICS] = str(directory)
        workers = Workers([sys.executable, "-m", module, str(bound.fileno())], bound.fileno())
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


class Workers:
    """Processes that all serve on one socket.

    Args:
        command: that starts one.
        descriptor: of the socket.
    """

    def __init__(self, command: Sequence[str], descriptor: int) -> None:
        self._command = command
        self._descriptor = descriptor
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, count: int) -> None:
        """So many more."""
        self._processes += [self._started() for _ in range(count)]

    def are_kept(self) -> bool:
        """Replace those that have ended, of which the log tells why; false where one refused to start, as its successor
        would."""
        for index, process in enumerate(self._processes):
            code = process.poll()
            if code is None:
                continue
            log_end(process.pid, code)
            if code == REFUSED:
                return False
            self._processes[index] = self._started()
        return True

    def stop(self) -> None:
        """Ask all to end, and wait until they have answered what they accepted."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, pass_fds=[self._descriptor])


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
