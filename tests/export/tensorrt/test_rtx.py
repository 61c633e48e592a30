"""TensorRT-RTX engines, really built: what is in the bundle, what it says of itself, and what is refused."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.classifier import assemble
from export.detectors import DETECTORS
from export.detectors.interface import Observed, Training
from export.exceptions import ExportError
from export.graph import head
from export.graph.head import seal
from export.graph.last_layers import LastLayers
from export.tensorrt.__main__ import main
from export.tensorrt.attach import add_engine, attach, describe
from export.tensorrt.build import Built, build
from export.tensorrt.options import BuildOptions
from runtime import Gate, bundle
from runtime.bundle import MODEL, Bundle
from runtime.engines.trt.library import check_release, check_validity
from runtime.exceptions import EngineError, FileDamaged, GraphMismatch
from runtime.manifest import Manifest
from tests.export.detectors.graphs import with_detectors
from tests.small import calibration_images, classifier

trt = pytest.importorskip("tensorrt_rtx_bindings")

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = BuildOptions("tensorrt-rtx", (86, 89, 120), (1, 4, 16))


@pytest.fixture(scope="module")
def built(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small bundle with one engine for three kinds of GPU; read only."""
    path = tmp_path_factory.mktemp("rtx") / "small"
    copy = bundle.write(path, shared_bundle.manifest, {MODEL: shared_bundle.model}, {"card.md": b"card"})
    with_engine, _ = attach(copy, build(copy, OPTIONS))
    return with_engine


def test_the_bundle_says_what_the_engine_is(built: Bundle) -> None:
    loaded = Bundle.load(built.path)
    ((name, spec),) = loaded.manifest.engines.items()
    assert name.startswith("engines/tensorrt-rtx-1.7.1.116-sm86_89_120-")
    assert (spec.runtime, spec.release, spec.targets) == ("tensorrt-rtx", trt.__version__, (86, 89, 120))
    assert (spec.precision, spec.batches) == ("fp32", (1, 4, 16))
    assert spec.model == loaded.manifest.files[MODEL].sha256
    assert 0 < spec.head_kernels < spec.kernels
    assert loaded.manifest.files[name] == bundle.entry((built.path / name).read_bytes())


def test_the_shipped_bundle_builds() -> None:
    shipped = Bundle.load(ROOT / "bundles" / "cifar10")
    spec = build(shipped, dataclasses.replace(OPTIONS, batches=(1, 8, 64))).spec
    assert spec.targets == (86, 89, 120)
    assert 0 < spec.head_kernels < spec.kernels / 2


def test_a_second_threshold_builds(selective_bundle: Bundle, built: Bundle) -> None:
    """One more column, and one more comparison: no kernel more than the softmax of the confidence takes."""
    spec = build(selective_bundle, OPTIONS).spec
    ((_, without),) = built.manifest.engines.items()
    assert 0 < spec.head_kernels <= without.head_kernels + 2


def test_the_shipped_bundle_builds_with_every_detector_in_a_minute(rng: np.random.Generator, tmp_path: Path) -> None:
    shipped = Bundle.load(ROOT / "bundles" / "cifar10")
    model, manifest = all_detectors(onnx.load_from_string(shipped.model), shipped.manifest, rng)
    made = bundle.write(tmp_path / "all", manifest, {MODEL: seal(model, manifest)}, {})
    start = time.perf_counter()
    line = add_engine(made.path, BuildOptions("tensorrt-rtx", (86, 89, 120)))
    assert time.perf_counter() - start < 60
    assert re.search(r"kernels, \d+ of them for scores and decision; built in \d+\.\d s$", line)
    assert set(manifest.scores) >= set(DETECTORS)


