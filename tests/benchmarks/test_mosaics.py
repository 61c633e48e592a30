"""Mosaics: every cell is an image of its class or grey, and unknown canvases are made like known ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.mosaics import main
from runtime.manifest import InputSpec
from tests.train.sets import write_tar
from train.data import ImageSet, load

SPEC = InputSpec(64, 64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
CLASSES = ("ant", "bee", "cat")
COUNTS = ["--train=40", "--val=30", "--ood=300"]


def plain(level: int) -> ImageSet:
    """Twelve images of one colour each, (level + i, its class, 0)."""
    labels = np.arange(12) // 4
    images = np.zeros((12, 32, 32, 3), np.uint8)
    images[..., 0] = level + np.arange(12)[:, None, None]
    images[..., 1] = labels[:, None, None]
    return ImageSet(images, labels, CLASSES, tuple(f"{CLASSES[label]}/{i:02}.png" for i, label in enumerate(labels)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    for level, name in ((0, "cifar10-train"), (50, "cifar10-val"), (100, "ood-far")):
        write_tar(path / f"{name}.tar", plain(level))
    return path


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    assert main([str(data), str(out), *COUNTS]) == 0
    return out


def cells(found: ImageSet) -> np.ndarray:
    """Colours [N, 4, 3] of the cells; each cell must be of one colour."""
    grid = found.images[:].reshape(-1, 2, 32, 2, 32, 3).transpose(0, 1, 3, 2, 4, 5).reshape(len(found), 4, -1, 3)
    assert (grid == grid[:, :, :1]).all()
    return grid[:, :, 0]


def test_the_labels_are_what_the_cells_show(made: Path) -> None:
    found = load(str(made / "train.tar"), SPEC)
    assert len(found) == 40
    assert found.classes == CLASSES
    for colours, hot in zip(cells(found), found.labels, strict=True):
        taken = colours[(colours != 128).any(axis=1)]
        assert 1 <= len(taken) <= 3
        assert len({*taken[:, 0].tolist()}) == len(taken)
        assert {*taken[:, 1].tolist()} == {*np.flatnonzero(hot).tolist()}
        assert (taken[:, 0] < 50).all()


def test_the_halves_share_no_image(made: Path) -> None:
    shown = []
    for name in ("calibration", "evaluation"):
        colours = cells(load(str(made / f"{name}.tar"), SPEC)).reshape(-1, 3)
        shown.append({*colours[colours[:, 0] < 128, 0].tolist()})
    assert len(shown[0]) == len(shown[1]) == 6
    assert not shown[0] & shown[1]


def test_unknown_canvases_have_no_labels_and_every_layout(made: Path) -> None:
    found = load(str(made / "ood-far.tar"), SPEC)
    assert found.labels.shape == (300, 0)
    taken = (cells(found) != 128).any(axis=2)
    counts = np.bincount(taken.sum(axis=1), minlength=5)
    assert counts[0] == counts[4] == 0
    assert (np.abs(counts[1:4] - 100) < 4 * 8.2).all()  # standard deviation of 300 draws of 1/3: 8.2
    assert (np.abs(taken.mean(axis=0) - 0.5) < 4 * 0.03).all()


def test_the_seed_decides(data: Path, made: Path, tmp_path: Path) -> None:
    main([str(data), str(tmp_path / "same"), *COUNTS])
    main([str(data), str(tmp_path / "other"), *COUNTS, "--seed=1"])
    files = sorted(file.name for file in made.iterdir())
    assert files == ["calibration.tar", "evaluation.tar", "ood-far.tar", "train.tar"]
    for file in files:
        content = (made / file).read_bytes()
        assert (tmp_path / "same" / file).read_bytes() == content
        assert (tmp_path / "other" / file).read_bytes() != content
