"""The GPU benchmark's CPU subset: every row is checked before it is timed, and the page says what was not timed and why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import calls, service, timing
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.calls import Floats, Run, engine_run, engines
from benchmarks.gpu.ceilings import Ceilings, Work, floor, work
from benchmarks.gpu.graphs import Images, exported, in_precision, network, pictures, without_scores
from benchmarks.gpu.peers import DTYPES, InPrecision, torch_run
from benchmarks.gpu.report import Case, Findings, Row
from benchmarks.gpu.service import gated, in_process
from benchmarks.gpu.timing import copies, difference, measure, timed
from export.convert.int8 import Target
from export.exceptions import ExportError
from export.tensorrt.build import Built
from export.tensorrt.options import BuildOptions
from runtime.bundle import Bundle
from runtime.engines.gpu import Gpu
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import EngineError
from runtime.manifest import EngineSpec, InputSpec, Precision
from tests.runtime.engines.conftest import library  # noqa: F401  a fixture
from tests.small import SPEC, calibration_images

CASE = Case("small", "fp32", "made-up")


def test_the_cpu_subset(shared_bundle: Bundle, tmp_path: Path) -> None:
    arguments = ["--cpu", "--arch", "resnet20", "--batch", "2", "--seconds", "0.01", "--out", str(tmp_path / "gpu")]
    steps = ["--precision", "fp32", "int8", "bf16", "--steps", "engines", "torch"]
    assert main([str(shared_bundle.path), *arguments, *steps]) == 0
    report = json.loads((tmp_path / "gpu.json").read_text())
    rows = report["rows"]
    assert [(row["model"], row["precision"], row["engine"]) for row in rows] == [
        ("resnet20", "fp32", "onnxruntime-cpu"),
        ("resnet20", "fp32", "torch"),
        ("resnet20", "int8", "onnxruntime-cpu"),
        ("resnet20", "bf16", "torch"),
        ("small", "fp32", "onnxruntime-cpu"),
    ]
    (skipped,) = report["skipped"]
    assert (skipped["engine"], skipped["reason"]) == (
        "every engine",
        "no bundle for a GPU is in bf16: there are fp32, fp16, int8",
    )
    assert [row["gate"] is None for row in rows] == [False, True, False, True, True]
    assert rows[0]["gate"] > 0.3
    for row in rows:
        assert row["batch"] == 2
        assert 0 < row["median_ms"] <= row["p99_ms"]
        assert row["images_per_second"] == pytest.approx(2000 / row["median_ms"])
        assert row["difference"] < (0.02 if row["precision"] == "bf16" else 1e-4)
        assert row["to_device"] is None
        assert row["floor_ms"] is None
    page = (tmp_path / "gpu.md").read_text()
    assert page.startswith("# Engines on a CPU")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## resnet20, fp32",
        "## resnet20, int8",
        "## resnet20, bf16",
        "## small, fp32",
        "## Not timed",
    ]
    assert page.count("\n| onnxruntime-cpu ") == 3
    assert f"- onnxruntime: {report['machine']['onnxruntime']}" in page


def test_the_gpu_part_on_a_made_up_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Native engines, copies, and what is not there; a compiler of engines is not made up."""

    def built(of: Bundle, options: BuildOptions) -> Built:
        model = of.manifest.files["model.onnx"].sha256
        spec = EngineSpec(options.runtime, "1.2.3", options.targets, "fp32", options.batches, model, 9, 3)
        return Built(b"engine " + of.model, spec)

    network = exported("resnet20", InputSpec(32, 32, SPEC.mean, SPEC.std), tmp_path)
    request.getfixturevalue("library")  # now: torch's exporter looks for a real tensorrt
    monkeypatch.setattr(command, "exported", lambda *_: network)
    for module in (command, calls):
        monkeypatch.setattr(module, "find_gpu", lambda: Gpu("Made-up 4090", 89, "13.0"))
    monkeypatch.setattr(calls, "build", built)
    monkeypatch.setattr(timing, "_CALLS", 5)
    out = tmp_path / "gpu"
    arguments = ["--arch", "resnet20", "--precision", "fp32", "--batch", "1", "3", "--seconds", "0.01"]
    arguments += ["--steps", "engines", "torch"]
    assert main([*arguments, "--out", str(out)]) == 0
    report = json.loads(out.with_suffix(".json").read_text())
    rows = report["rows"]
    native = [(name, batch) for name in ("tensorrt-rtx", "tensorrt") for batch in (1, 3)]
    assert [(row["engine"], row["batch"]) for row in rows] == native
    for row in rows:
        assert (row["kernels"], row["head_kernels"]) == (9, 3)
        assert row["gate"] > 0
        assert 0 < row["to_device"] < 1
        assert 0 < row["to_host"] < 1
    assert report["machine"]["gpu"] == "Made-up 4090"
    absent = {each["engine"] for each in report["skipped"]}
    assert absent == {"onnxruntime-tensorrt", "onnxruntime-rtx", "onnxruntime-cuda", "torch"}
    page = out.with_suffix(".md").read_text()
    assert page.startswith("# Engines on Made-up 4090")
    assert "- torch (resnet20, fp32): torch " in page
    copies.cache_clear()


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise EngineError("no NVIDIA GPU here: made up")

    monkeypatch.setattr(command, "find_gpu", none)
    with pytest.raises(EngineError, match="no NVIDIA GPU here: made up; --cpu times what needs none"):
        main([])


