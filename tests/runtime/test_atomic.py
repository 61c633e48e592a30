"""A file is replaced as a whole or stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import atomic


def test_replaces(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for data in (b"first", b"second"):
        atomic.replace(file, data)
        assert file.read_bytes() == data
    assert list(tmp_path.iterdir()) == [file]


def test_what_can_not_be_replaced_stays_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        atomic.replace(tmp_path / "folder", b"data")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "inside"]
