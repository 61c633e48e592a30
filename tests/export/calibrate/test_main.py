"""``python -m export.calibrate``: another operating point, in manifest and graph alike."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from scipy.stats import binom

from export.calibrate import choice
from export.calibrate.__main__ import main
from export.calibrate.gating import split
from export.calibrate.selecting import FITTED
from export.detectors.combined.merged import parts
from export.fit.__main__ import main as fit
from export.images import leakage
from runtime import Gate
from runtime.bundle import Bundle, entry, update
from runtime.golden.document import GOLDEN
from tests.commands import failure
from tests.export.conftest import Sources, call, contents
from tests.small import encode
from train import data
from train.data import SelectedImages


def scores_and_default_decisions(bundle: Path, source: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """By ONNX Runtime alone."""
    images = data.load(source, Bundle.load(bundle).manifest.input).images
    session = ort.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    scores, accept = session.run(["scores", "accept"], {"images": images})
    return scores, accept


def test_another_score_and_alpha(exported_copy: Path, sources: Sources) -> None:
    source = f"{sources.val}@2/2"
    output = call(main, exported_copy, source, "--score", "max_logit", "--alpha", "0.25")
    document = json.loads((exported_copy / "manifest.json").read_text())
    gate = document["gate"]
    assert (gate["score"], gate["alpha"], gate["n_calibration"]) == ("max_logit", 0.25, 60)

    scores, accept = scores_and_default_decisions(exported_copy, source)
    own = scores[:, document["scores"].index("max_logit")]
    assert gate["threshold"] == pytest.approx(np.sort(own)[14], rel=2e-6)  # floor(0.25 * 61) = 15
    np.testing.assert_array_equal(accept, own >= np.float32(gate["threshold"]))
    assert f"{exported_copy}: An image is accepted when `max_logit >= " in output


def test_a_pac_guarantee_in_manifest_graph_and_card(exported_copy: Path, sources: Sources) -> None:
    output = call(main, exported_copy, sources.val, "--guarantee", "pac", "--alpha", "0.1", "--confidence", "0.9")
    document = json.loads((exported_copy / "manifest.json").read_text())
    gate = document["gate"]
    assert (gate["guarantee"], gate["confidence"], gate["operating_points"][0]["alpha"]) == ("pac", 0.9, 0.05)
    scores, accept = scores_and_default_decisions(exported_copy, str(sources.val))
    own = np.sort(scores[:, document["scores"].index(gate["score"])])
    k = next(k for k in range(120, 0, -1) if binom.sf(k - 1, 120, 0.1) >= 0.9)
    assert k < 12  # the marginal one's rank, floor(0.1 * 121)
    assert gate["threshold"] == pytest.approx(own[k - 1])
    assert (~accept).sum() == k - 1
    sentence = (
        "With 90 % confidence over the draw of its 120 calibration images, this gate rejects at most 10 % of in-distribution "
        "images as out of distribution."
    )
    assert gate["promise"] == sentence
    assert sentence in output
    assert sentence in (exported_copy / "card.md").read_text()
    call(main, exported_copy, f"{sources.val}@1/2")  # stays so unless another is named
    assert Bundle.load(exported_copy).manifest.gate.confidence == 0.9  # type: ignore[union-attr]
    call(main, exported_copy, sources.val, "--guarantee", "marginal")
    assert json.loads((exported_copy / "manifest.json").read_text())["gate"]["confidence"] is None


def test_promises_of_labels_in_manifest_graph_and_card(exported_copy: Path, sources: Sources) -> None:
    promises = ("--max-error", "0.3", "--prediction-sets", "0.8")
    output = call(main, exported_copy, sources.val, *promises)
    document = json.loads((exported_copy / "manifest.json").read_text())
    gate = document["gate"]
    assert gate["max_error"] == {"rate": 0.3, "confidence": 0.95, "score": "confidence", "n": 60}
    assert [one["coverage"] for one in gate["sets"]] == [0.8]
    sentence = "at most 30 % of the in-distribution images that it accepts are classified wrong."
    assert sentence in output
    assert sentence in (exported_copy / "card.md").read_text()
    scores, accept = scores_and_default_decisions(exported_copy, str(sources.val))
    both = [scores[:, document["scores"].index(name)] for name in (gate["score"], "confidence")]
    limits = np.float32([gate["threshold"], gate["selection"]["threshold"]])
    np.testing.assert_array_equal(accept, (both[0] >= limits[0]) & (both[1] >= limits[1]))
    call(main, exported_copy, sources.val, "--max-error", "none", "--prediction-sets", "none")
    document = json.loads((exported_copy / "manifest.json").read_text())
    assert (document["gate"]["max_error"], document["gate"]["sets"]) == (None, [])
    assert "confidence" not in document["scores"]


def test_the_gate_accepts_the_bundle(exported_copy: Path, sources: Sources) -> None:
    call(main, exported_copy, sources.val, "--score", "nan", "--alpha", "0.5")
    gate = Gate.load(exported_copy, threads=1)
    _, accept = scores_and_default_decisions(exported_copy, str(sources.val))
    images = data.load(str(sources.val), gate.manifest.input).images
    decisions = gate.decide(images)
    assert [decision.decision == "accept" for decision in decisions] == accept.tolist()
    assert {decision.score.name for decision in decisions} == {"nan"}
    assert sum(accept) == 120 - 59  # floor(0.5 * 121) = 60, and the 60th is accepted


def test_score_and_alpha_stay_unless_given(exported_copy: Path, sources: Sources) -> None:
    before = Bundle.load(exported_copy).manifest.gate
    call(main, exported_copy, f"{sources.val}@1/2")
    assert Bundle.load(exported_copy).manifest.gate == before


def test_nothing_but_the_gate_changes(exported_copy: Path, sources: Sources) -> None:
    before = Bundle.load(exported_copy).manifest
    scores_before, _ = scores_and_default_decisions(exported_copy, str(sources.val))
    call(main, exported_copy, sources.val, "--alpha", "0.3")
    after = Bundle.load(exported_copy).manifest
    changed = {name for name in vars(before) if getattr(before, name) != getattr(after, name)}
    assert changed - {"confidence"} == {"gate", "data", "files"}
    np.testing.assert_array_equal(scores_and_default_decisions(exported_copy, str(sources.val))[0], scores_before)


def test_a_bundle_that_was_not_calibrated(uncalibrated: Path, sources: Sources) -> None:
    """Energy and 0.05 are the defaults."""
    call(main, uncalibrated, sources.val)
    gate = Gate.load(uncalibrated).manifest.gate
    assert gate is not None
    assert (gate.score, gate.alpha) == ("energy", 0.05)


def test_figures_of_the_old_gate_are_dropped(exported_copy: Path, sources: Sources) -> None:
    call(main, exported_copy, sources.val)
    kept = {"manifest.json", "model.onnx", "pipeline.onnx", "golden", "card.md"}
    assert {file.name for file in exported_copy.iterdir()} == kept
    text = (exported_copy / "card.md").read_text()
    assert "## Evaluation" not in text
    assert "calibrated on 120 in-distribution images" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--score softmax", "unknown score 'softmax'; there are msp, "),
        ("--alpha 0", "alpha must be between 0 and 1"),
        ("--alpha 1", "alpha must be between 0 and 1"),
        ("--alpha 0.001", "120 calibration images are too few for alpha = 0.001: at least 999"),
        ("--alpha 0.02 --guarantee pac", "too few for alpha = 0.02 with 95 % confidence: at least 149 are needed"),
        ("--guarantee pac --confidence 1", "--confidence must be between 0 and 1, found 1"),
        ("--max-error 0.02", "it takes 149 accepted test images of which none is wrong, and "),
        ("--max-error 2", "--max-error must be between 0 and 1, or none, found 2"),
        ("--select nan", "--select goes with --max-error: there is nothing to select for"),
        ("--prediction-sets 0.99", "are too few for prediction sets of coverage 0.99: at least 99 are needed"),
        ("--alpha much", "invalid float value"),
        ("--threads many", "invalid int value"),
    ],
)
def test_wrong_options_leave_the_bundle_as_it_was(
    exported_copy: Path, sources: Sources, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    before = contents(exported_copy)
    assert message in failure(capsys, main, exported_copy, sources.val, *options.split())
    assert contents(exported_copy) == before


def test_missing_source(exported_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere: no such directory" in failure(capsys, main, exported_copy, "nowhere")


@pytest.mark.parametrize("score", ["auto", "nan+energy"])
def test_one_image_is_not_enough_to_choose_on_and_to_calibrate(
    exported_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], score: str
) -> None:
    np.savez(tmp_path / "one.npz", images=np.zeros((1, 16, 16, 3), np.uint8), labels=["red"])
    message = failure(capsys, main, exported_copy, tmp_path / "one.npz", "--score", score, "--alpha", "0.5")
    assert "0 calibration images are too few for alpha = 0.5: at least 1 are needed" in message


def test_missing_bundle(sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "manifest.json: not found" in failure(capsys, main, tmp_path / "nowhere", sources.val)


def test_damaged_bundle(exported_copy: Path, sources: Sources, capsys: pytest.CaptureFixture[str]) -> None:
    model = exported_copy / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    assert "model.onnx: expected" in failure(capsys, main, exported_copy, sources.val)


def test_a_graph_of_another_manifest(exported_copy: Path, sources: Sources, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels edited by hand in manifest.json, while the graph still has the old ones."""
    file = exported_copy / "manifest.json"
    file.write_text(file.read_text().replace('"blue"', '"turquoise"'))
    assert "labels in the graph's metadata is not that of" in failure(capsys, main, exported_copy, sources.val)


