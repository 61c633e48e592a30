"""Tars that are damaged: read as they were, or refused by name."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from tests.train.sets import SPEC, colours, write_tar
from train.data import load
from train.exceptions import DataError


@pytest.mark.parametrize("content", [b"", b"this is text", bytes(range(256)) * 8], ids=["empty", "text", "binary"])
def test_file_that_is_no_tar(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"set\.tar: not a readable tar"):
        load(str(tmp_path / "set.tar"), SPEC)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_truncated_compressed_tar(tmp_path: Path, mode: str) -> None:
    file = write_tar(tmp_path / "set.tar", colours(30), mode)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match="not a readable tar"):
        load(str(file), SPEC)


@pytest.mark.parametrize("size", [1024, 1024 + 100, 1024 + 600], ids=["between files", "in a header", "in an image"])
def test_truncated_tar(tmp_path: Path, size: int) -> None:
    """Each file takes 1024 bytes: its header and its image, padded to 512 each."""
    file = write_tar(tmp_path / "set.tar", colours(6))
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(DataError, match=r"set\.tar: .*(truncated|not a readable tar)"):
        load(str(file), SPEC)


def test_tar_gz_damaged_anywhere(tmp_path: Path) -> None:
    """Eight bytes overwritten at each of many places: read as it was, or refused by name."""
    file = write_tar(tmp_path / "set.tar.gz", colours(6), "w:gz")
    content = file.read_bytes()
    for start in range(0, len(content) - 8, 11):
        file.write_bytes(content[:start] + b"\xa5" * 8 + content[start + 8 :])
        with suppress(DataError):
            load(str(file), SPEC)