def test_an_engine_that_is_not_there_is_left_out_with_the_reason(
    shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise EngineError("no NVIDIA GPU here: made up")

    for module in (calls, calls.selection.providers, calls.selection.cuda):
        monkeypatch.setattr(module, "find_gpu", none)
    findings = Findings(tmp_path / "gpu", {"cpu": "made up"})
    names = ("onnxruntime-cuda", "onnxruntime-cpu")
    assert [each.name for each in engines(shared_bundle, names, 2, tmp_path, findings)] == ["onnxruntime-cpu"]
    text = findings.write()
    assert (
        "## Not timed\n\n- onnxruntime-cuda (small, fp32): engine onnxruntime-cuda: no NVIDIA GPU here: made up" in text
    )
    (skipped,) = json.loads((tmp_path / "gpu.json").read_text())["skipped"]
    assert (skipped["engine"], skipped["batch"]) == ("onnxruntime-cuda", None)


def test_what_fails_at_one_batch_size_is_timed_at_the_others(shared_bundle: Bundle, tmp_path: Path) -> None:
    cpu = engine_run(OnnxRuntimeCpu(shared_bundle.model, 1))

    def run(images: Images) -> tuple[Floats, Floats | None]:
        if len(images) == 2:
            raise RuntimeError("out of memory\nat length")
        return cpu(images)

    findings = Findings(tmp_path / "gpu", {})
    measure(findings, CASE, shared_bundle, lambda _: run, (1, 2, 3), 0.0)
    assert [row.batch for row in findings.rows] == [1, 3]
    assert [(each.batch, each.reason) for each in findings.skipped] == [(2, "out of memory")]
    assert "- made-up (small, fp32, batch 2): out of memory" in findings.write()


def test_the_bare_bundle_has_the_same_logits_and_no_other_scores(shared_bundle: Bundle, tmp_path: Path) -> None:
    bare = without_scores(shared_bundle, tmp_path / "bare")
    images = calibration_images(5)
    engine = OnnxRuntimeCpu(bare.model, 1)
    bare.check_graph(engine.signature)
    outputs = engine.run(images)
    np.testing.assert_array_equal(outputs.scores, outputs.logits)
    np.testing.assert_allclose(outputs.logits, OnnxRuntimeCpu(shared_bundle.model, 1).run(images).logits, rtol=1e-6)


def test_other_precisions_compute_nearly_the_same(tmp_path: Path) -> None:
    spec = InputSpec(32, 32, SPEC.mean, SPEC.std)
    _, fp32 = exported("resnet20", spec, tmp_path)
    images = pictures(16, spec, seed=9)
    expected = OnnxRuntimeCpu(fp32.model, 1).run(images).logits
    cases: list[tuple[Precision, Target, float]] = [
        ("fp16", "cpu", 0.01),
        ("int8", "cpu", 0.1),
        ("int8", "tensorrt", 0.1),
    ]
    for precision, target, tolerance in cases:
        other = in_precision(fp32, precision, target)
        assert other.manifest.model.precision == precision
        found = OnnxRuntimeCpu(other.model, 1).run(images).logits
        assert 0 < np.abs(found - expected).max() / np.ptp(expected) < tolerance


def test_what_computes_something_else_is_not_timed(shared_bundle: Bundle) -> None:
    cpu, images = OnnxRuntimeCpu(shared_bundle.model, 1), calibration_images(9)
    run = engine_run(cpu)
    assert difference(run, cpu, images) < 1e-6
    with pytest.raises(ExportError, match="the logits differ from the CPU's by"):
        difference(lambda batch: (-run(batch)[0], None), cpu, images)
    with pytest.raises(ExportError, match="the scores differ from the CPU's by"):
        difference(lambda batch: (run(batch)[0], -cpu.run(batch).scores), cpu, images)

    def last_is_wrong(batch: Images) -> tuple[Floats, Floats | None]:
        logits = cpu.run(batch).logits
        logits[-1] = -logits[-1]
        return logits, None

    with pytest.raises(ExportError, match="the logits differ from the CPU's by"):
        difference(last_is_wrong, cpu, images)


def test_work_is_counted_from_the_graph(shared_bundle: Bundle) -> None:
    """3x3 convolution of 3 to 8 channels at 16 x 16 pixels, and a last layer of 8 to 3: two operations a weight and place."""
    found = work(shared_bundle)
    assert found.flops == 2 * (3 * 3 * 3 * 8 * 16 * 16 + 8 * 3)
    assert found.weights >= 3 * 3 * 3 * 8 + 8 + 8 * 3 + 3
    assert found.image == 16 * 16 * 3
    assert found.results == 4 * (3 + len(shared_bundle.manifest.scores))


def test_the_floor_is_the_larger_of_operations_and_bytes() -> None:
    known = Ceilings({"fp16": 1e15}, 1e12, 1e10)
    assert floor(Work(1e9, 1000, 100, 4), 8, "fp16", known) == pytest.approx(8e9 / 1e15)
    assert floor(Work(1e3, 10**9, 100, 4), 8, "fp16", known) == pytest.approx((2e9 + 8 * 104) / 1e12)
    assert floor(Work(1e9, 1, 1, 1), 1, "int8", known) is None
    assert floor(Work(1e9, 1, 1, 1), 1, "fp16", None) is None


def test_half_of_torch_computes_nearly_the_same() -> None:
    backbone = network("resnet20", InputSpec(32, 32, SPEC.mean, SPEC.std))
    images = pictures(4, InputSpec(32, 32, SPEC.mean, SPEC.std), seed=9)
    with torch.no_grad():
        expected = backbone(torch.from_numpy(images))[0].numpy()
    for precision, tolerance in {"fp32": 1e-5, "fp16": 0.01, "bf16": 0.05}.items():
        run = torch_run(InPrecision(backbone, DTYPES[precision]), "cpu", images)
        logits, scores = run(images)
        assert logits.dtype == np.float32
        assert scores is None
        assert np.abs(logits - expected).max() / np.ptp(expected) < tolerance
    assert next(backbone.parameters()).dtype == torch.float32


def test_what_an_earlier_run_found_is_taken_over(tmp_path: Path) -> None:
    first = Findings(tmp_path / "first", {"cpu": "made up"})
    first.rows.append(Row(CASE, 2, 1.0, 2.0, 2000.0, 1.01, None, None, 0.001, 0.5))
    first.skip(CASE, 3, EngineError("too large"))
    first.served.append({"bundle": "small", "requests/s": 12.5})
    page = first.write()
    second = Findings(tmp_path / "second", {})
    second.add(tmp_path / "first.json")
    assert (second.rows, second.skipped, second.served) == (first.rows, first.skipped, first.served)
    assert second.write() == page
    assert "| made-up | 2     | 1.000" in page
    assert "| 50.0% |" in page
    assert "| 12.50 " in page


def test_nothing_more_is_timed_when_time_is_up(shared_bundle: Bundle, tmp_path: Path) -> None:
    cpu = engine_run(OnnxRuntimeCpu(shared_bundle.model, 1))
    findings = Findings(tmp_path / "gpu", {}, until=0.0)
    measure(findings, CASE, shared_bundle, lambda _: cpu, (1,), 0.0)
    assert not findings.rows
    assert [skip.reason for skip in findings.skipped] == ["no time was left"]


def test_decisions_in_process(shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_CALLS", 5)
    monkeypatch.setattr(service, "_ROUNDS", 1)
    fp32 = Bundle.load(shutil.copytree(shared_bundle.path, tmp_path / "small"))
    bundle = gated(fp32, "onnxruntime-cpu", tmp_path)
    assert bundle.manifest.gate is not None
    assert bundle.manifest.gate.score == "energy"
    assert gated(fp32, "onnxruntime-cpu", tmp_path).manifest == bundle.manifest  # what an earlier run left
    findings = Findings(tmp_path / "gpu", {})
    in_process(findings, bundle, "onnxruntime-cpu", tmp_path, 0.0)
    assert [row.case.engine for row in findings.rows] == [
        "onnxruntime-cpu, engine alone",
        "onnxruntime-cpu, Gate.decide by 1",
        "onnxruntime-cpu, Gate.decide by 2",
    ]
    assert all(row.images_per_second == pytest.approx(64e3 / row.median_ms) for row in findings.rows)


def test_calls_are_timed_in_turns() -> None:
    order: list[str] = []

    def call(name: str) -> Run:
        def run(_: Images) -> tuple[Floats, Floats | None]:
            order.append(name)
            return np.empty((0, 3), np.float32), None

        return run

    first, second = timed([call("a"), call("b")], np.empty(0, np.uint8), 0)
    assert (len(first), len(second)) == (20, 20)
    assert order[6:] == ["a", "b", "b", "a"] * 10
