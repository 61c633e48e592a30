"""bf16 is a property of the bundle: the same graph, a gate on OpenVINO's own outputs, and the manifest says so."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.__main__ import main as export
from export.calibrate.__main__ import main as calibrate
from export.convert.__main__ import main
from export.convert.half import to_half
from export.exceptions import ExportError
from export.images.inference import make_engine
from export.tensorrt.build import build
from export.tensorrt.options import BuildOptions
from runtime import Gate
from runtime.bundle import Bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.engines.ov import engine as ov
from runtime.engines.ov.parts import split
from runtime.exceptions import EngineError
from runtime.gate import load_calibrated
from runtime.manifest import Manifest
from tests.commands import failure
from tests.export.conftest import call
from tests.export.convert.conftest import IMAGES
from tests.runtime.engines.ov.emulation import emulate

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def bf16(fp32: Path, calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bf16") / "small"
    with pytest.MonkeyPatch.context() as patch:
        emulate(patch)
        call(main, fp32, "--precision", "bf16", "--calibration", calibration, "--out", out, "--threads", "1")
    return out


def without_metadata(model: bytes) -> onnx.ModelProto:
    """The graph alone, with the threshold that it is sealed with left out."""
    graph = onnx.load_from_string(model).graph
    kept = [tensor for tensor in graph.initializer if tensor.name != "threshold"]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return graph


def test_the_graph_is_that_of_fp32(fp32: Path, bf16: Path) -> None:
    assert without_metadata(Bundle.load(bf16).model) == without_metadata(Bundle.load(fp32).model)


def test_the_manifest_says_what_computed_the_scores(bf16: Path) -> None:
    loaded = Bundle.load(bf16)
    numerics = loaded.manifest.model.numerics
    assert numerics is not None
    assert (loaded.manifest.model.precision, numerics.engine, numerics.precision) == ("bf16", "openvino", "bf16")
    assert Manifest.from_json(loaded.manifest.to_json()) == loaded.manifest
    document = json.loads((bf16 / "manifest.json").read_text())
    assert document["model"]["numerics"]["engine"] == "openvino"
    assert "bf16" in (bf16 / "card.md").read_text()


def test_the_threshold_is_that_of_its_own_scores(bf16: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emulate(monkeypatch)
    gate = load_calibrated(bf16, threads=1)
    assert gate.engine.name == "openvino"
    scores = gate.engine.run(IMAGES).scores[:, gate.manifest.scores.index("energy")]
    assert gate.spec.threshold == pytest.approx(np.sort(scores)[39], rel=2e-6)  # floor(0.1 * 401) = 40
    single = OnnxRuntimeCpu(gate.bundle.model, 1).run(IMAGES).scores[:, gate.manifest.scores.index("energy")]
    assert abs(np.sort(single)[39] - gate.spec.threshold) > 1e-5


def test_the_parity_report_has_the_flips_of_running_it_in_fp32(bf16: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emulate(monkeypatch)
    gate = load_calibrated(bf16, threads=1)
    parity = gate.manifest.parity
    assert parity is not None
    column = gate.manifest.scores.index("energy")
    limit = np.float32(gate.spec.threshold)
    own = gate.engine.run(IMAGES).scores[:, column] >= limit
    single = OnnxRuntimeCpu(gate.bundle.model, 1).run(IMAGES).scores[:, column] >= limit
    assert parity.flips_with_own_threshold == int((own != single).sum())


def test_a_machine_without_bf16_runs_it_in_fp32_and_says_so(
    bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ov, "machine_flags", lambda: ("avx2", "fma"))
    expected = Gate.load(bf16, engine="onnxruntime-cpu", threads=1)
    gate = Gate.load(bf16, engine="openvino", threads=1, cache=tmp_path)
    parity = gate.manifest.parity
    assert parity is not None
    first, second = [line for line in caplog.messages if "computes the bf16 bundle" in line]
    flips = f"{parity.flips_with_own_threshold} of 400 images of calibration.npz are decided otherwise than in bf16"
    assert (
        first
        == f"{bf16}: onnxruntime-cpu computes the bf16 bundle in fp32, for only openvino computes in bf16; {flips}"
    )
    assert second.startswith(f"{bf16}: openvino computes the bf16 bundle in fp32, for the CPU has none of amx_bf16, ")
    assert second.endswith(f"only avx2, fma; {flips}")
    np.testing.assert_allclose(gate.run(IMAGES[:5]).scores, expected.run(IMAGES[:5]).scores, rtol=1e-5, atol=1e-5)


def test_bf16_that_was_fp32_is_not_taken(bf16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO takes the hint on any machine; what it computed is seen in the outputs."""
    emulate(monkeypatch)
    monkeypatch.setattr(ov, "split", split)
    with pytest.raises(
        EngineError, match=r"^engine openvino: its logits are those of fp32, and not of bf16 as it says"
    ):
        Gate.load(bf16, engine="openvino", threads=1, cache=tmp_path)


def test_bf16_that_openvino_itself_calls_fp32_is_not_taken(
    shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ov, "no_bf16", lambda _: None)
    if ov.load_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES").count("BF16"):
        pytest.skip("this machine has it")
    with pytest.raises(EngineError, match=r"^OpenVINO computes in f32 what it was told to compute in bf16$"):
        ov.OpenVino(shared_bundle.model, "bf16", threads=1)