def all_detectors(
    model: onnx.ModelProto, manifest: Manifest, rng: np.random.Generator
) -> tuple[onnx.ModelProto, Manifest]:
    """A graph with every detector, fitted to random features, and without a gate."""
    layers = LastLayers(model)
    features = rng.random((400, manifest.model.features)).astype(np.float32)
    labels = np.arange(400) % len(manifest.labels)
    others = rng.random((100, manifest.model.features)).astype(np.float32)
    outliers = {"others": Observed(layers(others).astype(np.float32), others)}
    training = Training(layers(features).astype(np.float32), features, labels, layers, outliers=outliers)
    missing = {name: kind for name, kind in DETECTORS.items() if name not in manifest.scores}
    added = with_detectors(model, *(training.fit(kind) for kind in missing.values()))
    return added, dataclasses.replace(manifest, scores=(*manifest.scores, *missing), gate=None, files={}, engines={})


def test_what_was_in_the_bundle_stays(built: Bundle, shared_bundle: Bundle) -> None:
    loaded = Bundle.load(built.path)
    assert loaded.manifest.embedded == shared_bundle.manifest.embedded
    assert loaded.model == shared_bundle.model
    assert (built.path / "card.md").read_bytes() == b"card"
    assert not list(built.path.rglob(".*"))
    images = calibration_images(20, seed=2)
    expected = Gate.load(shared_bundle.path, engine="onnxruntime-cpu").decide(images)
    assert Gate.load(built.path, engine="onnxruntime-cpu").decide(images) == expected


def test_one_file_serves_every_gpu_without_its_weights_more_than_once(shared_bundle: Bundle) -> None:
    one, three = (
        build(shared_bundle, dataclasses.replace(OPTIONS, targets=targets)) for targets in ((89,), (86, 89, 120))
    )
    assert len(three.data) < 1.2 * len(one.data)


def test_an_engine_for_the_same_place_is_replaced_and_others_stay(bundle_dir: Path) -> None:
    main([str(bundle_dir), "--tensorrt", "rtx", "--sm", "89"])
    (first,) = Bundle.load(bundle_dir).manifest.engines
    main([str(bundle_dir), "--tensorrt", "rtx", "--sm", "86", "--batch", "1,2,4"])
    main([str(bundle_dir), "--tensorrt", "rtx", "--sm", "89"])
    engines = Bundle.load(bundle_dir).manifest.engines
    assert sorted(spec.targets for spec in engines.values()) == [(86,), (89,)]
    files = {f"engines/{file.name}" for file in (bundle_dir / "engines").iterdir()}
    assert files == set(engines)
    assert first in engines or not (bundle_dir / first).exists()


def test_every_portable_detector_is_in_the_engine(rng: np.random.Generator, tmp_path: Path) -> None:
    model, manifest = all_detectors(*assemble(classifier(), "small", {}), rng)
    made = bundle.write(tmp_path / "all", manifest, {MODEL: seal(model, manifest)}, {})
    engine = build(made, OPTIONS)
    assert engine.spec.head_kernels > 3
    _, name = attach(made, engine)
    assert name in Bundle.load(tmp_path / "all").manifest.engines


# --- refusals


def test_an_unknown_compute_capability_is_one_line(bundle_dir: Path) -> None:
    with pytest.raises(ExportError, match=r"--sm 70: tensorrt-rtx 1\.7\.1\.116 builds for 75, 80, 86, 89, 120, 121"):
        main([str(bundle_dir), "--tensorrt", "rtx", "--sm", "70"])


def test_a_graph_that_can_not_be_parsed_is_one_line(shared_bundle: Bundle) -> None:
    model = onnx.load_from_string(shared_bundle.model)
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "NoSuchOperator"
    broken = dataclasses.replace(shared_bundle, model=model.SerializeToString())
    with pytest.raises(ExportError, match=r"can't parse the graph"):
        build(broken, OPTIONS)


def test_an_engine_with_other_tensors_is_refused(shared_bundle: Bundle) -> None:
    model = onnx.load_from_string(shared_bundle.model)
    head.set_columns(model, head.columns(model)[:-1])
    narrower = dataclasses.replace(shared_bundle, model=model.SerializeToString())
    with pytest.raises(GraphMismatch, match=r"output 'scores': the manifest says float32 \[N, 6\], the graph has"):
        build(narrower, OPTIONS)


