"""``python -m export.convert``, and ``--precision`` of ``python -m export``."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

from export.__main__ import main as export
from export.calibrate.__main__ import main as calibrate
from export.calibrate.options import GateOptions
from export.checks.precision import precision_warning
from export.convert import conversion
from export.convert.__main__ import main
from export.convert.conversion import convert
from export.convert.int8 import Int8Options, Quantised
from export.convert.options import add_precision_options, int8_options
from export.evaluate.__main__ import main as evaluate
from export.exceptions import ExportError
from export.fit.__main__ import main as fit
from export.images.leakage import hashes
from export.tensorrt.__main__ import main as add_engine
from export.tensorrt.attach import attach
from export.tensorrt.build import Built
from runtime import Gate, NotCalibrated
from runtime.bundle import Bundle
from runtime.manifest import EngineSpec
from tests.commands import failure
from tests.export.conftest import call
from tests.export.convert.conftest import COUNT, IMAGES
from tests.small import ALPHA, calibration_images


@pytest.fixture(scope="module")
def int8(fp32: Path, calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "small"
    call(main, fp32, "--precision", "int8", "--calibration", calibration, "--out", out, "--int8-method", "minmax")
    return out


def calibrating(bundle: Path) -> npt.NDArray[np.uint8]:
    """The images that its ranges were not learned from: a quarter of them is held out."""
    manifest = Bundle.load(bundle).manifest
    order = np.random.default_rng(0).permutation(COUNT)
    assert manifest.data["quantisation"].images == COUNT // 4
    return IMAGES[np.sort(order[COUNT // 4 :])]


def energies(bundle: Path, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return np.array([decision.scores["energy"] for decision in Gate.load(bundle, threads=1).decide(images)])


def test_the_threshold_is_that_of_its_own_scores(int8: Path) -> None:
    gate = Bundle.load(int8).manifest.gate
    assert gate is not None
    images = calibrating(int8)
    assert gate.n_calibration == len(images) == 300
    assert gate.threshold == pytest.approx(np.sort(energies(int8, images))[29], rel=2e-6)  # floor(0.1 * 301) = 30
    assert (gate.score, gate.alpha) == ("energy", ALPHA)


def test_the_manifest_and_the_card_say_it(int8: Path, fp32: Path) -> None:
    before, manifest = Bundle.load(fp32).manifest, Bundle.load(int8).manifest
    assert (before.model.precision, manifest.model.precision) == ("fp32", "int8")
    how = manifest.provenance["quantisation"]
    assert (how["target"], how["method"], how["keep"], how["layers"], how["images"]) == (
        "cpu",
        "minmax",
        ["first"],
        2,
        100,
    )
    card = (int8 / "card.md").read_text()
    assert "| int8" in card
    assert "## Precision\n\nThe layers before the penultimate activations are int8;" in card


def test_parity_is_that_of_the_two_bundles(int8: Path, fp32: Path) -> None:
    images = calibrating(int8)
    gates = [Gate.load(path, threads=1) for path in (fp32, int8)]
    old, new = (gate.decide(images) for gate in gates)
    logits = [gate.engine.run(images).logits.astype(np.float64) for gate in gates]
    parity = gates[1].manifest.parity
    assert parity is not None
    assert parity.images == 300
    assert parity.label_agreement == np.mean([a.class_index == b.class_index for a, b in zip(old, new, strict=True)])
    assert parity.max_logit_difference == pytest.approx(np.abs(logits[0] - logits[1]).max())
    assert parity.mean_logit_difference == pytest.approx(np.abs(logits[0] - logits[1]).mean())
    assert parity.newly_rejected == sum(b.is_ood and not a.is_ood for a, b in zip(old, new, strict=True))
    assert parity.newly_accepted == sum(a.is_ood and not b.is_ood for a, b in zip(old, new, strict=True))
    threshold = old[0].score.threshold
    kept = [a.is_ood != (b.score.value < threshold) for a, b in zip(old, new, strict=True)]
    assert parity.flips_with_fp32_threshold == sum(kept)


def test_a_file_that_changes_the_classes_is_not_fit_for_use(
    fp32: Path, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standing in for ranges that clip: the last layer's inputs are exchanged."""

    def spoil(model: onnx.ModelProto, *_: object) -> Quantised:
        (last,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith("fc.weight"))
        last.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(last), last.name))
        return Quantised("minmax", {}, 2)

    monkeypatch.setattr(conversion, "quantise", spoil)
    options = ("--precision", "int8", "--calibration", calibration, "--out", tmp_path / "int8")
    output = call(main, fp32, *options)
    parity = Bundle.load(tmp_path / "int8").manifest.parity
    assert parity is not None
    assert parity.label_agreement < 0.9
    share = 100 * (1 - parity.label_agreement)
    text = f"NOT FIT FOR USE: int8 predicts another class than fp32 for {share:.0f} % of 300 images"
    assert f"\nwarning: {text}" in output
    assert "take other --int8-method, --int8-keep first,last, more images, or --precision fp16" in output
    assert f"## Precision\n\n{text}" in (tmp_path / "int8" / "card.md").read_text()
    assert f"\nwarning: {text}" in call(calibrate, tmp_path / "int8", calibration, "--score", "msp")
    assert f"## Precision\n\n{text}" in (tmp_path / "int8" / "card.md").read_text()
    call(fit, tmp_path / "int8", "--detectors", "kl_uniform")
    assert f"## Precision\n\n{text}" in (tmp_path / "int8" / "card.md").read_text()


