from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.bundle import Bundle
from serving import settings as settings_module
from serving.drift.detector import Detector
from serving.drift.reference import Reference
from serving.exceptions import SettingsError
from serving.settings import Settings, cores, variables
from tests.serving.conftest import ROOT

ALLOWED = len(os.sched_getaffinity(0))


def test_variables_set_fields() -> None:
    settings = Settings.from_environment({"OODGATE_BUNDLE": "/b", "OODGATE_MAX_PIXELS": "10", "HOME": "/"})
    assert settings.bundle == Path("/b")
    assert settings.limits.max_pixels == 10
    assert settings.max_images == Settings().max_images


@pytest.mark.parametrize("value", ["", "many", "-1", "1.5"])
def test_not_a_number(value: str) -> None:
    with pytest.raises(SettingsError, match="OODGATE_MAX_BYTES must be a whole number of at least 1"):
        Settings.from_environment({"OODGATE_MAX_BYTES": value})


def test_a_misspelt_variable_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"OODGATE_BUNDEL is no setting; there are .*OODGATE_BUNDLE,"):
        Settings.from_environment({"OODGATE_BUNDEL": "/b"})


def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_setting() -> None:
    injected = {
        "OODGATE_SERVICE_HOST": "10.0.0.1",
        "OODGATE_SERVICE_PORT_HTTP": "3000",
        "OODGATE_PORT": "tcp://10.0.0.1:3000",
        "OODGATE_PORT_3000_TCP": "tcp://10.0.0.1:3000",
    }
    assert Settings.from_environment(injected) == Settings()


@pytest.mark.parametrize("service", ["", "_CANARY", "_V2", "_MAX_QUEUE"])
def test_what_kubernetes_sets_for_a_service_of_a_name_like_ours_is_no_setting(service: str) -> None:
    injected = {
        f"OODGATE{service}_{name}": value
        for name, value in {
            "SERVICE_HOST": "10.0.0.1",
            "SERVICE_PORT": "80",
            "SERVICE_PORT_HTTP_METRICS": "80",
            "PORT": "tcp://10.0.0.1:80",
            "PORT_80_TCP": "tcp://10.0.0.1:80",
            "PORT_80_TCP_PROTO": "tcp",
            "PORT_80_TCP_PORT": "80",
            "PORT_80_TCP_ADDR": "10.0.0.1",
            "PORT_53_UDP": "udp://[fd00::1]:53",
        }.items()
    }
    assert Settings.from_environment(injected) == Settings()


@pytest.mark.parametrize(
    "name", ["PORT", "CANARY_PORT", "SERVICE", "PORT_TCP", "SERVICE_HOSTS", "CANARY", "PORTS_80_TCP"]
)
def test_what_kubernetes_would_not_set_is_a_typo(name: str) -> None:
    with pytest.raises(SettingsError, match=f"OODGATE_{name} is no setting"):
        Settings.from_environment({f"OODGATE_{name}": "3000"})


def test_a_client_s_half_of_the_memory_holds_the_largest_body() -> None:
    with pytest.raises(SettingsError, match="OODGATE_BODY_MEMORY must be at least 134217728"):
        Settings.from_environment({"OODGATE_BODY_MEMORY": "134217727"})
    assert Settings.from_environment({"OODGATE_BODY_MEMORY": "134217728"}).body_memory == 134217728


def test_switches_and_lists() -> None:
    digest = hashlib.sha256(b"key").hexdigest()
    settings = Settings.from_environment(
        {"OODGATE_ACCESS_LOG": "1", "OODGATE_TRACING": "0", "OODGATE_API_KEYS": f"{digest}, {digest},"}
    )
    assert settings.access_log
    assert not settings.tracing
    assert settings.api_keys == (digest, digest)


@pytest.mark.parametrize("value", ["", "yes", "2"])
def test_not_a_switch(value: str) -> None:
    with pytest.raises(SettingsError, match="OODGATE_MONITOR must be 0 or 1"):
        Settings.from_environment({"OODGATE_MONITOR": value})


