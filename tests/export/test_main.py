"""``python -m export``: from a checkpoint or a foreign model to a bundle, and one line for everything that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
import torch

from export import origin
from export.__main__ import main
from export.exceptions import ExportError
from export.from_onnx.options import Tensors
from runtime import Gate, NotCalibrated
from runtime.bundle import Bundle
from runtime.manifest import Manifest
from tests.commands import failure
from tests.export import factories
from tests.export.conftest import Exported, Sources, call
from tests.small import LABELS, SPEC, calibration_images
from tests.train.sets import CLASSES
from train import checkpoint
from train import data as train_data
from train.descriptions.description import Description

FOREIGN = "tests.export.factories:plain"


def session(bundle: Path) -> ort.InferenceSession:
    """ONNX Runtime and nothing of this project."""
    return ort.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])


def halves(sources: Sources, manifest: Manifest) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The calibration and the evaluation images."""
    first, second = (train_data.load(f"{sources.val}@{i}/2", manifest.input) for i in (1, 2))
    return first.images, second.images


# --- from a checkpoint


def test_the_bundle_holds_model_manifest_card_and_figures(exported: Exported) -> None:
    names = {file.name for file in exported.path.iterdir()}
    assert names == {
        "manifest.json",
        "model.onnx",
        "pipeline.onnx",
        "golden",
        "card.md",
        "evaluation.json",
        "histogram.png",
        "roc.png",
        "risk_coverage.png",
    }


def test_the_manifest_says_what_the_checkpoint_says(exported: Exported, checkpoint_file: Path) -> None:
    manifest, header = Bundle.load(exported.path).manifest, checkpoint.load(checkpoint_file).header
    assert (manifest.model.name, manifest.model.arch, manifest.model.method) == ("colours", "resnet20", "cross-entropy")
    assert (manifest.labels, manifest.input, manifest.task) == (CLASSES, header.input, "multiclass")
    training = manifest.provenance["training"]
    assert training["metrics"] == header.metrics
    assert training["hyperparameters"]["epochs"] == 2
    assert manifest.provenance["versions"]["torch"] == torch.__version__
    assert manifest.provenance["verification"]["decision_flips"] == 0
    assert manifest.provenance["verification"]["max_logit_difference"] < 1e-3


def test_the_gate_is_calibrated_on_the_calibration_images(exported: Exported, sources: Sources) -> None:
    gate = Gate.load(exported.path, threads=1)
    spec = gate.manifest.gate
    assert spec is not None
    assert (spec.score, spec.alpha, spec.n_calibration) == ("energy", 0.1, 60)
    images, _ = halves(sources, gate.manifest)
    energies = sorted(decision.scores["energy"] for decision in gate.decide(images))
    assert spec.threshold == pytest.approx(energies[5])  # floor(0.1 * 61) = 6
    assert sum(decision.is_ood for decision in gate.decide(images)) == 5


def test_the_gate_tells_the_sets_apart(exported: Exported, sources: Sources) -> None:
    gate = Gate.load(exported.path, threads=1)
    _, known = halves(sources, gate.manifest)
    unknown = train_data.load(str(sources.noise), gate.manifest.input).images
    assert np.mean([decision.is_ood for decision in gate.decide(known)]) < 0.3
    assert np.mean([decision.is_ood for decision in gate.decide(unknown)]) > 0.6


def test_bare_onnx_runtime_decides_as_the_gate_does(exported: Exported, sources: Sources) -> None:
    gate = Gate.load(exported.path, threads=1)
    images = np.concatenate([*halves(sources, gate.manifest), calibration_images(20)[:, ::2, ::2]])
    (accept,) = session(exported.path).run(["accept"], {"images": images})
    assert [decision.decision == "accept" for decision in gate.decide(images)] == accept.tolist()
    assert 0 < accept.mean() < 1


def test_bare_onnx_runtime_takes_another_threshold(exported: Exported, sources: Sources) -> None:
    images, _ = halves(sources, Bundle.load(exported.path).manifest)
    model = session(exported.path)
    (scores,) = model.run(["scores"], {"images": images})
    energies = scores[:, 2]
    for threshold in (-1e9, float(np.sort(energies)[30]), 1e9):
        feeds = {"images": images, "threshold": np.array(threshold, np.float32)}
        np.testing.assert_array_equal(model.run(["accept"], feeds)[0], energies >= np.float32(threshold))


def test_the_manifest_is_in_the_graph(exported: Exported) -> None:
    text = session(exported.path).get_modelmeta().custom_metadata_map["oodgate"]
    document = json.loads(text)
    assert document.pop("files") == {}
    found = json.loads((exported.path / "manifest.json").read_text())
    files = {name for name in found.pop("files") if not name.startswith("golden/")}
    assert files == {"model.onnx", "pipeline.onnx"}
    assert document == found


