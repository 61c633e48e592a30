"""``oodgate selftest``: every CPU engine, every precision, and what it says when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.bundle import Bundle
from runtime.engines.ov.engine import load_core
from runtime.exceptions import EngineError, OodgateError
from runtime.selftest import main
from tests.runtime.golden.test_replay import edit


def engines() -> list[str]:
    try:
        load_core()
    except EngineError:
        return ["onnxruntime-cpu"]
    return ["onnxruntime-cpu", "openvino"]


def selftest(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, list[str]]:
    status = main([*map(str, argv), "--threads", "1"])
    return status, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("engine", engines())
def test_every_engine_of_the_cpu(
    engine: str, golden_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = selftest(capsys, golden_bundle.path, "--engine", engine, "--cache", tmp_path)
    assert status == 0
    (line,) = lines
    assert line.startswith(f"{engine}: 12 golden images as expected; ")


@pytest.mark.parametrize("engine", engines())
def test_the_bundle_of_the_repository(engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[2] / "bundles" / "cifar10"
    assert selftest(capsys, path, "--engine", engine, "--cache", tmp_path)[0] == 0


def test_scores_that_were_edited(golden_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited = edit(golden_bundle, tmp_path, lambda image: image["scores"].update(energy=image["scores"]["energy"] * 1.5))
    status, lines = selftest(capsys, edited.path, "--engine", "onnxruntime-cpu")
    assert status == 1
    assert lines[0].startswith("same.png fails at scores: energy is ")
    assert lines[-1].startswith("onnxruntime-cpu: 1 of 12 golden images fail (1 at scores); ")
    status, lines = selftest(capsys, edited.path, "--engine", "onnxruntime-cpu", "--json")
    assert status == 1
    document = json.loads(lines[0])
    assert document["passed"] is False
    assert document["on"] == "onnxruntime-cpu"
    assert document["tolerance"] == {"logits": 5e-05, "scores": 0.001}
    assert [(fault["file"], fault["stage"]) for fault in document["faults"]] == [("same.png", "scores")]


def test_a_bundle_without_golden_images(shared_bundle: Bundle) -> None:
    with pytest.raises(OodgateError, match=r"has no golden images; oodgate pipeline .* writes them"):
        main([str(shared_bundle.path)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--url", "http://127.0.0.1:9", "--threads", "2"], "--cache and --threads are of an engine here"),
        (["--url", "http://127.0.0.1:9", "--cache", "kept"], "--cache and --threads are of an engine here"),
        (["--api-key", "secret"], "--api-key goes with --url"),
    ],
)
def test_options_without_a_use(
    options: list[str], message: str, golden_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(golden_bundle.path), *options])
    assert message in capsys.readouterr().err


def test_a_service_that_is_not_there(golden_bundle: Bundle) -> None:
    with pytest.raises(OodgateError, match=r"http://127.0.0.1:9 can't be asked: .*refused"):
        main([str(golden_bundle.path), "--url", "http://127.0.0.1:9"])