def test_a_faithful_file_is_not_warned_of(int8: Path) -> None:
    manifest = Bundle.load(int8).manifest
    assert manifest.parity is not None
    assert precision_warning("int8", replace(manifest.parity, label_agreement=0.9)) is None
    assert "for 38 % of 300 images" in str(precision_warning("int8", replace(manifest.parity, label_agreement=0.62)))
    assert precision_warning("fp16", None) is None


def test_another_calibration_leaves_the_same_images_out(int8: Path, tmp_path: Path) -> None:
    """Those of the ranges, and no other; what parity told of decisions was of an earlier threshold."""
    copy = Path(shutil.copytree(int8, tmp_path / "small"))
    fresh = calibration_images(100, seed=8)
    both = np.concatenate([IMAGES, fresh])
    np.savez(tmp_path / "more.npz", images=both, labels=np.zeros(len(both), np.int64))
    call(calibrate, copy, tmp_path / "more.npz", "--alpha", 0.05)
    manifest = Bundle.load(copy).manifest
    assert manifest.gate is not None
    assert manifest.gate.n_calibration == 400
    kept = np.concatenate([calibrating(copy), fresh])
    assert manifest.gate.threshold == pytest.approx(
        np.sort(energies(copy, kept))[19], rel=2e-6
    )  # floor(0.05 * 401) = 20
    check_parity_of_the_graph_alone(int8, copy)


def test_another_operating_point_has_no_flips(int8: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(int8, tmp_path / "small"))
    call(calibrate, copy, "--alpha", ALPHA)
    assert Bundle.load(copy).manifest == Bundle.load(int8).manifest
    call(calibrate, copy, "--alpha", 0.05)
    check_parity_of_the_graph_alone(int8, copy)


def check_parity_of_the_graph_alone(before: Path, after: Path) -> None:
    """Labels and logits are those of the same graph; of decisions nothing is said."""
    told, kept = (Bundle.load(path).manifest.parity for path in (before, after))
    assert told is not None
    assert kept == replace(
        told, newly_rejected=None, newly_accepted=None, flips_with_fp32_threshold=None, flips_with_own_threshold=None
    )
    card = (after / "card.md").read_text()
    assert told.label_agreement is not None
    assert f"the predicted class is the same for {100 * told.label_agreement:.2f} %; logits differ by " in card
    assert card.partition("Against the fp32 bundle, ")[2].partition("\n")[0].endswith(" at most.")
    assert "decided otherwise" not in card


