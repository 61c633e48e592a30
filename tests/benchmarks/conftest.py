"""The sources, checkpoint and bundle that the exports' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.conftest import checkpoint_file, exported, exported_copy, sources, uncalibrated  # noqa: F401
from tests.train.sets import colours, write_tar


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What the benchmark of training methods learns from, a few images of each set."""
    folder = tmp_path / "data"
    folder.mkdir()
    for seed, name in enumerate(("cifar10-train", "cifar10-val", "aux-cifar100", "aux-tinyimagenet")):
        write_tar(folder / f"{name}.tar", colours(6, seed))
    return folder
