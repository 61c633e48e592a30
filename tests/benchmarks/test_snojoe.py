"""SNoJoE on photographs: what is done to a network without training it, the intervals, and the page."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp
from torch import nn

from benchmarks.snojoe import networks, report, training
from benchmarks.snojoe.__main__ import main
from benchmarks.snojoe.measuring import OOD, figures, scores
from benchmarks.snojoe.networks import Backbone, Features, Network, Upper
from benchmarks.snojoe.report import PAPER, _drawn, _figure, compare, page, stored, student
from benchmarks.snojoe.training import Variant, choose, prepared, upper_tuned
from export.metrics.detection import detection
from tests.train.sets import coloured, write_folder
from train import models

EPSILON = 1e-12
SETTINGS = {"epochs": 1, "learning_rate": 1e-3, "backbone_rate": 0.1, "seed": 0}


def small() -> Features:
    torch.manual_seed(0)
    sizes = [(3, 6), (6, 8), (8, 5)]
    stages = [
        nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b, eps=EPSILON), nn.ReLU()) for a, b in sizes
    ]
    network = Features(nn.Sequential(*stages), 2)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -1, 1)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.normal_(layer.bias)
    return network


@pytest.fixture(autouse=True)
def backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESAMPLES", 40)
    monkeypatch.setitem(networks.BACKBONES, "small", Backbone("Small", small, 5, (0.5,) * 3, (0.5,) * 3))


@pytest.mark.parametrize("norm", ["matrix", "operator"])
def test_statistics_that_are_divided_too_undo_the_normalisation(norm: str) -> None:
    x = torch.rand(4, 3, 128, 128)
    plain = prepared("small", Variant(), 2).features.eval()(x)
    options = {"stages": 3, "norm": norm}
    divided = prepared("small", Variant(options, "divided"), 2)
    kept = prepared("small", Variant(options, "kept"), 2)
    torch.testing.assert_close(divided.features.eval()(x), plain, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(kept.features.eval()(x), plain, rtol=0.1)
    for each in (divided, kept):
        convolution = each.features.stages[1][0]
        found = torch.linalg.svdvals(convolution.weight.detach().flatten(1))[0].item()
        assert found == pytest.approx(1, abs=1e-3) if norm == "matrix" else found < 1.05


def test_the_upper_part_is_that_of_the_network() -> None:
    network, x = Network(networks.BACKBONES["small"], 4).eval(), torch.rand(2, 3, 64, 64)
    for mine, whole in zip(Upper(network)(network.features.lower(x)), network(x), strict=True):
        torch.testing.assert_close(mine, whole)


@pytest.mark.parametrize("options", [None, {"norm": "operator", "coefficient": 0.5, "batch_norm": 1.0}])
def test_only_the_upper_part_is_trained(options: dict[str, float | str] | None) -> None:
    network = Network(networks.BACKBONES["small"], 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rng = np.random.default_rng(0)
    middle = (rng.normal(size=(70, 8, 6, 6)).astype(np.float16), rng.normal(size=(70, 8, 6, 6)).astype(np.float16))
    module = upper_tuned(network, options, middle, rng.random((70, 2)) < 0.5, SETTINGS)
    after = network.state_dict()
    assert after.keys() == before.keys()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {"features.stages.2.0.weight", "classifier.fc.weight"} <= moved
    assert not {name for name in moved if name.startswith(("features.stages.0", "features.stages.1"))}
    assert not module.training


@pytest.mark.parametrize("options", [None, {"norm": "matrix"}])
def test_statistics_are_those_of_the_training_images(options: dict[str, str] | None, rng: np.random.Generator) -> None:
    network = Network(networks.BACKBONES["small"], 2)
    middle = rng.normal(1, 2, (128, 8, 6, 6)).astype(np.float16)
    training.scale_upper(network, options)
    training.estimate_statistics(network, middle)
    convolution, normalisation, _ = network.features.upper[0]
    with torch.no_grad():
        seen = convolution(torch.from_numpy(middle).float())
    torch.testing.assert_close(normalisation.running_mean, seen.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(normalisation.running_var, seen.var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert normalisation.momentum == networks.MOMENTUM
    assert not normalisation.training


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From images to the page; what is there is not done again."""
    monkeypatch.setattr(training, "EPOCHS", (2,))
    monkeypatch.setattr(training, "RATES", (1e-3,))
    monkeypatch.setattr(training, "_BATCH", 16)
    monkeypatch.setattr(training, "_STEP_BATCH", 16)
    monkeypatch.setattr(models, "ARCHITECTURES", {})
    for name, count in {"coco18-train": 40, "coco18-val": 44, **{f"ood144-{name}": 25 for name in OOD}}.items():
        folder = write_folder(tmp_path / name, coloured(count, seed=count))
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            tar.add(folder, "")
    argv = [tmp_path, "--work", tmp_path / "work", "--docs", tmp_path, "--backbones", "small", "--seeds", "0"]
    options = ["--parts", "frozen", "upper", "tuned", "--variants", "matrix", "stages=all"]
    assert main([str(each) for each in (*argv, *options)]) == 0
    told = capsys.readouterr().out
    for run in ("upper-matrix", "tuned-stages=all"):
        assert f"small-{run}-0: " in told
        row = json.loads((tmp_path / "work" / f"small-{run}-0.json").read_text())
        assert row["map"] > 0.5
    page_before = (tmp_path / "snojoe_photographs.md").read_text()
    assert "## Small, the whole network" in page_before
    assert main([str(each) for each in (*argv, *options)]) == 0
    assert "small-" not in capsys.readouterr().out
    assert (tmp_path / "snojoe_photographs.md").read_text() == page_before