def test_images_of_the_ranges_alone_calibrate_nothing(
    int8: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = IMAGES[~np.isin(hashes(IMAGES), hashes(calibrating(int8)))]
    np.savez(tmp_path / "seen.npz", images=seen, labels=np.zeros(len(seen), np.int64))
    message = failure(capsys, calibrate, int8, tmp_path / "seen.npz")
    assert message == "the graph was quantised with all of these images, or its score chosen: calibrate it on others"


def test_images_of_the_ranges_are_not_evaluated_on(
    int8: Path, calibration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, evaluate, int8, "--id", calibration, "--ood", f"same={calibration}")
    assert "are among those of the quantisation of small" in message


def test_fp16_is_calibrated_on_all_images(fp32: Path, calibration: Path, tmp_path: Path) -> None:
    output = call(main, fp32, "--precision", "fp16", "--calibration", calibration, "--out", tmp_path / "half")
    manifest = Bundle.load(tmp_path / "half").manifest
    assert manifest.gate is not None
    assert manifest.gate.n_calibration == COUNT
    assert manifest.parity is not None
    assert manifest.parity.label_agreement > 0.99
    assert "The layers before the penultimate activations are fp16;" in output
    assert "quantisation" not in manifest.data


def test_fp16_without_images_rejects_everything(fp32: Path, tmp_path: Path) -> None:
    output = call(main, fp32, "--precision", "fp16", "--out", tmp_path / "half")
    assert "\nthe gate before: --score energy --alpha 0.1; name it again, or --calibration keeps it\n" in output
    with pytest.raises(NotCalibrated):
        Gate.load(tmp_path / "half")
    session = ort.InferenceSession(str(tmp_path / "half" / "model.onnx"), providers=["CPUExecutionProvider"])
    (accept,) = session.run(["accept"], {"images": IMAGES})
    assert not accept.any()
    assert Bundle.load(tmp_path / "half").manifest.parity is None


def test_engines_of_the_fp32_graph_are_left_behind(fp32: Path, tmp_path: Path) -> None:
    source = Bundle.load(shutil.copytree(fp32, tmp_path / "source"))
    model = source.manifest.files["model.onnx"].sha256
    attach(source, Built(b"engine", EngineSpec("tensorrt", "1.2.3", (89,), "fp32", (1, 4, 8), model, 9, 3)))
    call(main, source.path, "--precision", "fp16", "--out", tmp_path / "fp16")
    made = Bundle.load(tmp_path / "fp16")
    assert not made.manifest.engines
    assert set(made.manifest.files) == {"model.onnx"}


def test_an_int8_graph_for_a_cpu_is_not_built_by_tensorrt(int8: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, add_engine, int8, "--tensorrt", "rtx")
    assert message.startswith(
        f"{int8}: its int8 graph is for ONNX Runtime on a CPU, and TensorRT takes no zero points; "
    )


def test_int8_for_an_engine_is_for_tensorrt() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calibration", default="images")
    add_precision_options(parser)
    given = ["--precision", "int8", "--int8-method", "minmax"]
    assert int8_options(parser.parse_args(given)).target == "cpu"
    assert int8_options(parser.parse_args(given), tensorrt=True).target == "tensorrt"
    with pytest.raises(ExportError, match=r"^--int8-for cpu does not go with --tensorrt"):
        int8_options(parser.parse_args([*given, "--int8-for", "cpu"]), tensorrt=True)


def test_export_with_a_precision(weights: Path, labels: Path, calibration: Path, tmp_path: Path) -> None:
    """A foreign model of one layer, all the way."""
    out = tmp_path / "bundle"
    foreign = "--model tests.export.factories:plain --size 16 --resize squash --mean .5 .4 .3 --std .2 .25 .3"
    options = "--precision int8 --int8-keep none --int8-for tensorrt --int8-method minmax --alpha 0.1"
    sources = ("--checkpoint", weights, "--labels", labels, "--calibration", calibration, "--out", out)
    output = call(export, *foreign.split(), *options.split(), *sources)
    manifest = Bundle.load(out).manifest
    assert (manifest.model.precision, manifest.provenance["quantisation"]["target"]) == ("int8", "tensorrt")
    assert manifest.provenance["verification"]["decision_flips"] == 0
    assert manifest.parity is not None
    assert "The layers before the penultimate activations are int8;" in output
    kinds = {tensor.data_type for tensor in onnx.load(out / "model.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    Gate.load(out, threads=1).decide(IMAGES[:2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--precision int8", "--precision int8 needs --calibration"),
        ("--precision fp16 --int8-method minmax", "--int8-method goes with --precision int8, found fp16"),
        ("--precision int8 --calibration x --int8-keep middle", "--int8-keep middle: expected first, last"),
        ("--precision int8 --calibration nowhere", "nowhere: no such directory"),
        ("--precision fp8", "invalid choice: 'fp8'"),
        ("--precision fp32", "invalid choice: 'fp32'"),
        ("", "--precision"),
    ],
)
def test_wrong_options(
    fp32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    assert message in failure(capsys, main, fp32, *options.split(), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_converted_already(int8: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, main, int8, "--precision", "fp16", "--out", tmp_path / "out")
    assert message == "small is int8 already; convert its fp32 bundle"


def test_int8_is_not_made_without_images(fp32: Path) -> None:
    loaded = Bundle.load(fp32)
    model, manifest = onnx.load_from_string(loaded.model), loaded.manifest
    with pytest.raises(ExportError, match="int8 learns the ranges of activations from images"):
        convert(model, manifest, "int8", None, GateOptions.of(manifest), Int8Options())
