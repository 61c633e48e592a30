"""What is started here calls nobody, and leaves nothing in a home or cache directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from runtime.bundle import Bundle
from tests.serving.conftest import BENTOML_SERVE, ROOT, serve
from tests.small import calibration_images, encode

# What a process says to a name server or to a host, but for this machine and its sockets on disk.
_OUTSIDE = re.compile(r'sin6?_port=htons\(\d+\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")(?!127\.|::1")')
VARIABLES = ("ORT_DISABLE_TELEMETRY", "BENTOML_DO_NOT_TRACK")


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_served_process_looks_nobody_up(
    shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    home, calls, temporary = tmp_path / "home", tmp_path / "calls", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "TMPDIR": str(temporary)}
    trace = ("strace", "-D", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(calls))
    with serve(
        *trace, *BENTOML_SERVE, tracked=True, OODGATE_BUNDLE=str(shared_bundle.path), OODGATE_WORKERS="1", **places
    ) as (url, _):
        for _ in range(5):
            assert httpx.post(f"{url}/classify", content=encode(calibration_images(1)[0])).status_code == 200
        time.sleep(3)
    outside = [line for line in calls.read_text().splitlines() if _OUTSIDE.search(line)]
    assert calls.stat().st_size > 0
    assert outside == []
    assert [*home.rglob("*")] == []
    assert [path for path in temporary.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("given", [None, "0"])
@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        ("runtime", "ORT_DISABLE_TELEMETRY", "1"),
        ("export", "ORT_DISABLE_TELEMETRY", "1"),
        ("serving.service", "BENTOML_DO_NOT_TRACK", "True"),
    ],
)
def test_it_is_off_unless_somebody_says_otherwise(module: str, name: str, value: str, given: str | None) -> None:
    environment = {key: found for key, found in os.environ.items() if key != name}
    environment |= {} if given is None else {name: given}
    loaded = f"e == 'import' and a[0] == 'onnxruntime' and print({name!r} in os.environ)"
    code = f"import os, sys; sys.addaudithook(lambda e, a: {loaded}); import {module}; print(os.environ[{name!r}])"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split()[-1] == (given or value)
    if name.startswith("ORT"):
        assert run.stdout.split()[0] == "True"  # before the library is loaded