def test_the_classifier_that_is_chosen_learns() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((640, 3)) < 0.5
    features = (labels @ rng.normal(size=(3, 10)) + rng.normal(0, 0.3, (640, 10))).astype(np.float32)
    found = choose(features, labels)
    assert found["held_out_map"] > 0.9
    assert (found["rate"], found["epochs"]) in [(rate, epochs) for rate in training.RATES for epochs in training.EPOCHS]


def test_figures_of_a_resample_are_those_of_an_evaluation(rng: np.random.Generator) -> None:
    known, unknown = rng.normal(1, 1, 600).round(1), rng.normal(0, 1, 333).round(1)
    found = detection(known, unknown)
    assert _figure(np.sort(known), unknown, "fpr95") == pytest.approx(found.fpr95_id_positive)
    assert _figure(np.sort(known), unknown, "auroc") == pytest.approx(found.auroc)
    rows = {name: np.arange(333) for name in OOD} | {"known": np.arange(600)}
    assert _drawn({"known": known, **dict.fromkeys(OOD, unknown)}, rows, "auroc") == pytest.approx(100 * found.auroc)


def test_students_interval() -> None:
    values = [1.0, 2.5, 2.0]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert student(values) == pytest.approx((expected.low, expected.high))
    assert student([1.0]) is None


def test_scores_of_several_labels(rng: np.random.Generator) -> None:
    labels = rng.random((80, 3)) < 0.5
    features = (labels @ rng.normal(size=(3, 6)) + rng.normal(0, 0.2, (80, 6))).astype(np.float32)
    far = rng.normal(9, 1, (50, 6)).astype(np.float32)
    logits = np.full((80, 3), -1, np.float32)
    sets = {"known": (logits, features), **dict.fromkeys(OOD, (logits[:50] - 1, far))}
    found = figures(scores((logits, features), labels, sets))
    assert set(found) == {
        "joint_energy",
        "max_logit",
        "msp",
        "energy",
        "mahalanobis",
        "mahalanobis++",
        "lof",
        "isolation_forest",
    }
    for score in ("joint_energy", "max_logit", "mahalanobis", "lof", "isolation_forest"):
        assert found[score]["textures"] == pytest.approx({"fpr95": 0.0, "auroc": 1.0, "aupr": 1.0}), score
    assert found["msp"]["textures"]["auroc"] == 0.5


def write(work: Path, name: str, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = {"known": rng.normal(2, 1, 200), **{each: rng.normal(0, 1, 150) for each in OOD}}
    own = {
        score: {key: value + shift * (key == "known") for key, value in drawn.items()}
        for score in ("joint_energy", "msp")
    }
    row = {"map": 0.6, "scores": figures(own), "seconds": 1.0}
    (work / f"{name}-{seed}.json").write_text(json.dumps(row))
    np.savez(
        work / f"{name}-{seed}.npz", **{f"{score} {key}": v for score, sets in own.items() for key, v in sets.items()}
    )


def test_the_page(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write(tmp_path, "small-frozen-bce", 0.0, seed)
    for seed in (1, 2):
        write(tmp_path, "small-frozen-stages=all, kept", 1.0, seed)
    (tmp_path / "small-chosen.json").write_text("{}")
    found = stored(tmp_path)["small"]["frozen"]
    base, other = found["bce"], found["stages=all, kept"]
    apart = compare(other, base, ("joint_energy", "joint_energy"), "auroc")
    assert apart is not None
    each = [
        100 * (1 - 0) * np.mean([(o.rows[s]["scores"]["joint_energy"][n]["auroc"]) for n in OOD])
        for o in (other, base)
        for s in (1, 2)
    ]
    assert apart.value == pytest.approx(np.mean(each[:2]) - np.mean(each[2:]))
    assert apart.seeds == 2
    assert apart.over_images[0] < apart.value < apart.over_images[1]
    same = compare(base, base, ("joint_energy", "msp"), "fpr95")
    assert same is not None
    assert (same.value, same.over_seeds, same.over_images) == (0, (0, 0), (0, 0))
    text = page(tmp_path, "How it was made.")
    assert "## Small, the classifier alone" in text
    assert re.search(r"stages=all, kept - bce, `joint_energy` +\| 2 ", text)
    assert all(f"`{score}`" in text for score in PAPER)


def test_a_variant_that_is_not_there_is_not_compared(tmp_path: Path) -> None:
    write(tmp_path, "small-upper-bce", 0.0, 0)
    write(tmp_path, "small-upper-matrix", 0.0, 1)
    text = page(tmp_path, "")
    assert re.search(r"matrix - bce, `joint_energy` +\| not measured", text)
    assert "one seed" in text
