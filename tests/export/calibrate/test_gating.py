"""Fitting a gate to an exported file: what is chosen on which images, and what the file then computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from export.calibrate import gating, selecting
from export.calibrate.gating import Gated, fit_gate, split
from export.calibrate.options import GateOptions
from export.detectors.base import BASE, Energy
from export.detectors.combined.merged import merge
from export.exceptions import ExportError
from export.graph.head import seal
from export.images.outliers import KINDS
from export.report.card import card
from runtime.bundle import Bundle
from runtime.engines.interface import Outputs
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import CalibrationError
from runtime.manifest import Confidence, Manifest
from tests.small import LABELS, SPEC, calibration_images
from train.data import SelectedImages, load

N = 200


@dataclass
class Fitted:
    """A gate, its sealed file, and that file's outputs for all calibration images."""

    gated: Gated
    model: onnx.ModelProto
    engine: OnnxRuntimeCpu

    @property
    def manifest(self) -> Manifest:
        return self.gated.manifest

    def scores(self, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        found = self.engine.run(images).scores
        return {name: found[:, i] for i, name in enumerate(self.manifest.scores)}


@pytest.fixture(scope="module")
def source(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Images labelled as the network predicts them, but for every fifth."""
    images = calibration_images(N, seed=4)
    predicted = OnnxRuntimeCpu(shared_bundle.model, threads=1).run(images).logits.argmax(axis=1)
    predicted[::5] = (predicted[::5] + 1) % len(LABELS)
    return write(tmp_path_factory.mktemp("gating") / "id.npz", images, np.array(LABELS)[predicted])


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory) -> str:
    images = np.random.default_rng(0).integers(0, 20, (30, 16, 16, 3), dtype=np.uint8)
    return write(tmp_path_factory.mktemp("gating") / "dark.npz", images, np.zeros(30))


def write(path: Path, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.generic]) -> str:
    np.savez(path, images=images, labels=labels)
    return str(path)


def fit(bundle: Bundle, source: str, options: GateOptions) -> Fitted:
    model = onnx.load_from_string(bundle.model)
    gated = fit_gate(model, bundle.manifest, source, options, threads=1)
    sealed = seal(model, gated.manifest)
    onnx.checker.check_model(model, full_check=True)
    engine = OnnxRuntimeCpu(sealed, threads=1)
    replace(bundle, manifest=gated.manifest).check_graph(engine.signature)
    return Fitted(gated, model, engine)


def rows(images: npt.NDArray[np.uint8]) -> set[bytes]:
    return {image.tobytes() for image in images}


def check_threshold(fitted: Fitted) -> None:
    """The threshold is the order statistic of the sealed file's own scores, on the calibrating images alone."""
    gate = fitted.manifest.gate
    assert gate is not None
    own = np.sort(fitted.scores(fitted.gated.images[:])[gate.score])
    assert gate.n_calibration == len(own)
    k = int(gate.alpha * (len(own) + 1) + 1e-9)
    assert np.float32(gate.threshold) == pytest.approx(own[k - 1], rel=2e-6)


# --- the two parts


@pytest.mark.parametrize(("n", "held"), [(200, 50), (7, 1), (2, 1), (1, 1)])
def test_the_parts_are_a_quarter_and_the_rest(n: int, held: int) -> None:
    first, rest = split(n)
    assert len(first) == held
    assert sorted([*first, *rest]) == list(range(n))


def test_the_parts_are_the_same_each_time_and_random() -> None:
    first, again, other = split(200)[0], split(200)[0], split(200, seed=1)[0]
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)
    assert set(first) != set(range(50))


def test_a_part_is_read_in_slices() -> None:
    images = calibration_images(9)
    part = SelectedImages(images, np.array([7, 2, 5]))
    assert len(part) == 3
    np.testing.assert_array_equal(part[1:9], images[[2, 5]])


# --- what is fitted


def test_a_given_score_takes_all_images(shared_bundle: Bundle, source: str) -> None:
    fitted = fit(shared_bundle, source, GateOptions("nan", 0.1))
    gate = fitted.manifest.gate
    assert gate is not None
    assert (gate.score, gate.n_calibration, gate.choice, gate.class_conditional) == ("nan", N, None, False)
    assert gate.alphas == (0.01, 0.05, 0.1)
    check_threshold(fitted)


def test_auto_takes_the_best_score_of_the_table(shared_bundle: Bundle, source: str) -> None:
    fitted = fit(shared_bundle, source, GateOptions("auto", 0.1))
    gate = fitted.manifest.gate
    assert gate is not None
    assert gate.choice is not None
    assert (gate.choice.n, gate.n_calibration) == (50, 150)
    assert gate.choice.outliers == dict.fromkeys(KINDS, 50)
    means = {
        name: np.mean([table[name] for table in gate.choice.auroc.values()]) for name in gate.choice.auroc["permuted"]
    }
    pairs = {f"{a}+nan, {method}" for a in ("energy",) for method in ("min", "harmonic", "fisher")}
    assert means.keys() == {*shared_bundle.manifest.scores, *pairs}
    merged = fitted.manifest.merged.get(gate.score)
    chosen = f"{gate.score}, {merged.method}" if merged else gate.score
    assert chosen == max(means, key=lambda name: means[name])
    temperature = fitted.manifest.score_parameters["energy"]["temperature"]
    best = max(gate.choice.temperatures.values())
    even = [float(name) for name, value in gate.choice.temperatures.items() if value >= best - 1e-3]
    assert temperature == min(even, key=lambda each: abs(np.log(each)))
    assert means["energy"] == pytest.approx(gate.choice.temperatures[f"{temperature:g}"])
    check_threshold(fitted)


def test_the_images_that_choose_do_not_calibrate(
    shared_bundle: Bundle, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[bytes]] = {}
    run = gating._run

    def spy(model: onnx.ModelProto, images: npt.NDArray[np.uint8], threads: int, title: str, **options: bool) -> object:
        seen[title] = rows(images[:])
        return run(model, images, threads, title, **options)

    monkeypatch.setattr(gating, "_run", spy)
    fit(shared_bundle, source, GateOptions("msp+nan", 0.1, temperature="auto"))
    assert {"choose", "p-values", "calibrate", *KINDS} <= seen.keys()
    assert seen["choose"] == seen["p-values"]
    assert seen["choose"].isdisjoint(seen["calibrate"])
    assert len(seen["choose"]) + len(seen["calibrate"]) == N


def test_auto_by_auxiliary_outliers(shared_bundle: Bundle, source: str, dark: str) -> None:
    options = GateOptions("auto", 0.1, temperature=0.5, aux=(dark,))
    fitted = fit(shared_bundle, source, options)
    gate = fitted.manifest.gate
    assert gate is not None
    assert gate.choice is not None
    assert gate.choice.outliers == {"dark.npz": 30}
    assert gate.choice.temperatures == {}
    assert fitted.manifest.score_parameters["energy"]["temperature"] == 0.5
    images = load(source, SPEC).images
    held, _ = split(len(images))
    for name, auroc in gate.choice.auroc["dark.npz"].items():
        if name not in shared_bundle.manifest.scores:
            continue
        known, outliers = (fitted.scores(part)[name] for part in (images[held], load(dark, SPEC).images))
        pairs = (known[:, None] > outliers).mean() + (known[:, None] == outliers).mean() / 2
        assert auroc == pytest.approx(pairs, abs=0.002)


def test_a_large_set_of_outliers_is_thinned(
    shared_bundle: Bundle, source: str, dark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selecting, "MAX_OUTLIERS", 12)
    gate = fit(shared_bundle, source, GateOptions("auto", 0.1, aux=(dark,))).manifest.gate
    assert gate is not None
    assert gate.choice is not None
    assert gate.choice.outliers == {"dark.npz": 12}


def test_the_same_set_of_outliers_twice(shared_bundle: Bundle, source: str, dark: str) -> None:
    with pytest.raises(ExportError, match=r"a set of the name dark\.npz is given twice"):
        fit(shared_bundle, source, GateOptions("auto", 0.1, aux=(dark, dark)))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_a_given_temperature_is_in_the_file(shared_bundle: Bundle, source: str, temperature: float) -> None:
    fitted = fit(shared_bundle, source, GateOptions("energy", 0.1, temperature=temperature))
    outputs = fitted.engine.run(fitted.gated.images[:], penultimate=True)
    assert outputs.penultimate is not None
    reference = Energy(temperature).reference(outputs.logits, outputs.penultimate)
    np.testing.assert_allclose(fitted.scores(fitted.gated.images[:])["energy"], reference, rtol=1e-5, atol=1e-7)
    assert fitted.manifest.score_parameters["energy"]["temperature"] == temperature
    check_threshold(fitted)


def test_a_merged_score_is_one_more_column(shared_bundle: Bundle, source: str) -> None:
    fitted = fit(shared_bundle, source, GateOptions("msp+nan", 0.1, merge="harmonic", class_conditional=True))
    manifest = fitted.manifest
    assert manifest.scores == (*shared_bundle.manifest.scores, "msp+nan")
    assert manifest.merged["msp+nan"].n == 50
    found = fitted.scores(fitted.gated.images[:])
    np.testing.assert_allclose(found["msp+nan"], merge(found, manifest.merged["msp+nan"]), rtol=1e-5)
    check_threshold(fitted)


def test_a_merged_score_of_before_goes(shared_bundle: Bundle, source: str) -> None:
    before = fit(shared_bundle, source, GateOptions("msp+nan", 0.1))
    bundle = replace(shared_bundle, manifest=before.manifest, model=before.model.SerializeToString())
    again = fit(bundle, source, GateOptions("msp+nan", 0.1))
    assert again.manifest == before.manifest
    assert len(again.model.graph.node) == len(before.model.graph.node)
    after = fit(bundle, source, GateOptions("nan", 0.1))
    assert (after.manifest.scores, after.manifest.merged) == (shared_bundle.manifest.scores, {})
    assert len(after.model.graph.node) == len(onnx.load_from_string(shared_bundle.model).graph.node)


def test_thresholds_by_predicted_class(shared_bundle: Bundle, source: str) -> None:
    fitted = fit(shared_bundle, source, GateOptions("energy", 0.1, class_conditional=True))
    gate, images = fitted.manifest.gate, load(source, SPEC).images
    assert gate is not None
    assert gate.classes
    outputs = fitted.engine.run(images)
    own, classes = fitted.scores(images)["energy"], outputs.logits.argmax(axis=1)
    for index, label in enumerate(LABELS):
        members = np.sort(own[classes == index])
        if len(members) < 9:
            assert label not in gate.classes
            continue
        k = int(0.1 * (len(members) + 1) + 1e-9)
        assert gate.classes[label].n == len(members)
        assert gate.classes[label].threshold == pytest.approx(members[k - 1], rel=2e-6)
        np.testing.assert_array_equal(outputs.accept[classes == index], own[classes == index] >= members[k - 1])


# --- scores that are alike


def of_scores(nan: npt.NDArray[np.float64], norm: npt.NDArray[np.float64]) -> Outputs:
    scores = np.zeros((len(nan), len(BASE)), np.float32)
    scores[:, list(BASE).index("nan")], scores[:, list(BASE).index("feature_norm")] = nan, norm
    return Outputs(np.zeros((len(nan), 3), np.float32), scores)


@pytest.mark.parametrize(
    ("active", "said"),
    [(1.0, True), (0.99, True), (0.5, False)],
    ids=["all units", "nearly all", "half of them"],
)
def test_nan_that_is_feature_norm_is_said(
    active: float, said: bool, shared_bundle: Bundle, rng: np.random.Generator
) -> None:
    """The norm over the number of active units, of 64."""
    norm = rng.gamma(9, 1, 500)
    units = rng.binomial(64, active, 500) if active < 0.9 else np.full(500, round(64 * active))
    note = gating._note(shared_bundle.manifest, of_scores(norm / units, norm))
    assert (note is not None) == said
    if note:
        assert "nan says no more than feature_norm does of these images (correlation 1.00000)" in note


def test_scores_that_do_not_vary_are_not_alike(shared_bundle: Bundle) -> None:
    assert gating._note(shared_bundle.manifest, of_scores(np.ones(9), np.ones(9))) is None


@pytest.mark.parametrize(("score", "share", "said"), [("nan", 0.5, True), ("msp+nan", 0.5, True), ("nan", 0.0, False)])
def test_a_score_that_takes_features_to_be_positive_says_so_where_they_are_not(
    shared_bundle: Bundle, source: str, monkeypatch: pytest.MonkeyPatch, score: str, share: float, said: bool
) -> None:
    monkeypatch.setattr(gating, "negative_share", lambda _: share)
    warning = fit(shared_bundle, source, GateOptions(score, 0.1)).gated.warning or ""
    assert ("nan is weaker here: it takes features to be at least 0" in warning) == said


# --- the reported confidence


def test_the_confidence_is_fitted_on_the_calibrating_images(shared_bundle: Bundle, source: str) -> None:
    fitted = fit(shared_bundle, source, GateOptions("msp+nan", 0.1))
    assert fitted.gated.warning is None
    assert fitted.manifest.confidence is not None
    assert fitted.manifest.confidence.n == 150


def test_a_temperature_that_does_not_help_is_said(
    shared_bundle: Bundle, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gating.confidence, "choose", lambda *_: Confidence(1.0, 200, 0.05, 0.05, held_out=True))
    gated = fit(shared_bundle, source, GateOptions("energy")).gated
    assert gated.manifest.confidence is not None
    assert gated.warning is not None
    assert "a temperature makes it no better on images that did not set it" in gated.warning


def test_one_label_an_image_sets_no_temperature_of_a_model_of_several(shared_bundle: Bundle, source: str) -> None:
    """What is not said of an image would count as absent."""
    several = replace(shared_bundle, manifest=replace(shared_bundle.manifest, task="multilabel"))
    gated = fit(several, source, GateOptions("joint_energy", 0.1)).gated
    assert gated.manifest.confidence is None
    assert gated.warning is not None
    assert "has one label an image, which says nothing of the others" in gated.warning


def test_images_of_other_classes_leave_the_confidence_as_it_is(shared_bundle: Bundle, dark: str) -> None:
    fitted = fit(shared_bundle, dark, GateOptions("energy", 0.1))
    assert fitted.manifest.confidence is None
    assert "for want of labelled images" in (fitted.gated.warning or "")


# --- what can't be fitted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (GateOptions("energy", 0.001), "200 calibration images are too few for alpha = 0.001: at least 999"),
        (GateOptions("auto", 0.006), "150 calibration images are too few for alpha = 0.006: at least 166"),
        (GateOptions("msp+nan", 0.006), "150 calibration images are too few"),
    ],
    ids=str,
)
def test_too_few_images(shared_bundle: Bundle, source: str, options: GateOptions, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        fit(shared_bundle, source, options)


def test_images_that_are_nearly_all_the_same(shared_bundle: Bundle, tmp_path: Path) -> None:
    """Scores are constant but for one: a threshold that rejects nothing else, and curves of one knot."""
    images = np.repeat(calibration_images(1), 40, axis=0)
    images[split(40)[1][0]] = calibration_images(2)[1]
    same = write(tmp_path / "same.npz", images, np.full(40, "cat"))
    for options in (GateOptions("auto", 0.1), GateOptions("msp+nan", 0.1, class_conditional=True)):
        fitted = fit(shared_bundle, same, options)
        assert fitted.engine.run(images[split(40)[0]]).accept.all()
        assert "only 2 of 40 calibration images looked at are different ones" in str(fitted.gated.warning)
    write(tmp_path / "same.npz", images[split(40)[0]], np.full(10, "cat"))
    with pytest.raises(ExportError, match=r"same\.npz: 10 images and all of them the same"):
        fit(shared_bundle, same, GateOptions("energy", 0.1))


def test_what_is_unusual_in_the_images_is_that_of_the_last(shared_bundle: Bundle, source: str, tmp_path: Path) -> None:
    grey = np.repeat(calibration_images(50, seed=6).mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8)
    flat = write(tmp_path / "grey.npz", grey, np.full(50, "cat"))
    gated = fit(shared_bundle, flat, GateOptions("energy", 0.1)).gated
    (remark,) = gated.manifest.provenance["gate"]["warnings"]
    assert remark == "all 50 calibration images looked at are grey: a colour image may then be rejected for its colour"
    assert remark in str(gated.warning)
    assert f"- warning: {remark}" in card(gated.manifest).partition("## Gate")[2].splitlines()
    again = fit(replace(shared_bundle, manifest=gated.manifest), source, GateOptions("energy", 0.1)).gated
    assert "gate" not in again.manifest.provenance
    assert "grey" not in card(again.manifest) + str(again.warning)


def test_a_model_that_is_not_finite_calibrates_nothing(
    shared_bundle: Bundle, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = gating._run

    def broken(*args: object, **options: object) -> object:
        outputs = run(*args, **options)  # type: ignore[arg-type]
        outputs.scores[3, 1] = np.nan
        return outputs

    monkeypatch.setattr(gating, "_run", broken)
    for score in ("energy", "auto", "msp+max_logit"):
        with pytest.raises(CalibrationError, match="not finite"):
            fit(shared_bundle, source, GateOptions(score, 0.1))
