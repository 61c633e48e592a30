"""``python -m export.evaluate``: figures on the screen, as JSON and in the card."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from export.calibrate.__main__ import main as calibrate
from export.evaluate import bundles
from export.evaluate.__main__ import main
from runtime import Gate
from runtime.bundle import Bundle
from runtime.manifest import InputSpec, Manifest
from tests.commands import failure
from tests.export.conftest import Exported, Sources, call, contents
from tests.train.sets import noise
from train import data


def options(sources: Sources) -> list[str]:
    return ["--id", f"{sources.val}@2/2", "--ood", f"noise={sources.noise}", "--ood", f"dark={sources.dark}"]


@pytest.fixture(scope="module")
def figures(exported: Exported, sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """What is printed, and the JSON."""
    file = tmp_path_factory.mktemp("evaluate") / "out.json"
    output = call(main, exported.path, *options(sources), "--json", file)
    return output, json.loads(file.read_text())


def test_acceptance_is_that_of_the_gate(exported: Exported, sources: Sources, figures: tuple[str, Any]) -> None:
    gate = Gate.load(exported.path, threads=1)
    known = data.load(f"{sources.val}@2/2", gate.manifest.input)
    decisions = gate.decide(known.images)
    right = [decision.class_index == label for decision, label in zip(decisions, known.labels, strict=True)]
    accepted = [not decision.is_ood for decision in decisions]
    assert figures[1]["id"]["acceptance"] == pytest.approx(np.mean(accepted))
    assert figures[1]["id"]["accuracy"] == pytest.approx(np.mean(right))
    both = [r for r, a in zip(right, accepted, strict=True) if a]
    assert figures[1]["id"]["accuracy_accepted"] == pytest.approx(np.mean(both))
    unknown = gate.decide(data.load(str(sources.dark), gate.manifest.input).images)
    assert figures[1]["ood"]["dark"]["rejection"] == pytest.approx(np.mean([d.is_ood for d in unknown]))


def test_auroc_of_every_score(exported: Exported, sources: Sources, figures: tuple[str, Any]) -> None:
    gate = Gate.load(exported.path, threads=1)
    known, unknown = (
        gate.decide(data.load(source, gate.manifest.input).images)
        for source in (f"{sources.val}@2/2", str(sources.noise))
    )
    found = figures[1]["ood"]["noise"]["scores"]
    assert list(found) == list(gate.manifest.scores)
    for score, metrics in found.items():
        pairs = [
            (a.scores[score] > b.scores[score]) + 0.5 * (a.scores[score] == b.scores[score])
            for a in known
            for b in unknown
        ]
        assert metrics["auroc"] == pytest.approx(np.mean(pairs))


def test_sources_are_named_without_their_directories(figures: tuple[str, Any]) -> None:
    assert figures[1]["id"]["source"] == "val.tar@2/2"
    assert {name: ood["source"] for name, ood in figures[1]["ood"].items()} == {"noise": "noise.npz", "dark": "dark"}


def test_the_same_figures_are_printed(figures: tuple[str, Any]) -> None:
    output, document = figures
    low, high = document["id"]["acceptance_interval"]
    assert f"{100 * document['id']['acceptance']:.2f} {100 * low:.1f}-{100 * high:.1f} % accepted" in output
    for name, ood in document["ood"].items():
        assert f"OOD {name}: {ood['images']} images, {100 * ood['rejection']:.2f} " in output
        (row,) = (line.split() for line in output.splitlines() if line.startswith(f"{name} ") and "energy *" in line)
        energy, intervals = ood["scores"]["energy"], ood["intervals"]["energy"]
        for i, metric in enumerate(("auroc", "fpr95_id_positive", "fpr95_ood_positive", "aupr_in", "aupr_out")):
            low, high = intervals[metric]
            assert row[3 + 2 * i : 5 + 2 * i] == [f"{100 * energy[metric]:.2f}", f"{100 * low:.1f}-{100 * high:.1f}"]


def test_the_bundle_stays_as_it_was_without_card(exported_copy: Path, sources: Sources) -> None:
    (exported_copy / "evaluation.json").unlink()
    before = contents(exported_copy)
    call(main, exported_copy, *options(sources))
    assert contents(exported_copy) == before


def test_card(exported_copy: Path, sources: Sources) -> None:
    plots = ("histogram.png", "roc.png", "risk_coverage.png")
    for name in ("card.md", "evaluation.json", *plots):
        (exported_copy / name).unlink()
    model, manifest = (exported_copy / "model.onnx").read_bytes(), Bundle.load(exported_copy).manifest
    call(main, exported_copy, *options(sources), "--card")
    text = (exported_copy / "card.md").read_text()
    for name in plots:
        assert Image.open(io.BytesIO((exported_copy / name).read_bytes())).format == "PNG"
        assert f"]({name})" in text
    document = json.loads((exported_copy / "evaluation.json").read_text())
    assert f"OOD noise: 50 images, {100 * document['ood']['noise']['rejection']:.2f} " in text
    assert (exported_copy / "model.onnx").read_bytes() == model
    assert Manifest.from_json((exported_copy / "manifest.json").read_bytes()) == manifest
    Gate.load(exported_copy)


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (["--ood", "far=x"], "--id"),
        (["--id", "val", "--ood", "far"], "expected NAME=SOURCE"),
        (["--id", "val", "--ood", "ID=far"], "the name 'ID' is taken"),
        (["--id", "nowhere", "--ood", "far=x"], "nowhere: no such directory"),
    ],
)
def test_wrong_options(
    exported: Exported, capsys: pytest.CaptureFixture[str], replacement: list[str], message: str
) -> None:
    assert message in failure(capsys, main, exported.path, *replacement)


def test_missing_ood_source(exported: Exported, sources: Sources, capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, main, exported.path, "--id", f"{sources.val}@2/2", "--ood", "far=nowhere")
    assert "nowhere: no such directory" in message


def test_images_of_a_class_that_the_model_does_not_have(
    exported: Exported, sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "val.npz", images=noise(2), labels=["red", "pink"])
    message = failure(capsys, main, exported.path, "--id", tmp_path / "val.npz", "--ood", f"noise={sources.noise}")
    assert "val.npz: class 'pink' is not one of the model's" in message


def test_missing_bundle(tmp_path: Path, sources: Sources, capsys: pytest.CaptureFixture[str]) -> None:
    assert "manifest.json: not found" in failure(capsys, main, tmp_path / "nowhere", *options(sources))


def test_json_that_cannot_be_written(
    exported: Exported, sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "nowhere" / "out.json"
    assert str(file) in failure(capsys, main, exported.path, *options(sources), "--json", file)


def test_a_bundle_that_is_not_calibrated(
    uncalibrated: Path, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, main, uncalibrated, *options(sources))
    assert "no threshold yet: run oodgate calibrate" in message


# --- shifted images


@pytest.fixture(scope="module")
def dim(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The known images at half their contrast, as an .npz with labels."""
    known = data.load(f"{sources.val}@2/2", InputSpec(8, 8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    file = tmp_path_factory.mktemp("shifted") / "dim.npz"
    labels = np.array(known.classes)[known.labels]
    np.savez(file, images=np.asarray(known.images[:]) // 2 + 64, labels=labels)
    return file


def test_shifted_images(exported: Exported, sources: Sources, dim: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    output = call(main, exported.path, *options(sources), "--shifted", f"dim={dim}", "--json", file)
    gate = Gate.load(exported.path, threads=1)
    shifted = data.load(str(dim), gate.manifest.input)
    decisions = gate.decide(shifted.images)
    found = json.loads(file.read_text())
    rejected = [decision.is_ood for decision in decisions]
    right = [decision.class_index == label for decision, label in zip(decisions, shifted.labels, strict=True)]
    assert found["shifted"]["dim"]["rejection"] == pytest.approx(np.mean(rejected))
    assert found["shifted"]["dim"]["accuracy"] == pytest.approx(np.mean(right))
    known = [*gate.decide(data.load(f"{sources.val}@2/2", gate.manifest.input).images), *decisions]
    unknown = gate.decide(data.load(str(sources.dark), gate.manifest.input).images)
    for score, figures in found["full_spectrum"]["dark"].items():
        truth = [1] * len(known) + [0] * len(unknown)
        expected = roc_auc_score(truth, [decision.scores[score] for decision in [*known, *unknown]])
        assert figures["auroc"] == pytest.approx(expected)
    assert f"shifted dim: 60 images of known classes, {100 * np.mean(rejected):.2f} " in output
    assert "OOD set, full spectrum" in output


def test_shifted_images_without_labels(exported: Exported, sources: Sources) -> None:
    output = call(main, exported.path, *options(sources), "--shifted", f"dark={sources.dark}")
    (row,) = (line.split() for line in output.splitlines() if line.startswith("dark ") and line.endswith("-"))
    assert row[-3:] == ["-", "-", "-"]


def test_shifted_images_of_the_calibration_are_refused(
    exported: Exported, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    shifted = ("--shifted", f"mirrored={sources.val}@1/2")
    message = failure(capsys, main, exported.path, *options(sources), *shifted)
    assert "val.tar@1/2: about 60 of 60 images are among those of the calibration" in message


# --- several bundles


@pytest.fixture
def stricter(exported_copy: Path, sources: Sources) -> Path:
    call(calibrate, exported_copy, f"{sources.val}@1/2", "--score", "msp", "--alpha", "0.3")
    return exported_copy


def test_bundles_side_by_side_are_what_each_is_alone(
    exported: Exported, stricter: Path, sources: Sources, figures: tuple[str, Any], tmp_path: Path
) -> None:
    json_file, page = tmp_path / "out.json", tmp_path / "out.md"
    output = call(main, exported.path, stricter, *options(sources), "--json", json_file, "--markdown", page)
    first, second = json.loads(json_file.read_text())
    assert first == figures[1]
    call(main, stricter, *options(sources), "--json", json_file)
    assert second == json.loads(json_file.read_text())
    assert (first["score"], second["score"], second["alpha"]) == ("energy", "msp", 0.3)
    rows = [line for line in output.splitlines() if line.startswith("noise ") and str(tmp_path.parent) in line]
    assert len(rows) == len(
        [line for line in page.read_text().splitlines() if "| noise " in line and "bundles" in line]
    )
    assert f"{stricter} (msp)" in output
    assert f"| {stricter} (msp)" in page.read_text()


def test_bundles_of_the_same_input_share_the_images(
    exported: Exported, stricter: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counting(source: str, spec: InputSpec, **options: Any) -> data.ImageSet:
        read.append(source)
        return data.load(source, spec, **options)

    monkeypatch.setattr(bundles, "read", counting)
    call(main, exported.path, stricter, *options(sources))
    assert read == [f"{sources.val}@2/2", str(sources.noise), str(sources.dark)]


# --- images that made the bundle


def test_the_images_of_the_calibration_are_refused(
    exported: Exported, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    ood = ("--ood", f"noise={sources.noise}")
    message = failure(capsys, main, exported.path, "--id", f"{sources.val}@1/2", *ood)
    assert "val.tar@1/2: about 60 of 60 images are among those of the calibration of colours (val.tar@1/2)" in message
    assert "--allow-leakage" in message
    message = failure(capsys, main, exported.path, "--id", sources.val, *ood)
    assert "val.tar: about 60 of 120 images" in message


def test_an_ood_set_with_images_of_the_calibration_is_refused(
    exported: Exported, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, main, exported.path, "--id", f"{sources.val}@2/2", "--ood", f"near={sources.val}@1/2")
    assert "val.tar@1/2: about 60 of 60 images are among those of the calibration" in message


def test_leakage_can_be_allowed(exported: Exported, sources: Sources) -> None:
    source = ("--id", f"{sources.val}@1/2", "--ood", f"noise={sources.noise}")
    read, warning, *_ = call(main, exported.path, *source, "--allow-leakage").splitlines()
    assert read == f"{sources.val}@1/2: 60 images in 3 classes, labels = innermost folder"
    assert warning.startswith("warning: val.tar@1/2: about 60 of 60 images are among those of the calibration")


def test_no_plot_is_drawn_without_card(exported: Exported, sources: Sources) -> None:
    code = "import sys; from export.evaluate.__main__ import main; main(sys.argv[1:]); assert 'matplotlib' not in sys.modules"
    argv = [sys.executable, "-c", code, str(exported.path), *options(sources)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_known_images_alone(exported_copy: Path, sources: Sources, tmp_path: Path) -> None:
    """What is said of them is what is said beside others; nothing tells of detection, in the card neither."""
    beside = call(main, exported_copy, *options(sources), "--card")
    output = call(main, exported_copy, "--id", f"{sources.val}@2/2", "--markdown", tmp_path / "alone.md", "--card")
    own = [line for line in output.splitlines() if line.startswith(("gate:", "ID ", "AURC "))]
    assert own == [line for line in beside.splitlines() if line.startswith(("gate:", "ID ", "AURC "))]
    assert "AUROC" not in output + (tmp_path / "alone.md").read_text() + (exported_copy / "card.md").read_text()
    assert not (exported_copy / "roc.png").exists()


def test_labels_are_not_needed(exported_copy: Path, sources: Sources, tmp_path: Path) -> None:
    """Acceptance and detection are those of the labelled images; there is no accuracy."""
    source, json_file = f"{sources.val}@2/2", tmp_path / "figures.json"
    np.savez(tmp_path / "set.npz", images=data.load(source, Gate.load(exported_copy).manifest.input).images)
    found = []
    for known in (source, tmp_path / "set.npz"):
        output = call(
            main, exported_copy, "--id", known, "--ood", f"noise={sources.noise}", "--json", json_file, "--card"
        )
        found.append(json.loads(json_file.read_text()))
    assert found[0]["ood"] == found[1]["ood"]
    assert found[0]["id"]["acceptance"] == found[1]["id"]["acceptance"]
    assert found[1]["id"]["accuracy"] is None
    assert "ID accuracy" not in output
    assert f"{tmp_path / 'set.npz'}: 60 images, no labels\n" in output
