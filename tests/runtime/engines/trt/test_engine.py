"""Native engines: the CPU's answers through pinned memory and captured graphs, on a GPU that is made up."""

from __future__ import annotations

import dataclasses
import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from runtime import Gate
from runtime.bundle import Bundle
from runtime.engines import selection
from runtime.engines.interface import Engine, EngineName, EngineOptions
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import EngineError, FileDamaged, GraphMismatch
from runtime.manifest import NativeRuntime
from runtime.rule import Rule
from tests.runtime.engines.conftest import with_engine
from tests.runtime.engines.fake_gpu import FakeTensorrt
from tests.small import calibration_images

IMAGES = calibration_images(21, seed=5)


def load(bundle: Bundle, tmp_path: Path, name: EngineName = "tensorrt-rtx") -> Engine:
    return selection.load(bundle, EngineOptions(name, 1, tmp_path / "cache"))


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 21])
@pytest.mark.usefixtures("library")
def test_answers_as_the_cpu_for_any_number_of_images(
    loaded: Bundle, tmp_path: Path, runtime: NativeRuntime, count: int
) -> None:
    engine = load(with_engine(loaded, runtime), tmp_path, runtime)
    assert (engine.name, engine.batches) == (runtime, (1, 2, 4, 8))
    expected = OnnxRuntimeCpu(loaded.model, 1).run(IMAGES[:count], penultimate=True)
    found = engine.run(IMAGES[:count], penultimate=True)
    assert found.penultimate is not None
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.penultimate, expected.penultimate, rtol=1e-5, atol=1e-6)
    assert found.accept is None
    np.testing.assert_array_equal(Rule.of(loaded.manifest).verified(found), expected.accept)


def test_what_is_captured_is_launched(loaded: Bundle, tmp_path: Path, library: FakeTensorrt) -> None:
    engine = load(with_engine(loaded), tmp_path)
    before = library.cuda.launched
    engine.run(IMAGES[:8])
    assert library.cuda.launched == before + 1


def test_a_stream_that_can_not_be_captured_runs_without_graphs(
    loaded: Bundle, tmp_path: Path, library: FakeTensorrt
) -> None:
    library.capturable = False
    engine = load(with_engine(loaded), tmp_path)
    expected = OnnxRuntimeCpu(loaded.model, 1).run(IMAGES)
    np.testing.assert_allclose(engine.run(IMAGES).logits, expected.logits, rtol=1e-5, atol=1e-6)
    assert library.cuda.launched == 0


@pytest.mark.usefixtures("library")
def test_threads_share_an_engine(loaded: Bundle, tmp_path: Path) -> None:
    engine = load(with_engine(loaded), tmp_path)
    expected = engine.run(IMAGES[:5]).logits
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(engine.run, [IMAGES[:5]] * 40):
            np.testing.assert_array_equal(found.logits, expected)


@pytest.mark.usefixtures("library")
def test_the_gate_decides_as_on_the_cpu_at_every_operating_point(loaded: Bundle, tmp_path: Path) -> None:
    cpu = Gate.load(loaded.path, engine="onnxruntime-cpu")
    with_engine(loaded)
    gate = Gate.load(loaded.path, engine="auto", cache=tmp_path)
    assert gate.engine.name == "tensorrt-rtx"
    for alpha in gate.alphas:
        assert [d.decision for d in gate.decide(IMAGES, alpha=alpha)] == [
            d.decision for d in cpu.decide(IMAGES, alpha=alpha)
        ]


@pytest.mark.usefixtures("library")
def test_compiled_kernels_are_cached_by_what_they_depend_on(loaded: Bundle, tmp_path: Path) -> None:
    load(with_engine(loaded), tmp_path)
    (file,) = (tmp_path / "cache").glob("*/kernels")
    assert file.read_bytes() == b"compiled"
    file.write_bytes(b"another driver's")
    load(Bundle.load(loaded.path), tmp_path)
    assert file.read_bytes() == b"compiled"


def test_an_engine_that_goes_away_frees_everything(loaded: Bundle, tmp_path: Path, library: FakeTensorrt) -> None:
    engine: Engine | None = load(with_engine(loaded), tmp_path)
    assert engine is not None
    assert len(library.cuda.memory) == 10  # two lanes
    engine = None
    gc.collect()
    assert not library.cuda.memory


