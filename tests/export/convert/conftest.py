"""A calibrated fp32 bundle to convert, and images to convert it with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.export.convert.graphs import write_bundle
from tests.small import LABELS, calibration_images

COUNT = 400
IMAGES = calibration_images(COUNT, seed=7)


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("fp32") / "small", IMAGES)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "calibration.npz"
    np.savez(path, images=IMAGES, labels=np.array(LABELS)[np.arange(COUNT) % 3])
    return path