def test_what_is_printed(exported: Exported) -> None:
    read, *lines = exported.output.splitlines()
    assert read.endswith("val.tar@1/2: 60 images in 3 classes, labels = innermost folder")
    assert lines[0].startswith(f"{exported.path}: verified against torch on 60 images: logits differ by at most ")
    assert lines[0].endswith("decisions by 0")
    text = "\n".join(lines)
    assert "calibrated on 60 in-distribution images" in text
    assert "OOD noise: 50 images, " in text
    assert "OOD dark: 20 images, " in text


def test_the_figures_are_in_card_and_json(exported: Exported) -> None:
    figures = json.loads((exported.path / "evaluation.json").read_text())
    assert (figures["id"]["images"], figures["id"]["source"]) == (60, "val.tar@2/2")
    assert figures["id"]["accuracy"] > 0.9
    assert figures["sha256"] == Bundle.load(exported.path).manifest.files["model.onnx"].sha256
    text = (exported.path / "card.md").read_text()
    assert "calibrated on 60 in-distribution images" in text
    assert f"{100 * figures['ood']['noise']['scores']['energy']['auroc']:.2f}" in text


def test_options_of_the_gate(sources: Sources, checkpoint_file: Path, tmp_path: Path) -> None:
    gate = "--score msp --alpha 0.2 --temperature 0.5 --name mine"
    options = ("--checkpoint", checkpoint_file, "--out", tmp_path / "bundle", "--calibration", sources.val)
    call(main, *options, *gate.split())
    manifest = Bundle.load(tmp_path / "bundle").manifest
    assert manifest.gate is not None
    assert (manifest.gate.score, manifest.gate.alpha, manifest.gate.n_calibration) == ("msp", 0.2, 120)
    assert manifest.score_parameters == {"energy": {"temperature": 0.5}}
    assert manifest.model.name == "mine"
    images = train_data.load(str(sources.val), manifest.input).images
    logits, scores = session(tmp_path / "bundle").run(["logits", "scores"], {"images": images})
    energy = 0.5 * np.log(np.exp(2 * logits.astype(np.float64)).sum(axis=1))
    np.testing.assert_allclose(scores[:, 2], energy, rtol=1e-5)


def test_a_gate_that_is_chosen_merged_and_by_class(sources: Sources, checkpoint_file: Path, tmp_path: Path) -> None:
    gate = "--score energy+nan --temperature auto --merge harmonic --class-conditional --alpha 0.1"
    options = ("--checkpoint", checkpoint_file, "--out", tmp_path / "bundle", "--calibration", sources.val)
    output = call(main, *options, *gate.split(), "--aux", sources.noise)
    manifest = Bundle.load(tmp_path / "bundle").manifest
    assert manifest.gate is not None
    assert manifest.gate.choice is not None
    assert (manifest.gate.score, manifest.gate.n_calibration) == ("energy+nan", 90)
    assert manifest.gate.choice.outliers == {"noise.npz": 50}
    verification = manifest.provenance["verification"]
    assert verification["decision_flips"] == 0
    assert "energy+nan" in verification["max_score_difference"]
    assert "AUROC, %" in output
    images = train_data.load(str(sources.val), manifest.input).images
    (accept,) = session(tmp_path / "bundle").run(["accept"], {"images": images})
    decisions = Gate.load(tmp_path / "bundle", threads=1).decide(images)
    assert [not decision.is_ood for decision in decisions] == accept.tolist()