def test_arguments_are_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert "BUNDLE" in failure(capsys, main)


# --- another operating point, without images


@pytest.mark.parametrize("alpha", ["0.05", "0.1"])
def test_the_threshold_moves_to_a_stored_operating_point(exported_copy: Path, sources: Sources, alpha: str) -> None:
    before = Bundle.load(exported_copy).manifest
    output = call(main, exported_copy, "--alpha", alpha)
    after = Bundle.load(exported_copy).manifest
    assert before.gate is not None
    assert after.gate == before.gate.at(float(alpha))
    assert after.gate is not None
    assert before.gate is not None
    assert (after.gate.calibration, after.confidence) == (before.gate.calibration, before.confidence)
    assert f"rejected with probability at most {alpha}" in output
    scores, accept = scores_and_default_decisions(exported_copy, str(sources.val))
    own = scores[:, after.scores.index(after.gate.score)]
    np.testing.assert_array_equal(accept, own >= np.float32(after.gate.threshold))
    Gate.load(exported_copy, threads=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--alpha 0.01", "no operating point for alpha = 0.01; stored are 0.05, 0.1."),
        ("--alpha 0.05 --score nan", "without SOURCE only --alpha can be given"),
        ("--alpha 0.05 --class-conditional", "without SOURCE only --alpha can be given"),
        ("--alpha 0.05 --aux a.tar", "without SOURCE only --alpha can be given"),
        ("--score nan", "without SOURCE only --alpha can be given"),
        ("", "without SOURCE only --alpha can be given"),
    ],
)
def test_what_needs_images(exported_copy: Path, capsys: pytest.CaptureFixture[str], options: str, message: str) -> None:
    before = contents(exported_copy)
    assert message in failure(capsys, main, exported_copy, *options.split())
    assert contents(exported_copy) == before