# --- refusals


def test_an_engine_of_another_release_is_refused_in_one_line(
    loaded: Bundle, tmp_path: Path, library: FakeTensorrt
) -> None:
    library.__version__ = "1.3.0"
    with pytest.raises(EngineError, match=r"was built by tensorrt-rtx 1\.2\.3, and 1\.3\.0 is installed; install that"):
        load(with_engine(loaded), tmp_path)


def test_a_version_compatible_engine_runs_on_another_release(
    loaded: Bundle, tmp_path: Path, library: FakeTensorrt
) -> None:
    library.__version__ = "1.3.0"
    load(with_engine(loaded, "tensorrt", version_compatible=True), tmp_path, "tensorrt")


@pytest.mark.usefixtures("library")
def test_a_damaged_engine_is_refused_before_it_is_loaded(loaded: Bundle, tmp_path: Path) -> None:
    bundle = with_engine(loaded)
    file = bundle.path / "engines" / "tensorrt-rtx.engine"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(FileDamaged, match=r"tensorrt-rtx\.engine: expected SHA-256"):
        Bundle.load(bundle.path)
    with pytest.raises(FileDamaged):
        load(bundle, tmp_path)


@pytest.mark.usefixtures("library")
def test_bytes_that_the_runtime_does_not_know_are_refused(loaded: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"is no engine that fake 1\.2\.3 runs here \(malformed engine\); build it"):
        load(with_engine(loaded, data=b"something"), tmp_path)


@pytest.mark.usefixtures("library")
def test_an_engine_for_other_gpus_is_refused(loaded: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="are for compute capability 75, 120, and Made-up 4090 has 89"):
        load(with_engine(loaded, targets=(75, 120)), tmp_path)
    load(with_engine(loaded, targets=(80,), hardware_compatible=True), tmp_path)


@pytest.mark.usefixtures("library")
def test_an_engine_of_another_model_is_refused(loaded: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="was built from another"):
        load(with_engine(loaded, model="0" * 64), tmp_path)


@pytest.mark.usefixtures("library")
def test_an_engine_with_other_tensors_is_refused(loaded: Bundle, tmp_path: Path) -> None:
    bundle = with_engine(loaded)
    wrong = dataclasses.replace(bundle.manifest, labels=("a", "b", "c", "d"), gate=None)
    with pytest.raises(GraphMismatch, match=r"output 'logits': the manifest says float32 \[N, 4\]"):
        load(dataclasses.replace(bundle, manifest=wrong), tmp_path)


@pytest.mark.usefixtures("library")
def test_an_engine_that_answers_otherwise_than_the_cpu_is_refused(loaded: Bundle, tmp_path: Path) -> None:
    model = onnx.load_from_string(loaded.model)
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            weights = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(-weights, tensor.name))
    with pytest.raises(EngineError, match="its logits differ from the CPU's by"):
        load(with_engine(loaded, data=b"engine " + model.SerializeToString()), tmp_path)


def test_a_gpu_without_memory_is_one_line(loaded: Bundle, tmp_path: Path, library: FakeTensorrt) -> None:
    library.cuda.fails = "cudaMalloc"
    with pytest.raises(EngineError, match="engine tensorrt-rtx: cudaMalloc failed: out of memory"):
        load(with_engine(loaded), tmp_path)


def test_an_engine_that_fails_is_one_line(loaded: Bundle, tmp_path: Path, library: FakeTensorrt) -> None:
    library.fails = True
    with pytest.raises(EngineError, match="the engine failed on a batch of 1"):
        load(with_engine(loaded), tmp_path)


@pytest.mark.usefixtures("library")
def test_images_of_another_shape_are_an_engine_error(loaded: Bundle, tmp_path: Path) -> None:
    engine = load(with_engine(loaded), tmp_path)
    with pytest.raises(EngineError, match=r"expected uint8 \[N, 16, 16, 3\], found uint8 \[2, 8, 16, 3\]"):
        engine.run(np.zeros((2, 8, 16, 3), np.uint8))
