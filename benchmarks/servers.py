"""Servers to measure: started on a free port, ready when they answer, ended afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.paths import ROOT

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Load:
    """What wrk saw.

    Attributes:
        rate: requests answered with 2xx or 3xx a second.
        p50, p99: milliseconds, over all answers.
        refused: requests answered otherwise.
        failed: connections or requests that got no answer in time.
    """

    rate: float
    p50: float
    p99: float
    refused: int
    failed: int


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, below those that the kernel gives to clients: one of them could take such a
    port before the server does."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def running(*command: str, probe: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server's URL and process; `{port}` in `command` is replaced, and GET `probe` answers when it is ready."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = [str(BIN / command[0]), *(part.format(port=port) for part in command[1:])]
    with tempfile.TemporaryDirectory() as home:
        variables = {**os.environ, "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": home, **environment}
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=variables, stdout=quiet, stderr=quiet, start_new_session=True
        )
        try:
            _wait(url + probe, process)
            yield url, process
        finally:
            process.terminate()
            process.wait(timeout=60)
            with contextlib.suppress(ProcessLookupError):  # some leave their workers behind
                os.killpg(process.pid, signal.SIGKILL)


SERVERS = {"oodgate": ("python", "-m", "oodgate", "serve"), "bentoml": ("bentoml", "serve")}


def product(
    bundle: Path, *, server: str = "oodgate", **settings: object
) -> contextlib.AbstractContextManager[tuple[str, subprocess.Popen[bytes]]]:
    """`oodgate serve`, or `bentoml serve`, with `OODGATE_` settings."""
    variables = {f"OODGATE_{name.upper()}": str(value) for name, value in {"bundle": bundle, **settings}.items()}
    return running(*SERVERS[server], "--host", "127.0.0.1", "--port", "{port}", probe="/readyz", **variables)


def family(pid: int) -> list[psutil.Process]:
    """A process and its children."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def workers(pid: int) -> list[psutil.Process]:
    """The workers of a service of ours that are alive."""
    children = [child for child in psutil.Process(pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in children if {"--worker-id", "oodgate.service"} & set(child.cmdline())]


def resident(pid: int) -> float:
    """Megabytes of a process and its children; what they share is counted in each."""
    return sum(process.memory_info().rss for process in family(pid)) / 1e6


def processor_seconds(pid: int) -> float:
    """What a process and its children have used."""
    times = [process.cpu_times() for process in family(pid)]
    return sum(each.user + each.system for each in times)


def wrk(url: str, body: Path, connections: int, seconds: int, media: str = "image/png") -> Load:
    """POST `body`, of a media type, over `connections` connections for some time.

    Raises:
        SystemExit: wrk is not installed.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("error: wrk is not installed; try apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % (media, body))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", script.name, url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^RESULT (\S+) (\S+) (\S+) (\S+) (\S+) (\S+)$", output, re.MULTILINE)
    assert found is not None, output
    requests, microseconds, p50, p99, refused, failed = map(float, found.groups())
    rate = (requests - refused) / microseconds * 1e6
    return Load(rate, p50 / 1e3, p99 / 1e3, int(refused), int(failed))


_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "%s"
local file = io.open("%s", "rb")
wrk.body = file:read("*all")
file:close()
done = function(summary, latency, requests)
  local errors = summary.errors
  print(string.format("RESULT %%d %%d %%d %%d %%d %%d", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"""


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 120
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code < 500:
                return
        time.sleep(0.02)
    raise SystemExit(f"error: {url} did not become ready; run its command to see why")
