"""``python -m export.fit``: detectors in a bundle, fitted on what it outputs for training images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from torch import nn

from export.calibrate.__main__ import main as calibrate
from export.checks.examination import examine
from export.classifier import assemble
from export.detectors import DETECTORS
from export.detectors.fitting import fit
from export.detectors.interface import Training
from export.exceptions import ExportError
from export.fit.__main__ import _before, main
from export.from_torch.classifier import TorchClassifier
from export.graph.head import seal
from export.images.leakage import hashes, leaks
from runtime import Gate, bundle
from runtime.bundle import Bundle
from tests.commands import failure
from tests.export.conftest import Sources, call, contents
from tests.export.graph.test_last_layers import Projection
from tests.small import LABELS, SPEC, calibration_images, classifier
from tests.train.sets import colours, noise, write_folder
from train import data


def outputs(path: Path, source: object) -> dict[str, npt.NDArray[np.float32]]:
    """By ONNX Runtime alone: features and accept, and each score by its name."""
    manifest = Bundle.load(path).manifest
    images = data.load(str(source), manifest.input).images
    session = ort.InferenceSession(str(path / "model.onnx"), providers=["CPUExecutionProvider"])
    penultimate, scores, accept = session.run(["penultimate", "scores", "accept"], {"images": images})
    return {"penultimate": penultimate, "accept": accept, **dict(zip(manifest.scores, scores.T, strict=True))}


def test_all_detectors_calibrated_in_the_same_go(exported_copy: Path, sources: Sources) -> None:
    before = Bundle.load(exported_copy).manifest
    options = ("--detectors", "all", "--set", "knn.k=5", "--set", "knn.bank=0.5", "--seed", "3")
    output = call(main, exported_copy, sources.train, *options, "--calibration", f"{sources.val}@1/2")
    gate = Gate.load(exported_copy, threads=1)
    manifest = gate.manifest
    assert manifest.scores == (*before.scores, *DETECTORS)
    assert before.gate is not None
    assert manifest.gate is not None
    assert replace(manifest.gate, calibration=before.gate.calibration) == before.gate
    assert before.gate.calibration.quantiles.items() <= manifest.gate.calibration.quantiles.items()
    assert manifest.score_parameters["nan_knn"] == {"k": 5, "bank": 0.5}
    assert manifest.score_parameters["react"] == {"percentile": 90, "temperature": 1}
    fitted = manifest.provenance["detectors"]
    assert set(fitted) == set(DETECTORS)
    assert {"source": "train", "images": 240, "seed": 3}.items() <= fitted["knn"].items()
    assert set(fitted["gradnorm"]) == {"max_score_difference"}
    assert max(item["max_score_difference"] for item in fitted.values()) < 1e-4
    assert "nan_react_ssd added" in output
    assert "accepted when `energy >=" in output
    decisions = gate.decide(data.load(str(sources.val), manifest.input).images)
    np.testing.assert_array_equal([not d.is_ood for d in decisions], outputs(exported_copy, sources.val)["accept"])
    assert set(decisions[0].scores) == set(manifest.scores)


def test_knn_is_the_distance_to_the_training_images(exported_copy: Path, sources: Sources) -> None:
    call(main, exported_copy, sources.train, "--detectors", "knn", "--set", "knn.k=3")
    bank, queries = (
        normalize(outputs(exported_copy, source)["penultimate"].astype(np.float64))
        for source in (sources.train, sources.noise)
    )
    distances, _ = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(bank).kneighbors(queries)
    np.testing.assert_allclose(outputs(exported_copy, sources.noise)["knn"], -distances[:, -1], rtol=1e-4)


def test_mahalanobis_takes_the_classes_from_the_folders(exported_copy: Path, sources: Sources) -> None:
    """By a loop over the folders. Directions with next to no variance, which only the bundle leaves out, blur it."""
    call(main, exported_copy, sources.train, "--detectors", "mahalanobis")
    spec = Bundle.load(exported_copy).manifest.input
    known, a = data.load(str(sources.train), spec), outputs(exported_copy, sources.train)["penultimate"].astype(float)
    means = [a[known.labels == k].mean(axis=0) for k in range(3)]
    centred = a - np.array(means)[known.labels]
    precision = np.linalg.pinv(centred.T @ centred / len(a), rcond=1e-9, hermitian=True)
    x = outputs(exported_copy, sources.val)
    expected = [-min((q - m) @ precision @ (q - m) for m in means) for q in x["penultimate"].astype(float)]
    found = x["mahalanobis"]
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    assert found[: len(found) // 2].mean() > outputs(exported_copy, sources.noise)["mahalanobis"].mean()


def test_without_calibration_it_rejects_everything_and_says_so(exported_copy: Path, sources: Sources) -> None:
    before = outputs(exported_copy, sources.val)
    output = call(main, exported_copy, sources.train, "--detectors", "react,nan_react")
    assert "Not calibrated: the file rejects everything" in output
    assert "\nthe gate before: --score energy --alpha 0.1; name it again, or --calibration keeps it\n" in output
    manifest = Bundle.load(exported_copy).manifest
    assert manifest.gate is None
    after = outputs(exported_copy, sources.val)
    assert before["accept"].any()
    assert not after["accept"].any()
    for name in ("msp", "energy", "nan", "penultimate"):
        np.testing.assert_array_equal(after[name], before[name])
    kept = {"manifest.json", "model.onnx", "pipeline.onnx", "card.md"}
    assert {file.name for file in exported_copy.iterdir()} == kept


def test_closed_forms_need_no_images(exported_copy: Path, sources: Sources) -> None:
    call(main, exported_copy, "--detectors", "kl_uniform,gradnorm,hidden_confidence")
    manifest = Bundle.load(exported_copy).manifest
    assert manifest.scores[-3:] == ("kl_uniform", "gradnorm", "hidden_confidence")
    assert "source" not in manifest.provenance["detectors"]["gradnorm"]
    assert (outputs(exported_copy, sources.val)["kl_uniform"] >= 0).all()


def test_fitting_again_replaces_and_leaves_the_others(exported_copy: Path, sources: Sources) -> None:
    call(main, exported_copy, sources.train, "--detectors", "react,knn,nan_knn", "--set", "knn.k=3")
    once = outputs(exported_copy, sources.val)
    call(main, exported_copy, sources.train, "--detectors", "knn", "--set", "knn.k=9", "--set", "knn.bank=100")
    again = outputs(exported_copy, sources.val)
    manifest = Bundle.load(exported_copy).manifest
    assert manifest.scores[-3:] == ("react", "nan_knn", "knn")
    assert manifest.score_parameters["knn"] == {"k": 9, "bank": 100}
    assert manifest.score_parameters["nan_knn"]["k"] == 3
    for name in ("react", "nan_knn"):
        np.testing.assert_array_equal(again[name], once[name])
    assert (again["knn"] != once["knn"]).any()
    banks = [list(t.dims) for t in onnx.load(exported_copy / "model.onnx").graph.initializer if t.dims[1:] == [64]]
    assert [240, 64] in banks
    assert [100, 64] in banks
    call(main, exported_copy, sources.train, "--detectors", "nan_knn,knn", "--set", "knn.k=9", "--set", "knn.bank=100")
    graph = onnx.load(exported_copy / "model.onnx").graph
    assert [240, 64] not in [list(tensor.dims) for tensor in graph.initializer]  # nothing needs the old bank any more
    assert len({node.name for node in graph.node}) == len(graph.node)


def test_images_of_every_detector_stay_recorded(exported_copy: Path, sources: Sources, tmp_path: Path) -> None:
    images = data.load(str(sources.train), Bundle.load(exported_copy).manifest.input).images
    first, second = images[:120], images[120:]
    np.savez(tmp_path / "first.npz", images=first, labels=["red"] * len(first))
    np.savez(tmp_path / "second.npz", images=second, labels=["red"] * len(second))
    call(main, exported_copy, tmp_path / "first.npz", "--detectors", "react,ssd,gradnorm")
    call(main, exported_copy, tmp_path / "second.npz", "--detectors", "ssd")
    manifest = Bundle.load(exported_copy).manifest
    recorded = {role: spec.source for role, spec in manifest.data.items() if role.startswith("fit")}
    assert recorded == {"fit, react": "first.npz", "fit, ssd": "second.npz"}
    assert list(leaks(manifest, hashes(first))) == ["fit, react"]


def test_merged_scores_leave_with_the_calibration(exported_copy: Path, sources: Sources) -> None:
    """The p-values of a merged score are those of its parts as they were."""
    call(calibrate, exported_copy, sources.val, "--score", "energy+nan")
    call(main, exported_copy, "--detectors", "gradnorm")
    manifest = Bundle.load(exported_copy).manifest
    assert not manifest.merged
    assert manifest.scores[-2:] == ("feature_norm", "gradnorm")


def test_the_same_fit_twice_is_the_same_file(exported_copy: Path, sources: Sources, tmp_path: Path) -> None:
    for name in ("first", "second"):
        call(main, exported_copy, sources.train, "--detectors", "knn,ssd", "--set", "knn.bank=0.3", "--out", tmp_path / name,
             "--set", "knn.k=3", "--set", "ssd.clusters=3")  # fmt: skip
    first, second = (Bundle.load(tmp_path / name) for name in ("first", "second"))
    assert first.manifest == second.manifest
    assert first.model == second.model


def test_out_leaves_the_bundle_as_it_was(exported_copy: Path, tmp_path: Path) -> None:
    before = contents(exported_copy)
    call(main, exported_copy, "--detectors", "kl_uniform", "--out", tmp_path / "other")
    assert contents(exported_copy) == before
    assert Bundle.load(tmp_path / "other").manifest.scores[-1] == "kl_uniform"


def test_react_and_dice_take_the_temperature_of_the_energy(tmp_path: Path) -> None:
    path, source = tmp_path / "b", tmp_path / "train.npz"
    model, manifest = assemble(classifier(), "small", {"energy": {"temperature": 0.5}})
    bundle.write(path, manifest, {bundle.MODEL: seal(model, manifest)}, {})
    np.savez(source, images=calibration_images(90), labels=np.array(LABELS)[np.arange(90) % 3])
    call(main, path, source, "--detectors", "react,dice", "--set", "dice.temperature=2")
    parameters = Bundle.load(path).manifest.score_parameters
    assert (parameters["react"]["temperature"], parameters["dice"]["temperature"]) == (0.5, 2)


def test_a_projection_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = Projection().eval()
    model, manifest = assemble(TorchClassifier("head", "none", "multiclass", LABELS, SPEC, module), "head", {})
    path = bundle.write(tmp_path / "head", manifest, {bundle.MODEL: seal(model, manifest)}, {}).path
    np.savez(tmp_path / "train.npz", images=calibration_images(90), labels=np.array(LABELS)[np.arange(90) % 3])
    source = tmp_path / "train.npz"
    message = failure(capsys, main, path, source, "--detectors", "react,vim")
    assert "vim: the logits are not a plain linear layer of the penultimate activations" in message
    names = "react,nan_react_knn,mahalanobis,kl_uniform"
    call(main, path, source, "--detectors", names, "--set", "knn.k=2")
    call(main, path, source, "--detectors", "all", "--set", "knn.k=2")
    manifest = Bundle.load(path).manifest
    assert manifest.scores[6:] == tuple(name for name, kind in DETECTORS.items() if not kind.linear)
    differences = {name: own["max_score_difference"] for name, own in manifest.provenance["detectors"].items()}
    assert {name: found for name, found in differences.items() if not found < 1e-4} == {}


class AnothersPair(nn.Module):
    """Its second output is what another head reads: the logits are no function of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.logits, self.other = nn.Linear(8, len(LABELS)), nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.trunk(x)
        return self.logits(h), torch.relu(self.other(h))


