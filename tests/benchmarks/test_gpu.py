"""The GPU benchmark's CPU subset: every row is checked before it is timed, and the page says what was timed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.gpu import main, timed, without_scores
from export.exceptions import ExportError
from runtime.bundle import Bundle
from runtime.engines.onnxruntime_cpu import OnnxRuntimeCpu
from runtime.exceptions import EngineError
from tests.small import calibration_images


def test_the_cpu_subset(shared_bundle: Bundle, tmp_path: Path) -> None:
    arguments = ["--cpu", "--arch", "resnet20", "--batch", "2", "--seconds", "0.01", "--out", str(tmp_path / "gpu")]
    assert main([str(shared_bundle.path), *arguments]) == 0
    report = json.loads((tmp_path / "gpu.json").read_text())
    rows = report["rows"]
    expected = [("resnet20", "onnxruntime-cpu"), ("resnet20", "torch"), ("small", "onnxruntime-cpu")]
    assert [(row["model"], row["engine"]) for row in rows] == expected
    assert rows[0]["gate"] > 0.3
    assert [row["gate"] for row in rows[1:]] == [None, None]
    for row in rows:
        assert (row["precision"], row["batch"]) == ("fp32", 2)
        assert 0 < row["median_ms"] <= row["p99_ms"]
        assert row["images_per_second"] == pytest.approx(2000 / row["median_ms"])
        assert row["difference"] < 1e-4
    page = (tmp_path / "gpu.md").read_text()
    assert page.startswith("# Engines on a CPU")
    assert page.count("\n| ") == 1 + len(rows)
    assert f"- onnxruntime: {report['machine']['onnxruntime']}" in page


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise EngineError("no NVIDIA GPU here: made up")

    monkeypatch.setattr(gpu, "find_gpu", none)
    with pytest.raises(EngineError, match="no NVIDIA GPU here: made up; --cpu times what needs none"):
        main([])


def test_the_bare_bundle_has_the_same_logits_and_no_other_scores(shared_bundle: Bundle, tmp_path: Path) -> None:
    bare = without_scores(shared_bundle, tmp_path / "bare")
    images = calibration_images(5)
    engine = OnnxRuntimeCpu(bare.model, 1)
    bare.check_graph(engine.signature)
    outputs = engine.run(images)
    np.testing.assert_array_equal(outputs.scores, outputs.logits)
    np.testing.assert_allclose(outputs.logits, OnnxRuntimeCpu(shared_bundle.model, 1).run(images).logits, rtol=1e-6)


def test_what_computes_something_else_is_not_timed(shared_bundle: Bundle) -> None:
    cpu, images = OnnxRuntimeCpu(shared_bundle.model, 1), calibration_images(5)
    assert gpu.difference(lambda batch: cpu.run(batch).logits, cpu, images) == 0
    with pytest.raises(ExportError, match="the logits differ from the CPU's by"):
        gpu.difference(lambda batch: -cpu.run(batch).logits, cpu, images)


def test_calls_are_timed_in_turns() -> None:
    order: list[str] = []

    def call(name: str) -> gpu.Run:
        def run(_: gpu.Images) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            order.append(name)
            return np.empty(0, np.float32)

        return run

    first, second = timed([call("a"), call("b")], np.empty(0, np.uint8), 0)
    assert (len(first), len(second)) == (20, 20)
    assert order[6:] == ["a", "b"] * 20