def test_a_bundle_that_was_not_calibrated_has_no_operating_points(
    uncalibrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not calibrated yet; give a SOURCE" in failure(capsys, main, uncalibrated, "--alpha", "0.05")


# --- what the gate is made of


def test_what_the_gate_had_stays_unless_given(exported_copy: Path, sources: Sources) -> None:
    call(main, exported_copy, sources.val, "--score", "msp+nan", "--merge", "harmonic", "--class-conditional")
    first = Bundle.load(exported_copy).manifest
    call(main, exported_copy, sources.val, "--alpha", "0.2")
    again = Bundle.load(exported_copy).manifest
    assert first.gate is not None
    assert again.gate is not None
    assert again.merged == first.merged
    assert again.merged["msp+nan"].method == "harmonic"
    assert (again.gate.score, again.gate.class_conditional, again.gate.alpha) == ("msp+nan", True, 0.2)
    call(main, exported_copy, sources.val, "--no-class-conditional", "--merge", "min")
    last = Bundle.load(exported_copy).manifest
    assert last.gate is not None
    assert (last.merged["msp+nan"].method, last.gate.class_conditional) == ("min", False)


def test_auto_on_a_file(exported_copy: Path, sources: Sources) -> None:
    output = call(main, exported_copy, sources.val, "--score", "auto", "--aux", sources.noise, "--aux", sources.dark)
    gate = Gate.load(exported_copy, threads=1).manifest.gate
    assert gate is not None
    assert gate.choice is not None
    assert gate.choice.outliers == {"noise.npz": 50, "dark": 20}
    assert f"{gate.score} *" in output
    assert "The scores were compared on 30 other in-distribution images" in output
    assert "| AUROC, %" in (exported_copy / "card.md").read_text()


def test_images_that_chose_the_score_never_set_its_threshold(exported_copy: Path, sources: Sources) -> None:
    """Nor when the gate is calibrated again, on them among others; and how the score was chosen stays said."""
    call(main, exported_copy, sources.val, "--score", "auto", "--aux", sources.noise)
    loaded = Bundle.load(exported_copy)
    before = loaded.manifest.gate
    assert before is not None
    held = SelectedImages(data.load(str(sources.val), loaded.manifest.input).images, split(120)[0])
    assert leakage.members(loaded.manifest, leakage.CHOICE, held).sum() == len(held) == 30
    call(main, exported_copy, sources.val, "--alpha", "0.2")
    after = Bundle.load(exported_copy).manifest.gate
    assert after is not None
    assert (after.n_calibration, after.choice) == (90, before.choice)
    call(main, exported_copy, sources.val, "--score", "msp")
    other = Bundle.load(exported_copy).manifest.gate
    assert other is not None
    assert other.choice is None or other.score == before.score


def test_images_that_chose_set_no_threshold_while_their_choice_stands(exported_copy: Path, sources: Sources) -> None:
    """The score's, where the temperature alone is chosen anew too; the records of what is chosen no longer go."""
    spec = Bundle.load(exported_copy).manifest.input
    images = leakage.hashes(data.load(str(sources.val), spec).images[:])
    chose_score = leakage.hashes(data.load(f"{sources.val}@1/2", spec).images[split(60)[0]])
    chose_temperature, rest = (images[part] for part in split(120))

    def calibrated(*options: object) -> tuple[str, int, set[str]]:
        call(main, exported_copy, *options)
        manifest = Bundle.load(exported_copy).manifest
        assert manifest.gate is not None
        roles = {role for role in manifest.data if role.startswith(("choice", "temperature"))}
        return manifest.gate.score, manifest.gate.n_calibration, roles

    calibrated(sources.val, "--score", "auto", "--aux", sources.noise)
    score, n, roles = calibrated(f"{sources.val}@1/2", "--score", "auto", "--aux", sources.dark)
    assert (n, roles) == (45, {"choice", "choice, dark"})
    again = calibrated(sources.val, "--temperature", "auto", "--aux", sources.noise)
    both = {"choice", "choice, dark", "temperature", "temperature, noise.npz"}
    assert again == (score, np.isin(rest, chose_score, invert=True).sum(), both)
    assert again[1] < len(rest)
    seen = np.union1d(chose_score, chose_temperature)
    assert calibrated(sources.val) == (score, np.isin(images, seen, invert=True).sum(), both)
    other = "msp" if score != "msp" else "nan"
    assert calibrated(sources.val, "--score", other)[2] == both
    assert calibrated(sources.val, "--score", score, "--temperature", "1") == (score, 120, set())


def test_a_temperature_that_detectors_hold_was_chosen_still(exported_copy: Path, sources: Sources) -> None:
    call(main, exported_copy, sources.val, "--temperature", "auto", "--aux", sources.noise)
    call(fit, exported_copy, sources.train, "--detectors", "react")
    call(main, exported_copy, sources.val, "--score", "react", "--temperature", "1")
    manifest = Bundle.load(exported_copy).manifest
    assert manifest.gate is not None
    assert manifest.gate.n_calibration == len(split(120)[1])
    assert {role for role in manifest.data if role.startswith("temperature")} == {
        "temperature",
        "temperature, noise.npz",
    }


def test_copies_among_the_images_are_said(exported_copy: Path, sources: Sources, tmp_path: Path) -> None:
    images = data.load(str(sources.val), Bundle.load(exported_copy).manifest.input).images[:]
    np.savez(tmp_path / "copied.npz", images=np.concatenate([images, images[:40]]))
    output = call(main, exported_copy, tmp_path / "copied.npz")
    assert f"copied.npz: 40 of {len(images) + 40} images repeat another, pixel by pixel" in output
    assert "repeat another" not in call(main, exported_copy, sources.val)


def test_a_temperature_that_is_given_was_not_chosen(exported_copy: Path, sources: Sources) -> None:
    output = call(
        main, exported_copy, sources.val, "--score", "energy", "--temperature", "auto", "--aux", sources.noise
    )
    assert "temperature" in output
    gate = Bundle.load(exported_copy).manifest.gate
    assert gate is not None
    assert gate.choice is not None
    output = call(main, exported_copy, sources.val, "--temperature", "2")
    assert "was chosen with them" not in output
    gate = Bundle.load(exported_copy).manifest.gate
    assert gate is not None
    assert gate.choice is None


def test_images_of_other_classes_calibrate_the_gate_but_no_confidence(exported_copy: Path, sources: Sources) -> None:
    output = call(main, exported_copy, sources.noise)
    assert "warning: the reported confidence is the model's own, for want of labelled images" in output
    assert Bundle.load(exported_copy).manifest.confidence is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--score auto --aux nowhere", "nowhere: no such directory"),
        ("--temperature warm", "--temperature must be positive or auto, found warm"),
        ("--merge sum", "invalid choice: 'sum'"),
        ("--score msp+msp", "merges a score with itself"),
        ("--score msp --merge min", "--merge goes with --score A+B"),
        ("--confidence 0.999", "--confidence goes with --guarantee pac or --max-error"),
    ],
)
def test_wrong_options_of_the_gate(
    exported_copy: Path, sources: Sources, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    assert message in failure(capsys, main, exported_copy, sources.val, *options.split())


# --- other files


def test_other_files_stay_and_engines_go(exported_copy: Path, sources: Sources) -> None:
    (exported_copy / "NOTES.md").write_text("mine")
    (exported_copy / "docs").mkdir()
    (exported_copy / "docs" / "plot.png").write_bytes(b"png")
    loaded, engine = Bundle.load(exported_copy), {"engines/a.engine": entry(b"engine")}
    listed = dataclasses.replace(loaded.manifest, files={**loaded.manifest.files, **engine})
    update(loaded, listed, {"engines/a.engine": b"engine"})
    output = call(main, exported_copy, sources.val)
    names = {name for name in contents(exported_copy) if not name.startswith("golden/")}
    assert names == {"manifest.json", "model.onnx", "pipeline.onnx", "card.md", "NOTES.md", "docs/plot.png"}
    assert (exported_copy / "NOTES.md").read_text() == "mine"
    assert "dropped, as made for the gate before: engines/a.engine, evaluation.json, histogram.png" in output


def test_the_same_gate_again_leaves_all_as_it_is(exported_copy: Path, sources: Sources) -> None:
    """Its evaluation, and engines built from its graph."""
    loaded, engine = Bundle.load(exported_copy), {"engines/a.engine": entry(b"engine")}
    listed = dataclasses.replace(loaded.manifest, files={**loaded.manifest.files, **engine})
    update(loaded, listed, {"engines/a.engine": b"engine"})
    before = contents(exported_copy)
    assert before.keys() >= {"engines/a.engine", "evaluation.json", "histogram.png", GOLDEN}
    for options in (("--alpha", "0.1"), (f"{sources.val}@1/2",)):
        assert "dropped" not in call(main, exported_copy, *options)
        assert contents(exported_copy) == before
    assert "dropped" in call(main, exported_copy, "--alpha", "0.05")


# --- auto, with detectors that it fits itself


def test_auto_fits_detectors_and_compares_them_and_fusions(exported_copy: Path, sources: Sources) -> None:
    before = Bundle.load(exported_copy).manifest
    call(main, exported_copy, sources.val, "--score", "auto", "--fit", sources.train, "--alpha", "0.1")
    manifest = Bundle.load(exported_copy).manifest
    gate = manifest.gate
    assert gate is not None
    assert gate.choice is not None
    (table, *_) = gate.choice.auroc.values()
    assert {*before.scores, *FITTED, "energy+mahalanobis++, fisher", "gen+nci, min"} <= table.keys()
    kept = set(manifest.scores) - set(before.scores) - {gate.score}
    assert kept <= set(parts(gate.score)) or kept == {gate.score}
    assert manifest.data["fit, auto"].source == "train"


@pytest.mark.parametrize("chosen", ["energy+mahalanobis++, fisher", "max_logit"])
def test_what_is_chosen_is_in_the_file_and_nothing_else(
    exported_copy: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    before = Bundle.load(exported_copy).manifest
    monkeypatch.setattr(choice, "best_score", lambda _: chosen)
    options = ("--score", "auto", "--fit", sources.train, "--aux", sources.noise, "--alpha", "0.1")
    call(main, exported_copy, sources.val, *options)
    loaded = Bundle.load(exported_copy)
    manifest, (score, _, method) = loaded.manifest, chosen.partition(", ")
    assert manifest.gate is not None
    assert manifest.gate.score == score
    assert set(manifest.scores) == {*before.scores, *parts(score), score}
    fitted = set(parts(score)) - set(before.scores)
    assert ("fit, noise.npz" in manifest.data) == bool(fitted)  # which chose settings, whatever score decides later
    assert manifest.provenance.get("detectors", {}).keys() == fitted
    for one in manifest.provenance.get("detectors", {}).values():
        assert one["max_score_difference"] < 1e-4
        assert one.items() >= {"source": "train", "images": 240}.items()
    if method:
        assert manifest.merged[score].method == method
    if "nci" in fitted:
        assert manifest.score_parameters["nci"]["alpha"] >= 0
    Gate.load(exported_copy, threads=1).decide(data.load(str(sources.noise), manifest.input).images[:3])


def test_images_that_auto_fitted_on_do_not_calibrate(
    exported_copy: Path, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, main, exported_copy, sources.val, "--score", "auto", "--fit", sources.val)
    assert "are among those of the fit, auto" in message


def test_fit_without_auto(exported_copy: Path, sources: Sources, capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, main, exported_copy, sources.val, "--score", "energy", "--fit", sources.train)
    assert message == "--fit goes with --score auto; python -m export.fit adds detectors of your choice"


def test_labels_are_not_needed(exported_copy: Path, sources: Sources, tmp_path: Path) -> None:
    """Not for a threshold, nor for those of predicted classes."""
    labelled = data.load(str(sources.val), Bundle.load(exported_copy).manifest.input)
    np.save(tmp_path / "set.npy", labelled.images[:])
    for option in ("--no-class-conditional", "--class-conditional"):
        gates = []
        for source in (sources.val, tmp_path / "set.npy"):
            output = call(main, exported_copy, source, "--alpha", "0.2", option)
            gates.append(Bundle.load(exported_copy).manifest.gate)
        assert gates[0] == gates[1]
        assert output.startswith(f"{tmp_path / 'set.npy'}: 120 images, no labels\n")
        assert "for want of labelled images: set.npy has no labels" in output
    assert Bundle.load(exported_copy).manifest.confidence is None


@pytest.mark.parametrize("names", [("BLUE", "Green", "r e d"), ("0", "1", "2"), ("n3", "n1", "n2"), ("x", "y", "red")])
def test_labels_by_other_names(exported_copy: Path, sources: Sources, tmp_path: Path, names: tuple[str, ...]) -> None:
    """Matched beyond doubt, they calibrate the confidence as the own names do; otherwise not at all, and it is said."""
    spec = Bundle.load(exported_copy).manifest.input
    images = data.load(str(sources.val), spec)
    np.savez(tmp_path / "set.npz", images=images.images, labels=np.array(names)[images.labels])
    (tmp_path / "names.json").write_text('{"n1": "GREEN", "n2": "red", "n3": "blue", "r e d": "red"}')
    call(main, exported_copy, sources.val)
    expected = Bundle.load(exported_copy).manifest.confidence
    output = call(main, exported_copy, tmp_path / "set.npz", "--class-names", tmp_path / "names.json")
    found = Bundle.load(exported_copy).manifest.confidence
    if names == ("x", "y", "red"):
        assert found is None
        assert (
            "its labels are not the model's: x, y, 2 of its 3 classes, are none of the model's 3 beyond doubt" in output
        )
        assert "'x' of set.npz is none of the model's classes" in output
    else:
        assert found == expected
        assert "of its 3 classes matched to the model's labels" in output


def test_columns_are_options(exported_copy: Path, sources: Sources, tmp_path: Path) -> None:
    images = data.load(str(sources.val), Bundle.load(exported_copy).manifest.input)
    lines = ["name,label,kind"]
    for i, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
        (tmp_path / f"{i}.png").write_bytes(encode(image))
        lines.append(f"{i}.png,x,{images.classes[label]}")
    (tmp_path / "set.csv").write_text("\n".join(lines))
    output = call(main, exported_copy, tmp_path / "set.csv", "--label-column", "kind", "--path-column", "name")
    assert "120 images in 3 classes, images = column 'name', labels = column 'kind'\n" in output
    assert "for want of labelled images" not in output
