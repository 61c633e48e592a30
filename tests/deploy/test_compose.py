from __future__ import annotations

import re
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def test_services_build_the_dockerfile_s_targets() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    services = compose["services"]
    assert {service["build"]["target"] for service in services.values()} == {"cpu", "cuda"} <= targets
    for service in services.values():
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["ports"] == ["3000:3000"]


def test_up_alone_starts_one_service() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert [name for name, service in compose["services"].items() if "profiles" not in service] == ["oodgate"]