def test_a_machine_without_bf16_makes_no_bundle_of_it(
    fp32: Path,
    bf16: Path,
    calibration: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ov, "machine_flags", lambda: ("avx2", "fma"))
    made = failure(capfd, main, fp32, "--precision", "bf16", "--calibration", calibration, "--out", tmp_path / "b")
    assert made.startswith(
        "a bf16 bundle is made and calibrated where OpenVINO computes in bf16: the CPU has none of amx_"
    )
    assert not (tmp_path / "b").exists()
    before = (bf16 / "manifest.json").read_bytes()
    assert "calibrated where OpenVINO computes in bf16" in failure(capfd, calibrate, bf16, calibration)
    assert (bf16 / "manifest.json").read_bytes() == before


class Core:
    """OpenVINO on a CPU that it computes in these precisions on."""

    def __init__(self, *precisions: str) -> None:
        self._precisions = precisions

    def get_property(self, device: str, name: str) -> list[str]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return list(self._precisions)


@pytest.mark.parametrize(
    ("flags", "precisions", "reason"),
    [
        (("avx512f", "avx512_bf16"), ("FP32", "BF16"), None),
        (("asimd", "bf16"), ("FP32", "BF16"), None),
        ((), ("FP32", "BF16"), None),  # a system that does not tell its flags
        (("avx2", "avx512f"), ("FP32", "BF16"), "the CPU has none of .*, only avx2, avx512f"),  # simulated
        (("asimd", "bf16"), ("FP32", "FP16"), "OpenVINO does not compute in bf16 on this CPU"),
        ((), ("FP32",), "OpenVINO does not compute in bf16 on this CPU"),
    ],
)
def test_bf16_is_where_instructions_and_openvino_have_it(
    flags: tuple[str, ...], precisions: tuple[str, ...], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ov, "machine_flags", lambda: flags)
    found = ov.no_bf16(Core(*precisions))
    assert found is None if reason is None else re.fullmatch(reason, str(found))


def test_bf16_needs_images(
    fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    emulate(monkeypatch)
    assert "it needs a source to calibrate on" in failure(
        capfd, main, fp32, "--precision", "bf16", "--out", tmp_path / "b"
    )


def test_an_fp32_bundle_is_computed_in_fp32_where_there_is_bf16(
    fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Unasked, OpenVINO takes bf16 where the CPU has it."""
    emulate(monkeypatch)
    hints = []
    config = ov._config
    monkeypatch.setattr(ov, "_config", lambda hint, threads: hints.append(hint) or config(hint, threads))
    with caplog.at_level(logging.WARNING):
        Gate.load(fp32, engine="openvino", threads=1, cache=tmp_path)
    assert set(hints) == {"f32"}
    assert not caplog.messages


def test_int8_is_calibrated_on_onnxruntime_and_runs_on_both(fp32: Path, calibration: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8"
    call(main, fp32, "--precision", "int8", "--calibration", calibration, "--out", out, "--int8-method", "minmax")
    expected, gate = (
        Gate.load(out, engine=name, threads=1, cache=tmp_path / "c") for name in ("onnxruntime-cpu", "openvino")
    )
    numerics = gate.manifest.model.numerics
    assert numerics is not None
    assert (numerics.engine, numerics.precision) == ("onnxruntime-cpu", "int8")
    assert load_calibrated(out, threads=1).engine.name == "onnxruntime-cpu"
    logits = expected.engine.run(IMAGES).logits
    difference = np.abs(gate.engine.run(IMAGES).logits - logits).max()
    assert difference <= 0.02 * np.ptp(logits)
    same = [a.decision == b.decision for a, b in zip(gate.decide(IMAGES), expected.decide(IMAGES), strict=True)]
    assert np.mean(same) > 0.97


def test_fp16_runs_on_both(shared_bundle: Bundle) -> None:
    model = onnx.load_from_string(shared_bundle.model)
    to_half(model)
    expected = OnnxRuntimeCpu(model.SerializeToString(), 1).run(IMAGES).logits
    found = ov.OpenVino(model.SerializeToString(), threads=1).run(IMAGES).logits
    assert np.abs(found - expected).max() < 0.01 * np.ptp(expected)


def test_no_engine_of_tensorrt_is_called_bf16(bf16: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """TensorRT computes what the graph says, and that is fp32."""
    with pytest.raises(
        ExportError, match="only OpenVINO computes it in bf16; build an engine from an fp16 or int8 bundle"
    ):
        build(Bundle.load(bf16), BuildOptions("tensorrt-rtx", (89,), (1, 8, 64)))
    options = ("--checkpoint", "x.pth", "--precision", "bf16", "--tensorrt", "rtx", "--out", tmp_path / "b")
    assert failure(capfd, export, *options).startswith("--precision bf16 does not go with --tensorrt")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_other_precisions_are_onnxruntimes(shared_bundle: Bundle, precision: str) -> None:
    assert make_engine(shared_bundle.model, precision, 1).name == "onnxruntime-cpu"  # type: ignore[arg-type]