def test_another_heads_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What needs the last layers is refused by name, and nothing else; what looks at activations decides only if named."""
    pair = TorchClassifier("pair", "none", "multiclass", LABELS, SPEC, AnothersPair().eval())
    model, manifest = assemble(examine(pair, calibration_images(64)), "pair", {})
    path = bundle.write(tmp_path / "pair", manifest, {bundle.MODEL: seal(model, manifest)}, {}).path
    np.savez(tmp_path / "train.npz", images=calibration_images(90), labels=np.array(LABELS)[np.arange(90) % 3])
    source = tmp_path / "train.npz"
    needing = {"react", "vra", "ash-b", "ash-s", "scale", "dice", "vim", "nci", "fdbd", "gradnorm", "hidden_confidence"}
    for name in sorted(needing):
        message = failure(capsys, main, path, source, "--detectors", name)
        assert message.startswith(f"{name}: it needs the last layers, and the logits are no function of"), message
    np.savez(tmp_path / "val.npz", images=calibration_images(120, seed=5))
    for option in ("--score nan", "--score msp+nan", "--max-error 0.5 --select feature_norm"):
        message = failure(capsys, calibrate, path, tmp_path / "val.npz", "--alpha", "0.2", *option.split())
        assert "unknown score" in message
        assert "there are msp, max_logit, energy, joint_energy, and" in message
    call(calibrate, path, tmp_path / "val.npz", "--score", "auto", "--fit", source, "--alpha", "0.2")
    gate = Bundle.load(path).manifest.gate
    assert gate is not None
    assert gate.choice is not None
    expected = ["msp", "max_logit", "energy", "joint_energy", "kl_uniform", "gen"]
    assert [list(table) for table in gate.choice.auroc.values()] == [expected] * len(gate.choice.auroc)
    assert "warning" not in call(main, path, "--detectors", "gen")
    output = call(main, path, source, "--detectors", "all", "--set", "knn.k=2")
    assert "\nwarning: " in output
    assert "the penultimate activations are not what the logits are made of" in output
    fitted = set(Bundle.load(path).manifest.scores) & set(DETECTORS)
    assert {"mahalanobis", "mahalanobis++", "knn", "ssd", "kl_uniform", "gen", "klm", "she"} <= fitted
    assert not needing & fitted
    for name in DETECTORS.keys() - fitted:
        assert f"left out: {name}: " in output


def test_how_the_score_was_chosen_stays_said(exported_copy: Path, sources: Sources) -> None:
    call(calibrate, exported_copy, sources.val, "--score", "auto", "--aux", sources.noise)
    before = Bundle.load(exported_copy).manifest.gate
    call(main, exported_copy, "--detectors", "gen", "--calibration", sources.val)
    after = Bundle.load(exported_copy).manifest.gate
    assert before is not None
    assert after is not None
    assert (after.score, after.choice) == (before.score, before.choice)
    assert before.choice is not None


def test_but_not_of_a_detector_that_is_fitted_anew(exported_copy: Path, sources: Sources) -> None:
    call(calibrate, exported_copy, sources.val, "--score", "auto", "--aux", sources.noise)
    loaded = Bundle.load(exported_copy)
    assert loaded.manifest.gate is not None
    assert _before(loaded.manifest, {"gen"}) == loaded.manifest
    gate = _before(loaded.manifest, {loaded.manifest.gate.score}).gate
    assert gate is not None
    assert gate.choice is None


def test_a_seed_that_is_none(exported_copy: Path, sources: Sources, capsys: pytest.CaptureFixture[str]) -> None:
    given = (exported_copy, sources.train, "--detectors", "knn", "--seed", "-1")
    assert "--seed -1: it must be at least 0" in failure(capsys, main, *given)


def test_several_labels_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What takes an image to have one label is refused by name; the Gaussians are one a label."""
    several = classifier()
    model, manifest = assemble(replace(several, task="multilabel"), "several", {})
    path = bundle.write(tmp_path / "several", manifest, {bundle.MODEL: seal(model, manifest)}, {}).path
    hot = np.random.default_rng(0).random((90, len(LABELS))) < 0.5
    data_set = data.ImageSet(calibration_images(90), hot, LABELS, tuple(f"{i:03}.png" for i in range(90)))
    source = write_folder(tmp_path / "train", data_set)
    single = [name for name, kind in DETECTORS.items() if kind.of_one_label]
    assert single == ["kl_uniform", "gradnorm", "gen", "klm", "nci", "fdbd", "she"]
    for name in single:
        message = failure(capsys, main, path, source, "--detectors", name)
        assert message.startswith(
            f"{name}: it takes an image to have exactly one label, and this model gives any number;"
        )
        with pytest.raises(ExportError, match=f"{name}: it takes an image to have exactly one label"):
            fit([name], Training(np.zeros((90, 3), np.float32), np.ones((90, 4), np.float32), hot, None))
    np.savez(tmp_path / "one.npz", images=calibration_images(90), labels=np.array(LABELS)[np.arange(90) % 3])
    message = failure(capsys, main, path, tmp_path / "one.npz", "--detectors", "mahalanobis")
    assert "mahalanobis needs any number of labels an image, as the model gives, and the images of" in message
    call(main, path, source, "--detectors", "all", "--set", "knn.k=2", "--set", "nnguide.k=2")
    found = outputs(path, source)
    assert not set(single) & set(found)
    features = found["penultimate"].astype(np.float64)
    of_label = [features[hot[:, k]] for k in range(len(LABELS))]
    within = EmpiricalCovariance(assume_centered=True)
    within.fit(np.concatenate([each - each.mean(axis=0) for each in of_label]))
    expected = -np.stack([within.mahalanobis(features - each.mean(axis=0)) for each in of_label]).min(axis=0)
    np.testing.assert_allclose(found["mahalanobis"], expected, rtol=1e-3)