def test_a_malformed_header_is_refused_without_a_gpu(built: Bundle) -> None:
    ((name, _),) = built.manifest.engines.items()
    runtime = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR))
    data = built.read(name)
    check_validity(name, data, trt, runtime, gpu=False)
    with pytest.raises(EngineError, match=r"runs here \(malformed engine\); build it again"):
        check_validity(name, b"x" + data[1:], trt, runtime, gpu=False)


def test_an_engine_of_another_release_is_refused_without_a_gpu(built: Bundle) -> None:
    ((name, spec),) = built.manifest.engines.items()
    check_release(name, spec, trt)
    with pytest.raises(EngineError, match=r"was built by tensorrt-rtx 1\.6\.1\.120, and 1\.7\.1\.116 is installed"):
        check_release(name, dataclasses.replace(spec, release="1.6.1.120"), trt)


def test_a_damaged_engine_is_refused(bundle_dir: Path) -> None:
    add_engine(bundle_dir, OPTIONS)
    (file,) = (bundle_dir / "engines").iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(FileDamaged, match=r"\.engine: expected .* bytes, found"):
        Bundle.load(bundle_dir)


def test_a_bundles_engines_are_checked_without_a_gpu(
    built: Bundle, bundle_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((name, spec),) = built.manifest.engines.items()
    main([str(built.path), "--check"])
    assert capsys.readouterr().out == f"{describe(built, name)}\n"
    foreign = dataclasses.replace(spec, release="1.6.1.120")
    attach(Bundle.load(bundle_dir), Built(built.read(name), foreign))
    with pytest.raises(
        EngineError, match=r"was built by tensorrt-rtx 1\.6\.1\.120, and 1\.7\.1\.116 is installed; inst"
    ):
        main([str(bundle_dir), "--check"])
    attach(Bundle.load(bundle_dir), Built(b"something", spec))
    with pytest.raises(
        EngineError, match=r"is no engine that tensorrt_rtx_bindings 1\.7\.1\.116 runs here \(malformed"
    ):
        main([str(bundle_dir), "--check"])


@pytest.mark.parametrize("arguments", [[], ["--check", "--tensorrt", "rtx"]])
def test_one_thing_at_a_time(bundle_dir: Path, arguments: list[str]) -> None:
    with pytest.raises(ExportError, match="give either --tensorrt rtx or full, or --check"):
        main([str(bundle_dir), *arguments])


def test_a_bundle_without_engines_has_none_to_check(bundle_dir: Path) -> None:
    with pytest.raises(ExportError, match="has no engines; build one with --tensorrt rtx or full"):
        main([str(bundle_dir), "--check"])


# --- a process that is killed


@pytest.mark.parametrize("at", ["engine written", "manifest written"])
def test_a_killed_process_leaves_a_bundle_that_loads(bundle_dir: Path, at: str) -> None:
    """Killed just before the engine, or the manifest, is renamed into place, an older engine being there."""
    add_engine(bundle_dir, OPTIONS)
    before = Bundle.load(bundle_dir).manifest
    code = (
        "import pathlib, sys, time\n"
        "from export.tensorrt.attach import add_engine\nfrom export.tensorrt.options import BuildOptions\n"
        "rename = pathlib.Path.replace\n"
        "def stop(self, target):\n"
        "    if pathlib.Path(target).name.endswith(sys.argv[2]):\n"
        "        print('now', flush=True)\n        time.sleep(60)\n"
        "    return rename(self, target)\n"
        "pathlib.Path.replace = stop\n"
        "add_engine(pathlib.Path(sys.argv[1]), BuildOptions('tensorrt-rtx', (86, 89, 120), (1, 4, 16)))\n"
    )
    suffix = ".engine" if at == "engine written" else "manifest.json"
    command = [sys.executable, "-c", code, str(bundle_dir), suffix]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        os.kill(process.pid, signal.SIGKILL)
    assert Bundle.load(bundle_dir).manifest == before
    assert Gate.load(bundle_dir, engine="onnxruntime-cpu").decide(calibration_images(1))
    add_engine(bundle_dir, OPTIONS)
    assert len(Bundle.load(bundle_dir).manifest.engines) == 1