@pytest.mark.parametrize(
    "option",
    [
        *(
            "--score auto",
            "--temperature auto",
            "--alpha 0.01",
            "--guarantee pac",
            "--class-conditional",
        ),
        *("--max-error 0.1", "--prediction-sets 0.9", "--fit train.tar"),
    ],
)
def test_what_a_gate_is_to_be_needs_images(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    """Before the checkpoint is looked for: without images there is no gate that would keep it."""
    options = ("--checkpoint", tmp_path / "nowhere.safetensors", "--out", tmp_path / "bundle", *option.split())
    assert failure(capsys, main, *options).startswith(f"{option.split()[0]} needs --calibration: ")


# --- a foreign model


def foreign(weights: Path, labels: Path, out: Path, /, **changes: object) -> list[str]:
    """Options for `factories.plain`; `changes` are options, with underscores, and None leaves one out."""
    options = {
        "checkpoint": weights,
        "out": out,
        "model": FOREIGN,
        "labels": labels,
        "size": SPEC.height,
        "mean": SPEC.mean,
        "std": SPEC.std,
        "resize": "squash",
        **changes,
    }
    argv = []
    for name, value in options.items():
        if value is not None:
            argv.append(f"--{name.replace('_', '-')}")
            argv += map(str, value) if isinstance(value, tuple) else [str(value)]
    return argv


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "calibration.npz"
    np.savez(path, images=calibration_images(), labels=np.zeros(99, np.int64))
    return path


def test_a_foreign_models_logits_and_decisions(weights: Path, labels: Path, calibration: Path, tmp_path: Path) -> None:
    call(main, *foreign(weights, labels, tmp_path / "bundle", calibration=calibration, alpha=0.1))
    images = calibration_images(70, seed=5)
    normalised = (images / 255.0 - np.array(SPEC.mean)) / np.array(SPEC.std)
    with torch.no_grad():
        expected = factories.trained()(torch.from_numpy(normalised).float().permute(0, 3, 1, 2)).numpy()
    (logits,) = session(tmp_path / "bundle").run(["logits"], {"images": images})
    np.testing.assert_allclose(logits, expected, atol=1e-4)

    gate = Gate.load(tmp_path / "bundle", threads=1)
    assert gate.manifest.labels == LABELS
    assert gate.manifest.gate is not None
    energies = np.log(np.exp(expected.astype(np.float64)).sum(axis=1))
    clear = np.abs(energies - gate.manifest.gate.threshold) > 1e-4
    for decision, row, energy, sure in zip(gate.decide(images), expected, energies, clear, strict=True):
        assert decision.class_index == row.argmax()
        assert decision.score.value == pytest.approx(energy, abs=1e-4)
        if sure:
            assert decision.is_ood == (energy < gate.manifest.gate.threshold)
    assert clear.sum() > 60


def test_without_calibration_images_nothing_is_accepted(weights: Path, labels: Path, tmp_path: Path) -> None:
    output = call(main, *foreign(weights, labels, tmp_path / "bundle", temperature=2))
    assert "Not calibrated: the file rejects everything" in output
    manifest = Bundle.load(tmp_path / "bundle").manifest
    assert manifest.gate is None
    assert manifest.score_parameters["energy"] == {"temperature": 2}
    (accept,) = session(tmp_path / "bundle").run(["accept"], {"images": calibration_images(9)})
    assert not accept.any()
    with pytest.raises(NotCalibrated):
        Gate.load(tmp_path / "bundle")


def test_options_of_the_input(weights: Path, labels: Path, tmp_path: Path) -> None:
    changes = {"size": "12x20", "resize": "border", "interpolation": "bicubic", "resize_to": "16x24"}
    call(main, *foreign(weights, labels, tmp_path / "bundle", **changes))
    spec = Bundle.load(tmp_path / "bundle").manifest.input
    assert (spec.height, spec.width) == (12, 20)
    assert (spec.resize, spec.interpolation, spec.resize_to) == ("border", "bicubic", (16, 24))
    assert (spec.mean, spec.std) == (SPEC.mean, SPEC.std)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"resize_to": 18}, ("shortest", 18)),
        ({"resize_to": "18x20"}, ("squash", (18, 20))),
        ({"resize_to": "18x20", "resize": "shortest"}, ("shortest", (18, 20))),
        ({"resize": "squash"}, ("squash", None)),
        ({"resize": "center"}, ("center", None)),
    ],
    ids=str,
)
def test_the_resize_rule_of_a_foreign_model(
    weights: Path, labels: Path, tmp_path: Path, changes: dict[str, object], rule: tuple[str, object]
) -> None:
    call(main, *foreign(weights, labels, tmp_path / "bundle", **{"resize": None, **changes}))
    spec = Bundle.load(tmp_path / "bundle").manifest.input
    assert (spec.resize, spec.resize_to) == rule


def test_a_foreign_model_has_no_resize_rule_by_default(
    weights: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, main, *foreign(weights, labels, tmp_path / "bundle", resize=None))
    assert message.startswith("--model needs --resize-to too")


def test_a_multilabel_model(weights: Path, labels: Path, calibration: Path, tmp_path: Path) -> None:
    options = {"task": "multilabel", "score": "joint_energy", "alpha": 0.1}
    call(main, *foreign(weights, labels, tmp_path / "bundle", calibration=calibration, **options))
    gate = Gate.load(tmp_path / "bundle", threads=1)
    images = calibration_images(20)
    logits = gate.engine.run(images).logits
    for decision, row in zip(gate.decide(images), logits, strict=True):
        positive = tuple(name for name, logit in zip(LABELS, row, strict=True) if logit >= 0)
        assert decision.labels == (() if decision.is_ood else positive)