def test_features_behind_a_layer_norm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """About half of their magnitude is negative."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, len(LABELS))
    )
    classifier = TorchClassifier("signed", "none", "multiclass", LABELS, SPEC, network.eval())
    model, manifest = assemble(classifier, "signed", {})
    path = bundle.write(tmp_path / "signed", manifest, {bundle.MODEL: seal(model, manifest)}, {}).path
    np.savez(tmp_path / "train.npz", images=calibration_images(90), labels=np.array(LABELS)[np.arange(90) % 3])
    source = tmp_path / "train.npz"
    for name in ("scale", "ash-b", "ash-s"):
        message = failure(capsys, main, path, source, "--detectors", name)
        assert message.startswith(
            f"{name}: is meaningless here: it takes features to be at least 0, as behind a ReLU, and "
        )
    output = call(main, path, source, "--detectors", "react,mahalanobis++,vra")
    assert "warning: react is weaker here: " in output
    assert "; vra is weaker here: " in output
    assert "mahalanobis++ is" not in output
    output = call(main, path, source, "--detectors", "all", "--set", "knn.k=2")
    assert output.count("left out: ") >= 3
    assert not {"scale", "ash-b", "ash-s"} & set(Bundle.load(path).manifest.scores)
    call(calibrate, path, source, "--score", "auto", "--fit", source, "--alpha", "0.2", "--allow-leakage")
    gate = Bundle.load(path).manifest.gate
    assert gate is not None
    assert gate.choice is not None
    assert not {"scale", "ash-s", "ash-b"} & gate.choice.auroc["jigsaw"].keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--detectors odin", "unknown detector 'odin'; choose from kl_uniform, gradnorm, "),
        ("--detectors knn,", "unknown detector ''"),
        ("--detectors knn,react,knn", "--detectors names knn twice"),
        ("--detectors knn --set knn.k", "--set knn.k: expected DETECTOR.SETTING=VALUE; defaults: "),
        ("--detectors knn --set k=5", "--set k=5: expected DETECTOR.SETTING=VALUE"),
        ("--detectors knn --set nan_knn.k=5", "--set nan_knn.k=5: expected DETECTOR.SETTING=VALUE"),
        (
            "--detectors nan_knn --set react.percentile=95",
            "nothing that is fitted looks at it; add react to --detectors",
        ),
        ("--detectors knn --set knn.k=few", "--set knn.k=few: invalid literal for int()"),
        ("--detectors knn --set knn.k=0", "--set knn.k=0: k must be from 1 to 3840"),
        ("--detectors react --set react.percentile=nan", "percentile must be above 0"),
        ("--detectors knn", "knn: knn.k=50 neighbours in a bank of 20 of 20 training images"),
        ("--detectors nan_knn --set knn.k=3 --set knn.bank=30", "nan_knn: knn.k=3 neighbours in a bank of 30 of 20"),
        ("--detectors mahalanobis", "class 'pink' is not one of the model's"),
        (
            "--detectors vra --set vra.high=30",
            "no setting that is tried fits the one that is given; give both by --set",
        ),
        (
            "--detectors gradnorm --aux train.npz",
            "--aux chooses settings that are auto, and there are none among these",
        ),
    ],
)
def test_wrong_options_leave_the_bundle_as_it_was(
    exported_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    before = contents(exported_copy)
    np.savez(tmp_path / "train.npz", images=noise(20), labels=["pink"] * 20)
    assert message in failure(capsys, main, exported_copy, tmp_path / "train.npz", *options.split())
    assert contents(exported_copy) == before


def test_no_source_where_one_is_needed(exported_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, main, exported_copy, "--detectors", "gradnorm,ssd")
    assert message == "ssd is fitted: give training images, SOURCE"


def test_an_empty_directory(exported_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    message = failure(capsys, main, exported_copy, tmp_path / "empty", "--detectors", "ssd")
    assert f"{tmp_path / 'empty'}: no images" in message


def test_fewer_images_than_neighbours(exported_copy: Path, tmp_path: Path) -> None:
    few = colours(40)
    write_folder(tmp_path / "few", data.ImageSet(few.images[:40], few.labels[:40], few.classes, few.names[:40]))
    output = call(main, exported_copy, tmp_path / "few", "--detectors", "all")
    assert "left out: knn: knn.k=50 neighbours in a bank of 40 of 40 training images: choose k <= bank" in output
    assert {"mahalanobis", "ssd"} <= {*Bundle.load(exported_copy).manifest.scores}


def test_one_class(exported_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = colours(60)
    write_folder(tmp_path / "red", data.ImageSet(full.images[-20:], full.labels[-20:], full.classes, full.names[-20:]))
    output = call(main, exported_copy, tmp_path / "red", "--detectors", "all", "--set", "knn.k=5")
    assert "left out: rmds: of images of one class alone" in output
    found = outputs(exported_copy, tmp_path / "red")
    assert all(np.isfinite(found[name]).all() for name in DETECTORS.keys() - {"rmds", "rmds++"})
    message = failure(capsys, main, exported_copy, tmp_path / "red", "--detectors", "rmds")
    assert message.startswith("rmds: of images of one class alone")


def test_features_that_are_not_finite(
    exported_copy: Path, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bank would have NaN in it."""
    loaded = Bundle.load(exported_copy)
    model = onnx.load_from_string(loaded.model)
    scale = next(t for t in model.graph.initializer if t.name.endswith("normalize.scale"))
    scale.CopyFrom(onnx.numpy_helper.from_array(np.full(3, np.inf, np.float32), scale.name))
    bundle.write(exported_copy, loaded.manifest, {bundle.MODEL: seal(model, loaded.manifest)}, {})
    message = failure(capsys, main, exported_copy, sources.train, "--detectors", "knn")
    assert (
        "240 of 240 training images have features that are not finite, such as blue/0000.png; the model is unusable"
        in message
    )
