from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.cores import available

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000\n", CORES),
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("6400000 100000\n", min(CORES, 64)),
        ("", CORES),
        ("nonsense", CORES),
    ],
)
def test_a_container_s_quota_counts(tmp_path: Path, content: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert available(tmp_path / "cpu.max") == cores


def test_without_a_quota(tmp_path: Path) -> None:
    assert available(tmp_path / "none") == CORES
