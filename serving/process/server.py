"""``oodgate serve``: the application on worker processes of uvicorn's.

Ready in less than half the time that `bentoml serve` takes, most of which are imports, twice: here the workers import what
they serve, and the process that starts them uvicorn.
"""

from __future__ import annotations

import logging
import os
import socket

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from runtime.exceptions import OodgateError
from serving.exceptions import SettingsError
from serving.process.home import METRICS, own_metrics
from serving.process.workers import log_end

logger = logging.getLogger("oodgate")

_PROTOCOL = "serving.http.connections:BoundedProtocol"
_FORMAT = "%(asctime)s [%(levelname)s] [%(process)d] %(message)s"


class Workers(Multiprocess):
    """As many workers as the settings say, each started again when it has ended, of which the log tells why."""

    def init_processes(self) -> None:
        """Start them; while the first one imports the application, the settings are looked at here.

        Raises:
            OodgateError: with these settings nothing can be served.
        """
        self.processes.append(self._started())
        try:
            from serving.process.checks import checked_settings

            self.processes_num = checked_settings().workers
        except OodgateError:
            self.terminate_all()
            self.join_all()
            raise
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        port = self.sockets[0].getsockname()[1]  # of 0 the one that was free
        logger.info("listening on http://%s:%d; Ctrl-C ends it", host, port)
        while len(self.processes) < self.processes_num:
            self.processes.append(self._started())

    def keep_subprocess_alive(self) -> None:
        """Replace those that have ended; where one could not start, the next would not either, and all is over.

        uvicorn's own asks each for a sign of life, and takes one that compiles a network for dead.
        """
        for index, process in enumerate(self.processes):
            if process.pid is None or process.exitcode is None:
                continue
            log_end(process.pid, process.exitcode)
            if process.exitcode == STARTUP_FAILURE:
                self.should_exit.set()
                return
            self.processes[index] = self._started()

    def _started(self) -> Process:
        process = Process(self.config, self.sockets)
        process.start()
        return process


def configure_logging() -> None:
    """Warnings of everything, and of the service's own few lines those of less weight too, on standard error."""
    logging.basicConfig(level=logging.WARNING, format=_FORMAT)
    for name in ("oodgate", "runtime"):  # what is served, on which engine and why
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what a client got wrong


def serve(application: str, host: str, port: int) -> int:
    """Serve until a signal ends it; the exit status.

    Args:
        application: ``module:function`` that makes the application, called in each worker.
        host, port: to listen on.

    Raises:
        OodgateError: the settings, or what they name, can't be used.
    """
    configure_logging()
    config = uvicorn.Config(
        application,
        factory=True,
        http=_PROTOCOL,
        host=host,
        port=port,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    with own_metrics() as directory:
        os.environ[METRICS] = str(directory)
        workers = Workers(config, [_bound(host, port)])
        workers.run()
    return int(any(process.exitcode == STARTUP_FAILURE for process in workers.processes))


def _bound(host: str, port: int) -> socket.socket:
    """A socket on which a worker listens when it is ready; until then connections are refused.

    Raises:
        SettingsError: the address can't be had.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(
            f"{host}, port {port}, can't be listened on ({reason}); name others by --host, --port"
        ) from error
    bound.set_inheritable(True)
    return bound
