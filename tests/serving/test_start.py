"""What a served process does with what it finds: few open files, no home, a disk that can't be written, a worker's end."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from runtime.bundle import Bundle
from runtime.engines.interface import EngineOptions
from runtime.exceptions import EngineError
from serving.deciding import listeners
from serving.exceptions import SettingsError
from serving.process.home import check_home, own_metrics
from serving.process.open_files import fitted
from serving.process.server import _bound
from serving.process.workers import log_end
from serving.settings import Settings
from tests.runtime.golden.test_replay import edit
from tests.serving.abuse.test_connections import PNG, answer, connect, request, total, workers
from tests.serving.conftest import BENTOML_SERVE, OODGATE_SERVE, ROOT, serve


@pytest.mark.parametrize("command", [BENTOML_SERVE, OODGATE_SERVE], ids=["bentoml", "oodgate"])
def test_few_open_files_many_connections_and_a_worker_s_end(
    command: tuple[Path | str, ...], shared_bundle: Bundle, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    settings = {"OODGATE_BUNDLE": str(shared_bundle.path), "OODGATE_WORKERS": "1", "OODGATE_HEADER_TIMEOUT": "60"}
    settings |= {"OODGATE_KEEP_ALIVE": "1", "OODGATE_ENGINE": "auto"}
    engine = "openvino" if importlib.util.find_spec("openvino") else "onnxruntime-cpu"
    with serve("prlimit", "--nofile=160:300", *command, log=log, **settings) as (url, process):
        (worker,) = workers(process)
        assert worker.rlimit(resource.RLIMIT_NOFILE) == (300, 300)
        with connect(url, request(PNG).replace(b"Connection: close\r\n", b"")) as connection:
            start = time.monotonic()
            while connection.recv(4096):
                pass
            assert 0.9 < time.monotonic() - start < 4  # kept for OODGATE_KEEP_ALIVE, and not for uvicorn's 5 seconds
        idle = [connect(url) for _ in range(86)]
        assert httpx.get(f"{url}/readyz").status_code == 200
        refused = httpx.post(f"{url}/classify", content=PNG)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_connections")
        idle += [connect(url) for _ in range(100)]  # more than may wait for a refusal
        time.sleep(0.5)
        for connection in idle:
            connection.close()
        time.sleep(0.3)
        assert httpx.post(f"{url}/classify", content=PNG).status_code == 200
        assert total(url, 'oodgate_errors_total{code="too_many_connections"}') > 1
        worker.send_signal(signal.SIGBUS)
        psutil.wait_procs([worker], timeout=30)
        assert httpx.get(f"{url}/readyz", timeout=30).status_code == 200
    lines = log.read_text().splitlines()
    for expected in (
        r"at most 86 connections, not OODGATE_MAX_CONNECTIONS=1024: the hard limit of open files is 300; raise it to 2176",
        rf"engine {engine}, the best that",
        rf"serving {shared_bundle.path} on {engine}",
        rf"worker {worker.pid} was ended by SIGBUS, .* the volume of BENTOML_HOME",
    ):
        assert [line for line in lines if re.search(expected, line)], expected
    assert "Traceback" not in log.read_text()


def test_what_refuses_to_start_says_why_in_one_line(golden_bundle: Bundle, tmp_path: Path) -> None:
    edited = edit(golden_bundle, tmp_path, lambda image: image["scores"].update(energy=image["scores"]["energy"] + 1))
    variables = {"OODGATE_ENGINE": "onnxruntime-cpu", "OODGATE_TUNE": "0", "OODGATE_WORKERS": "1"}
    ended = subprocess.run(
        [*OODGATE_SERVE, edited.path, "--host", "127.0.0.1", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, **variables, "BENTOML_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if "golden images fail" in line]
    assert "[ERROR]" in line


def test_nothing_is_served_of_settings_that_can_t_be_used(tmp_path: Path, shared_bundle: Bundle) -> None:
    for bundle, variables, expected in (
        (tmp_path / "none", {}, f"error: {tmp_path}/none/manifest.json: not found"),
        (shared_bundle.path, {"OODGATE_WORKER": "2"}, "error: OODGATE_WORKER is no setting"),
        (
            shared_bundle.path,
            {"OODGATE_REJECTS": "LICENSE"},
            "error: rejected images can't be kept: LICENSE is no directory",
        ),
    ):
        environment = {**os.environ, "BENTOML_HOME": str(tmp_path), **variables}
        ended = subprocess.run(
            [*OODGATE_SERVE, bundle, "--host", "127.0.0.1", "--port", "0"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 1
        assert ended.stderr.startswith(expected)
        assert ended.stderr.count("\n") == 1


def test_the_soft_limit_is_raised_as_far_as_the_connections_need(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    for found in ((1024, 4096), (4096, 4096), (1024, resource.RLIM_INFINITY)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, found=found: found)
        assert fitted(Settings()) == Settings()
    assert asked == [(2176, 4096), (2176, resource.RLIM_INFINITY)]


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_json(server: tuple[str, subprocess.Popen[bytes]], sent: bytes) -> None:
    found = answer(connect(server[0], sent))
    assert found.startswith(b"HTTP/1.1 400")
    assert b"application/json" in found
    assert found.endswith(b'{"error":{"code":"malformed_http","message":"what was sent is no HTTP request"}}')


@pytest.mark.parametrize("path", ["/classify/", "/page", "/rejects/", "/v2/"])
def test_nothing_is_redirected(client: httpx.Client, path: str) -> None:
    found = client.get(path, headers={"host": "internal:3000"})
    assert found.status_code in (404, 405)
    assert "location" not in found.headers


def test_a_user_without_a_home_needs_no_cache(monkeypatch: pytest.MonkeyPatch, shared_bundle: Bundle) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    from runtime import Gate
    from runtime.engines import cache

    assert Gate.load(shared_bundle.path).engine.name == "onnxruntime-cpu"
    with pytest.raises(EngineError, match="can't be written"):
        cache.filled(EngineOptions().cache, {}, lambda _: None)


def test_decisions_that_can_t_be_logged_are_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for directory, can in ((tmp_path / "file" / "monitoring", False), (tmp_path / "monitoring", True)):
        monkeypatch.setattr(listeners, "monitor_directory", lambda directory=directory: directory)
        assert listeners._can_monitor() is can
    (record,) = caplog.records
    assert record.getMessage().startswith("OODGATE_MONITOR=1, but decisions are not logged: ")
    assert not record.exc_info


def test_a_worker_logs_its_decisions_to_files_of_its_own(shared_bundle: Bundle, tmp_path: Path) -> None:
    settings = {"OODGATE_BUNDLE": str(shared_bundle.path), "OODGATE_WORKERS": "1", "OODGATE_MONITOR": "1"}
    with serve(*OODGATE_SERVE, cwd=tmp_path, PYTHONPATH=str(ROOT), **settings) as (url, _):
        assert httpx.post(f"{url}/classify", content=PNG).status_code == 200
    assert sorted(path.name for path in tmp_path.rglob("*.log")) == ["data.1.log", "schema.1.log"]


def test_a_home_that_can_t_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    home = str(tmp_path / "file" / "home")
    monkeypatch.setenv("BENTOML_HOME", home)
    with pytest.raises(SettingsError, match=f"BENTOML_HOME, {home}, can't be written"):
        check_home()
    run = subprocess.run(
        [sys.executable, "-m", "oodgate", "serve"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.startswith(f"error: BENTOML_HOME, {home}, can't be written (Not a directory)")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("127.0.0.1", None, "Address already in use"),
        ("127.0.0.1", 70000, "must be 0-65535"),
        ("nowhere.invalid", 0, ""),
    ],
)
def test_an_address_that_can_t_be_had_is_one_line(host: str, port: int | None, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if port is None else port
        with pytest.raises(
            SettingsError, match=rf"{host}, port {port}, can't be listened on \(.*{reason}.*\); name others"
        ):
            _bound(host, port).__enter__()


def test_no_worker_outlives_the_service(shared_bundle: Bundle) -> None:
    with serve(*OODGATE_SERVE, OODGATE_BUNDLE=str(shared_bundle.path), OODGATE_WORKERS="2") as (url, process):
        left = workers(process)
        assert len(left) == 2
        httpx.get(f"{url}/readyz").raise_for_status()
        process.kill()
        gone, alive = psutil.wait_procs(left, timeout=15)
        assert not alive
        assert len(gone) == 2
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/readyz")


def test_each_service_s_metrics_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    with subprocess.Popen(["true"]) as process:  # whose number is no process's in a moment
        process.wait()
    for name in (f"metrics-{process.pid}", f"metrics-{os.getppid()}", f"metrics-{os.getpid()}", "metrics-x", "models"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "counter.db").touch()
    with own_metrics() as directory:
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {f"metrics-{os.getppid()}", f"metrics-{os.getpid()}", "models"}
        assert directory.name == f"metrics-{os.getpid()}"
        assert not list(directory.iterdir())
    assert not directory.exists()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (-signal.SIGKILL, "worker 7 was ended by SIGKILL, killed: by the kernel for want of memory"),
        (-signal.SIGSEGV, "worker 7 was ended by SIGSEGV, a fault in native code"),
        (-signal.SIGUSR1, "worker 7 was ended by SIGUSR1, which nobody here sends"),
        (3, "worker 7 ended with status 3"),
        (0, ""),
        (-signal.SIGTERM, ""),
    ],
)
def test_why_a_worker_ended(code: int, expected: str, caplog: pytest.LogCaptureFixture) -> None:
    log_end(7, code)
    assert caplog.text.count("\n") == bool(expected)
    assert expected in caplog.text
