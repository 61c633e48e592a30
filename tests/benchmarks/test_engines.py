"""The page of benchmarks.engines, from outputs that are made up; and calls that are timed in turns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.engines.report import decisions, report
from benchmarks.engines.timing import in_turns
from runtime.bundle import Bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from tests.small import LABELS, calibration_images


@pytest.fixture
def measured(shared_bundle: Bundle, tmp_path: Path) -> tuple[Path, Path]:
    """What the steps `prepare` and `time` leave: fp32 on two engines, and bf16 that is fp32 with 20 rejects more."""
    work, results = tmp_path / "work", tmp_path / "results"
    (work / "shipped").mkdir(parents=True)
    results.mkdir()
    (work / "shipped" / "manifest.json").write_text(shared_bundle.manifest.to_json())
    engine = OnnxRuntimeCpu(shared_bundle.model, 1)
    known, new = (engine.run(calibration_images(200, seed)) for seed in (1, 2))
    np.savez(work / "evaluation.npz", labels=np.array(LABELS)[new.logits.argmax(axis=1)])
    shifted = new.scores.copy()
    column = shared_bundle.manifest.scores.index("energy")
    shifted[np.argsort(shifted[:, column])[-20:], column] -= 100
    for name, scores in (
        ("onnxruntime-cpu-fp32", new.scores),
        ("openvino-fp32", new.scores),
        ("openvino-bf16", shifted),
    ):
        np.savez(
            results / f"{name}.npz",
            calibration_scores=known.scores,
            evaluation_logits=new.logits,
            evaluation_scores=scores,
        )
    kinds = [("onnxruntime-cpu", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]
    rows = [
        {"model": "shipped", "engine": engine, "precision": precision, "threads": 1, "batch": 8}
        | {"images_per_second": 100.0 * factor, "ratio": float(factor)}
        for factor, (engine, precision) in enumerate(kinds, 1)
    ]
    machine = {
        "processor": "Made-up",
        "flags": ["avx2"],
        "cores": 2,
        "python": "3",
        "onnxruntime": "1",
        "openvino": "2",
    }
    heads = [{"engine": " ".join(kind), "largest_error": 2e-7} for kind in kinds]
    figures = {"machine": machine, "absent": {"openvino int8": "why"}, "speed": rows, "heads": heads}
    (results / "engines.json").write_text(json.dumps(figures))
    return work, results


def test_decisions_are_those_of_each_engines_own_gate(measured: tuple[Path, Path]) -> None:
    found = decisions(*measured)
    assert found["openvino-fp32"]["difference"]["flips"] == {"newly_rejected": 0, "newly_accepted": 0}
    assert found["openvino-bf16"]["difference"]["flips"] == {"newly_rejected": 20, "newly_accepted": 0}
    assert found["openvino-bf16"]["accepted"] == pytest.approx(found["openvino-fp32"]["accepted"] - 0.1)
    assert found["openvino-bf16"]["accuracy"] == 1
    assert found["openvino-bf16"]["flips_with_the_bundle_s_threshold"] == 0


def test_the_page_keeps_the_machines_before(measured: tuple[Path, Path], tmp_path: Path) -> None:
    work, results = measured
    (tmp_path / "out").mkdir()
    report(work, results, tmp_path / "out")
    figures = json.loads((results / "engines.json").read_text())
    figures["machine"]["cores"] = 64
    (results / "engines.json").write_text(json.dumps(figures))
    text = report(work, results, tmp_path / "out")
    assert text == (tmp_path / "out" / "engines.md").read_text()
    assert text.index("## Made-up, 2 cores") < text.index("## Made-up, 64 cores")
    assert text.count("300, 3.00") == 2
    assert "Without openvino int8: why." in text
    assert json.loads((tmp_path / "out" / "engines.json").read_text()).keys() == {
        "Made-up, 2 cores",
        "Made-up, 64 cores",
    }


def test_every_call_is_timed_as_often_and_what_comes_before_is_not_counted() -> None:
    calls: list[str] = []
    times = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 0.0, lambda: calls.append("-"))
    assert {name: len(found) for name, found in times.items()} == {"a": 3, "b": 3}
    assert calls == ["a", "a", "b", "b", *"-b-a", *"-a-b", *"-b-a"]
