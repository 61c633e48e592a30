"""Fixtures shared by all tests: a small bundle, made by the project's own code in a few seconds."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

from runtime.bundle import Bundle
from runtime.engines import selection
from tests.small import classifier, extractor, write_bundle, write_golden, write_selective_bundle


@pytest.fixture(scope="session")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A calibrated bundle of an untrained network; read only."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "small", classifier())


@pytest.fixture(scope="session")
def selective_bundle(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same network with a bound on the error of accepted images, and with label sets; read only."""
    return write_selective_bundle(tmp_path_factory.mktemp("bundles") / "selective", shared_bundle)


@pytest.fixture(scope="session")
def unlabelled_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same network without its last layer, and so without classes; read only."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "unlabelled", extractor(), score="nan")


@pytest.fixture(scope="session")
def golden_bundle(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shared bundle, with the same model.onnx, with pipeline.onnx and golden images; read only."""
    return write_golden(tmp_path_factory.mktemp("bundles") / "small", shared_bundle)


@pytest.fixture(autouse=True, scope="session")
def without_openvino() -> Iterator[None]:
    """``auto`` takes ONNX Runtime on the CPU, whether OpenVINO is installed or not; its own tests ask for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "AUTO", tuple(selection.GPU_ENGINES))
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_registry() -> Iterator[None]:
    """torch's exporter makes its table of operators anew for each export, which takes longer than a small network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture
def bundle_dir(shared_bundle: Bundle, tmp_path: Path) -> Path:
    """A private copy of the bundle's directory, to be damaged at will."""
    return Path(shutil.copytree(shared_bundle.path, tmp_path / "small"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260101)