def test_a_bundle_is_replaced(weights: Path, labels: Path, tmp_path: Path) -> None:
    call(main, *foreign(weights, labels, tmp_path / "bundle", name="first"))
    call(main, *foreign(weights, labels, tmp_path / "bundle", name="second"))
    assert Bundle.load(tmp_path / "bundle").manifest.model.name == "second"
    assert [file.name for file in tmp_path.glob(".*")] == []


# --- what is wrong


@pytest.mark.parametrize("option", ["labels", "size", "mean", "std"])
def test_an_option_that_a_foreign_model_needs(
    weights: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    message = failure(capsys, main, *foreign(weights, labels, tmp_path / "bundle", **{option: None}))
    assert message.startswith(f"--model needs --{option} too")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "no_such_package:make"}, "--model no_such_package:make: expected package.module:factory"),
        ({"model": "tests.export.factories:Tokens"}, "the weights don't fit"),
        ({"model": "tests.export.factories:fails"}, "no network today"),
        ({"size": "large"}, "large"),
        ({"size": "16x"}, None),
        ({"size": "16x16x3"}, "16x3"),
        ({"size": 0}, "input size must be positive"),
        ({"std": (0, 1, 1)}, "std positive"),
        ({"std": (-1, 1, 1)}, "std positive"),
        ({"mean": ("nan", 0, 0)}, "mean must be finite"),
        ({"mean": (1, 2)}, "mean must be of 1, 3 or 4 channels, found 2"),
        ({"resize_to": 0, "resize": "shortest"}, "resize_to must be positive"),
        ({"resize_to": "16x"}, "invalid literal"),
        ({"resize_to": 18, "resize": "squash"}, "resize_to of squash must be (height, width), found 18"),
        ({"resize": "shortest"}, "shortest needs the short side"),
        ({"resize_to": 18, "resize": "center"}, "resize_to goes with shortest, squash and border"),
        ({"resize": "crop"}, "invalid choice: 'crop'"),
        ({"task": "detection"}, "invalid choice: 'detection'"),
        ({"score": "softmax"}, "unknown score 'softmax'; there are msp, "),
        ({"alpha": "small"}, "invalid float value: 'small'"),
        ({"temperature": 0}, "--temperature must be positive"),
        ({"temperature": -1}, "--temperature must be positive"),
        ({"temperature": "nan"}, "--temperature must be positive"),
        ({"temperature": "inf"}, "temperature"),
        ({"labels": "nowhere.txt"}, "nowhere.txt: No such file"),
        ({"checkpoint": "nowhere.pth"}, "nowhere.pth: no such file"),
        ({"calibration": "nowhere"}, "nowhere: no such directory"),
        ({"checkpoint": None}, None),
        ({"checkpoint": None, "model": None}, "what to export? --checkpoint FILE or DIRECTORY, --model"),
        ({"model": None}, "not one of ours: --model tells how to build it"),
        ({"out": None}, "--out"),
    ],
    ids=str,
)
def test_wrong_options(
    weights: Path,
    labels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    message: str | None,
) -> None:
    options = foreign(weights, labels, tmp_path / "bundle", **changes)
    if message is None:
        call(main, *options)
        return
    assert message in failure(capsys, main, *options)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\ndog\n", "expected logits [N, 2] for 2 labels, found [2, 3]"),
        (b"", "expected class names, found an empty file"),
        (b"cat\ndog\ncat\n", "cat"),
        (b"cat\xff\ndog\nship\n", "utf-8"),
    ],
    ids=["too few", "none", "not distinct", "not UTF-8"],
)
def test_wrong_labels(
    weights: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    labels.write_bytes(content)
    assert message in failure(capsys, main, *foreign(weights, labels, tmp_path / "bundle"))


@pytest.mark.parametrize(
    ("alpha", "message"),
    [(0, "alpha must be"), (1, "alpha must be"), ("nan", "alpha must be"), (0.001, "at least 999")],
)
def test_wrong_alpha(
    weights: Path,
    labels: Path,
    calibration: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    alpha: object,
    message: str,
) -> None:
    options = foreign(weights, labels, tmp_path / "bundle", calibration=calibration, alpha=alpha)
    assert message in failure(capsys, main, *options)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--ood far=far", "--ood goes with --id"),
        ("--id val", "--id needs --calibration"),
        ("--id val --ood far", "--ood far: expected NAME=SOURCE"),
        ("--id val --ood =far", "--ood =far: expected NAME=SOURCE"),
        ("--id val --ood far=", "--ood far=: expected NAME=SOURCE"),
        ("--id val --ood a=x --ood a=y", "--ood a=y: the name 'a' is taken"),
        ("--id val --ood ID=x", "--ood ID=x: the name 'ID' is taken"),
    ],
)
def test_wrong_options_of_the_evaluation(
    weights: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    argv = [*foreign(weights, labels, tmp_path / "bundle"), *options.split()]
    assert failure(capsys, main, *argv).startswith(message)


def test_a_source_of_the_evaluation_that_is_missing(
    weights: Path, labels: Path, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = tmp_path / "known.npz"
    np.savez(known, images=calibration_images(seed=2), labels=np.array(["cat", *["tree"] * 98]))
    options = foreign(weights, labels, tmp_path / "bundle", calibration=calibration, id=known)
    assert "nowhere: no such directory" in failure(capsys, main, *options, "--ood", "far=nowhere")
    assert not (tmp_path / "bundle").exists()
    assert "not one of the model's" in failure(capsys, main, *options, "--ood", f"far={calibration}")


def test_images_of_the_calibration_are_not_evaluated_on(
    weights: Path, labels: Path, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(calibration, images=calibration_images(), labels=np.array(LABELS * 33))
    options = foreign(
        weights, labels, tmp_path / "bundle", calibration=calibration, id=calibration, ood=f"far={calibration}"
    )
    message = failure(capsys, main, *options)
    assert "calibration.npz: about 99 of 99 images are among those of the calibration of bundle" in message


def test_a_checkpoint_that_is_not_ours_needs_a_model(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "weights.pth" in failure(capsys, main, "--checkpoint", weights, "--out", tmp_path / "bundle")


@pytest.mark.parametrize("name", ["Branching", "Noisy"])
def test_a_model_that_does_not_become_a_graph(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    torch.save(getattr(factories, name)().state_dict(), tmp_path / "w.pth")
    changes = {"model": f"tests.export.factories:{name}"}
    message = failure(capsys, main, *foreign(tmp_path / "w.pth", labels, tmp_path / "bundle", **changes))
    assert {"Branching": "torch.export can't trace", "Noisy": "logits differ"}[name] in message
    assert not (tmp_path / "bundle").exists()


def test_an_output_that_is_something_else_is_left_alone(
    weights: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in (tmp_path / "notes.txt", tmp_path / "folder"):
        file = out if out.suffix else out / "notes.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
        assert "exists and is not a bundle" in failure(capsys, main, *foreign(weights, labels, out))
        assert file.read_text() == "mine"


def test_an_output_below_a_file(weights: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "weights.pth" in failure(capsys, main, *foreign(weights, labels, weights / "bundle"))


# --- an engine beside the graph


def test_an_engine_is_built_into_the_bundle(checkpoint_file: Path, sources: Sources, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    out = call(
        main,
        "--checkpoint",
        checkpoint_file,
        "--calibration",
        sources.val,
        "--out",
        tmp_path / "b",
        "--tensorrt",
        "rtx",
    )
    ((name, spec),) = Bundle.load(tmp_path / "b").manifest.engines.items()
    assert (spec.targets, spec.batches) == ((86, 89, 120), (1, 8, 64))
    assert name in out


def test_what_an_engine_lacks_is_found_before_any_work(
    checkpoint_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, main, "--checkpoint", checkpoint_file, "--out", tmp_path / "b", "--sm", "86")
    assert message == "--sm goes with --tensorrt rtx or full"
    assert not (tmp_path / "b").exists()


def test_a_missing_extra_is_one_line_of_python_m_too() -> None:
    code = "import sys; sys.modules['onnx'] = None; sys.argv = ['-m']; import runpy; "
    code += "runpy.run_module('export', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: onnx is not installed: pip install 'oodgate[export]'\n"


def test_what_was_found_is_printed(weights: Path, labels: Path, tmp_path: Path) -> None:
    output = call(
        main, *foreign(weights, labels, tmp_path / "bundle", checkpoint=None, model="tests.export.factories:Tokens")
    )
    assert "note: weights as tests.export.factories:Tokens makes them: no --checkpoint was given\n" in output
    assert "note: the penultimate activations are the mean of 256 positions\n" in output


@pytest.mark.parametrize("option", ["output", "layout"])
def test_what_names_parts_of_an_onnx_file_is_refused_beside_anything_else(option: str) -> None:
    place = origin.Place(None, f"{factories.__name__}:trained", tensors=Tensors(**{option: "NHWC"}))
    with pytest.raises(ExportError, match=f"--{option} goes with an ONNX file"):
        origin.read(place, Description())
