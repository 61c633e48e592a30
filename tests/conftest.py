"""Fixtures shared by all tests: a small bundle, made by the project's own code in a few seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from runtime import bundle
from runtime.bundle import Bundle
from tests.small import ALPHA, calibration_images, classifier


@pytest.fixture(scope="session")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A calibrated bundle of an untrained network; read only."""
    from export.artifact import assemble, seal
    from export.calibration import calibrate
    from export.card import documents
    from export.inference import collect
    from runtime.engines.onnxruntime_cpu import OnnxRuntimeCpu

    model, manifest = assemble(classifier(), "small", {"energy": {"temperature": 1.0}})
    scores = collect(OnnxRuntimeCpu(model.SerializeToString(), threads=1), calibration_images()).scores
    manifest = calibrate(manifest, scores, "energy", ALPHA)
    path = tmp_path_factory.mktemp("bundles") / "small"
    return bundle.write(path, manifest, {bundle.MODEL: seal(model, manifest)}, documents(manifest))


@pytest.fixture
def bundle_dir(shared_bundle: Bundle, tmp_path: Path) -> Path:
    """A private copy of the bundle's directory, to be damaged at will."""
    return Path(shutil.copytree(shared_bundle.path, tmp_path / "small"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260101)