@pytest.mark.parametrize("value", ["secret", "", ",", f"{'0' * 64},secret", "A" * 64])
def test_keys_that_are_no_digests_are_an_error_that_does_not_repeat_them(value: str) -> None:
    with pytest.raises(SettingsError, match=r"python -m serving\.keys") as caught:
        Settings.from_environment({"OODGATE_API_KEYS": value})
    assert "secret" not in str(caught.value)


def test_the_operator_s_table_is_the_dataclass() -> None:
    """docs/operations.md lists every setting, in its order, with its default."""
    text = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `OODGATE_(\w+)` \| (.*?) \| .+ \|$", text, re.MULTILINE)
    fields = variables()
    assert [name.lower() for name, _ in rows] == [field.name for field in fields]
    for field, (_, default) in zip(fields, rows, strict=True):
        if not default.startswith("from the cores") and field.name not in ("bundle", "alpha"):
            assert default == _as_written(field.default)


def _as_written(default: Any) -> str:
    if isinstance(default, bool):
        return str(int(default))
    return "none" if default in ((), "") else str(default)


@pytest.mark.parametrize(
    ("workers", "calls", "threads"), [(1, 8, 16), (3, 2, 5), (4, 2, 4), (16, 1, 1), (40, 1, 1)]
)  # the share of 16 cores, and half of it
def test_a_worker_s_cores_are_those_of_as_many_workers_as_are_set(
    workers: int, calls: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module, "_CORES", 16)
    found = Settings.from_environment({"OODGATE_WORKERS": str(workers)})
    assert (found.engine_calls, found.decode_threads) == (calls, threads)
    assert found.given == {"workers"}
    asked = {"OODGATE_WORKERS": str(workers), "OODGATE_DECODE_THREADS": "7", "OODGATE_ENGINE_CALLS": "9"}
    found = Settings.from_environment(asked)
    assert (found.engine_calls, found.decode_threads) == (9, 7)


def test_a_false_alarm_comes_after_two_images_at_least() -> None:
    with pytest.raises(
        SettingsError, match="OODGATE_DRIFT_FALSE_ALARM must be a whole number of at least 2, found '1'"
    ):
        Settings.from_environment({"OODGATE_DRIFT_FALSE_ALARM": "1"})
    Detector(Reference(np.array([1.0]), np.array([100.0])), 2)


def test_zero_engine_threads_means_all_cores() -> None:
    assert Settings.from_environment({"OODGATE_ENGINE_THREADS": "0"}).engine_threads == 0


def test_an_operating_point() -> None:
    assert Settings().alpha is None
    assert Settings.from_environment({"OODGATE_ALPHA": "0.01"}).alpha == 0.01


@pytest.mark.parametrize("value", ["", "small", "0", "1", "-0.1", "nan", "inf"])
def test_no_operating_point(value: str) -> None:
    with pytest.raises(SettingsError, match="OODGATE_ALPHA must be a number between 0 and 1"):
        Settings.from_environment({"OODGATE_ALPHA": value})


def test_an_operating_point_that_the_bundle_lacks_ends_the_service_before_it_starts(shared_bundle: Bundle) -> None:
    variables = {"OODGATE_BUNDLE": str(shared_bundle.path), "OODGATE_ALPHA": "0.02", "BENTOML_DO_NOT_TRACK": "True"}
    run = subprocess.run(
        [sys.executable, "-c", "import serving.service"],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "no operating point for alpha = 0.02; stored are 0.01, 0.05, 0.1." in run.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("max 100000\n", ALLOWED),
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("6400000 100000\n", min(ALLOWED, 64)),
        ("", ALLOWED),
        ("nonsense", ALLOWED),
    ],
)
def test_a_container_s_quota_counts(tmp_path: Path, content: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert cores(tmp_path / "cpu.max") == expected


def test_cores_without_a_quota(tmp_path: Path) -> None:
    assert cores(tmp_path / "none") == ALLOWED
