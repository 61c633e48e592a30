"""A .npy of images, and what is to be done with every other array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.sets import SPEC, noise
from train.data import LazyImages, load, read
from train.exceptions import DataError


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_are_mapped(tmp_path: Path, in_memory: bool, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "set.npy", noise(9))
    found = load(str(tmp_path / "set.npy"), SPEC, in_memory=in_memory)
    assert isinstance(found.images, LazyImages) != in_memory
    np.testing.assert_array_equal(found.images[:], noise(9))
    assert (found.labelled, found.classes) == (False, ())
    read(str(tmp_path / "set.npy"), SPEC)
    assert capsys.readouterr().out == f"{tmp_path / 'set.npy'}: 9 images, no labels\n"


def test_halves(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", noise(9))
    halves = [load(f"{tmp_path / 'set.npy'}@{i}/2", SPEC) for i in (1, 2)]
    assert sorted(halves[0].names + halves[1].names) == sorted(map(str, range(9)))
    for half in halves:
        np.testing.assert_array_equal(half.images, noise(9)[list(map(int, half.names))])


@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        (noise(2) / np.float32(255), r"found float32 \[2, 8, 8, 3\]; \(255 \* x\)\.round\(\)\.astype\(np\.uint8\)"),
        (noise(2).astype(np.int64), r"x\.astype\(np\.uint8\) where x is in \[0, 255\]"),
        (
            noise(2).transpose(0, 3, 1, 2),
            r"found uint8 \[2, 3, 8, 8\]; x\.transpose\(0, 2, 3, 1\) puts the channels last",
        ),
        (noise(2)[0], r"found uint8 \[8, 8, 3\]; x\[None\] is a set of one image"),
        (noise(2)[..., 0], r"np\.repeat\(x\[\.\.\., None\], 3, axis=3\)"),
        (noise(2)[..., :1], r"np\.repeat\(x, 3, axis=3\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"x\[\.\.\., :3\] drops transparency"),
        (noise(2).reshape(2, -1), r"x\.reshape\(N, H, W, 3\)"),
        (noise(2).transpose(0, 3, 1, 2) / 255, r"x\.transpose\(0, 2, 3, 1\) .*; \(255 \* x\)"),
        (noise(0), r"found uint8 \[0, 8, 8, 3\]"),
        (np.array(["a"]), "found <U1"),
        (np.array([{}]), "Python objects"),
    ],
)
def test_other_arrays_are_refused_with_what_to_do(tmp_path: Path, array: Any, remedy: str) -> None:
    np.save(tmp_path / "set.npy", array)
    with pytest.raises(DataError, match=rf"set\.npy: .*{remedy}"):
        load(str(tmp_path / "set.npy"), SPEC)


def test_a_file_that_is_no_npy(tmp_path: Path) -> None:
    (tmp_path / "set.npy").write_bytes(b"text")
    with pytest.raises(DataError, match=r"set\.npy: expected a \.npy"):
        load(str(tmp_path / "set.npy"), SPEC)
