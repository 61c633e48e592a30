"""A model of features without classes, from its export to its figures, by the commands; what needs classes refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance

import oodgate
from export.__main__ import main as export
from export.calibrate.__main__ import main as calibrate
from export.convert.__main__ import main as convert
from export.evaluate.__main__ import main as evaluate
from export.exceptions import ExportError
from export.fit.__main__ import main as fit
from export.parity.__main__ import main as parity
from runtime import Gate
from runtime.bundle import Bundle
from runtime.manifest import Manifest
from tests.export import factories
from tests.export.conftest import call
from tests.export.from_onnx.graphs import torch_like
from tests.small import SPEC, calibration_images

INPUT = ("--size", 16, "--mean", *SPEC.mean, "--std", *SPEC.std, "--resize-to", 16)
FACTORY = "tests.export.factories:"
FEATURES = ("nan", "feature_norm")


@dataclass(frozen=True)
class Images:
    """Sources of smooth images, to calibrate, to fit and to look at in the end; and of noise."""

    calibration: Path
    training: Path
    held: Path
    noise: Path


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Images:
    path = tmp_path_factory.mktemp("images")
    found = Images(*(path / f"{name}.npz" for name in ("calibration", "training", "held", "noise")))
    parts = np.split(calibration_images(1000, seed=2), (200, 400))
    for file, part in zip((found.calibration, found.training, found.held), parts, strict=True):
        np.savez(file, images=part)
    np.savez(found.noise, images=np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8))
    return found


@pytest.fixture(scope="module")
def plain(known: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of an extractor, with the default gate; read only."""
    return exported(tmp_path_factory.mktemp("bundles") / "plain", "Embedding", "--calibration", known.calibration)


@pytest.fixture(scope="module")
def fitted(plain: Path, known: Images) -> Path:
    """The same with detectors of features; read only."""
    out = plain.with_name("fitted")
    names = "ssd,knn,mahalanobis++,nan_ssd"
    call(fit, plain, known.training, "--detectors", names, "--set", "knn.k=5", "--out", out)
    call(calibrate, out, known.calibration, "--score", "ssd")
    return out


def exported(out: Path, factory: str, *options: object) -> Path:
    call(export, "--model", f"{FACTORY}{factory}", "--task", "unlabelled", *INPUT, "--out", out, *options)
    return out


def images_of(file: Path) -> npt.NDArray[np.uint8]:
    images: npt.NDArray[np.uint8] = np.load(file)["images"]
    return images


def failure(main: Any, *arguments: object) -> str:
    with pytest.raises(ExportError) as raised:
        main([str(argument) for argument in arguments])
    return str(raised.value)


def features(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Those of the network in torch."""
    x = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - torch.tensor(SPEC.mean)[:, None, None]) / torch.tensor(
        SPEC.std
    )[:, None, None]
    with torch.no_grad():
        found: npt.NDArray[np.float64] = factories.Embedding()(x).numpy().astype(np.float64)
    return found


@pytest.mark.parametrize("factory", ["Embedding", "FeatureMap", "OneOfAList", "Pooler", "Pair"])
def test_whatever_returns_features(tmp_path: Path, factory: str) -> None:
    """Rows, maps, a list of one, transformers' outputs, and the second of a pair are the same features here."""
    bundle = Bundle.load(exported(tmp_path / "bundle", factory))
    session = onnxruntime.InferenceSession(bundle.model, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["penultimate", "scores", "accept"]
    images = calibration_images(5)
    activations, scores = session.run(["penultimate", "scores"], {"images": images})
    expected = features(images)
    np.testing.assert_allclose(activations, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores[:, 0], expected.sum(axis=1) / (expected > 0).sum(axis=1), rtol=1e-4)
    assert (bundle.manifest.task, bundle.manifest.labels, bundle.manifest.scores) == ("unlabelled", (), FEATURES)
    assert bundle.manifest.model.features == 8


def test_what_is_printed_and_recorded(plain: Path, known: Images, tmp_path: Path) -> None:
    options = ("--model", f"{FACTORY}FeatureMap", "--task", "unlabelled", *INPUT, "--calibration", known.calibration)
    output = call(export, *options, "--out", tmp_path / "bundle")
    assert "features: what it returns, 8 an image, the mean over 16 x 16 positions" in output
    assert "note: the gate is nan, which assumes a network that was trained on images like these" in output
    assert "verified against torch on 200 images: features differ by at most" in output
    assert "the reported confidence" not in output
    verification = Bundle.load(plain).manifest.provenance["verification"]
    assert verification["max_logit_difference"] is None
    assert verification["max_feature_difference"] < 1e-5
    assert verification["decision_flips"] == 0
    card = (plain / "card.md").read_text()
    assert "A gate without classes" in card
    assert "| labels" not in card


def test_the_default_gate(plain: Path, known: Images, tmp_path: Path) -> None:
    """`nan`; with images to fit detectors on, what is best of the features' scores against drawn outliers."""
    gate = Bundle.load(plain).manifest.gate
    assert gate is not None
    assert (gate.score, gate.n_calibration, gate.choice) == ("nan", 200, None)
    out = exported(tmp_path / "chosen", "Embedding", "--calibration", known.calibration, "--fit", known.training)
    chosen = Bundle.load(out).manifest.gate
    assert chosen is not None
    assert chosen.choice is not None
    (table, *_) = chosen.choice.auroc.values()
    assert set(table) == {*FEATURES, "ssd", "nan_ssd"}
    means = {name: np.mean([each[name] for each in chosen.choice.auroc.values()]) for name in table}
    assert chosen.score == max(means, key=lambda name: means[name])


def test_accepts_held_out_images_as_promised(fitted: Path, known: Images) -> None:
    """The rate on images that set nothing lies in the interval that the calibration gives, in both ways to see it."""
    gate = Gate.load(fitted, engine="onnxruntime-cpu", threads=1)
    assert gate.spec.score == "ssd"
    accepted = np.mean([decision.decision == "accept" for decision in gate.decide(images_of(known.held))])
    figures = oodgate.evaluate(fitted, known.held, {"noise": str(known.noise)}, verbose=False)
    low, high = figures.id.acceptance_expected or (1, 0)
    assert low <= figures.id.acceptance <= high
    assert low <= accepted <= high
    assert (figures.id.accuracy, figures.id.mean_average_precision, figures.id.risk_coverage) == (None, None, {})


def test_fitted_columns_are_those_of_other_libraries(fitted: Path, known: Images) -> None:
    """One class: Mahalanobis++ is a Gaussian of unit features, as SSD of one cluster; kNN by sorting all distances."""
    images = images_of(known.held)[:9]
    train, new = (
        a / np.linalg.norm(a, axis=1, keepdims=True) for a in (features(images_of(known.training)), features(images))
    )
    gate = Gate.load(fitted, engine="onnxruntime-cpu", threads=1)
    found = dict(zip(gate.manifest.scores, gate.run(images).scores.T, strict=True))
    gaussian = EmpiricalCovariance().fit(train)
    np.testing.assert_allclose(found["mahalanobis++"], -gaussian.mahalanobis(new), rtol=1e-2)
    np.testing.assert_allclose(found["ssd"], found["mahalanobis++"], rtol=1e-3)
    distances = np.sort(np.linalg.norm(new[:, None] - train[None], axis=2), axis=1)
    np.testing.assert_allclose(found["knn"], -distances[:, 4], rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(found["nan_ssd"], found["ssd"] / found["nan"], rtol=1e-3)


def test_all_detectors_are_those_of_features(plain: Path, known: Images, tmp_path: Path) -> None:
    call(fit, plain, known.training, "--detectors", "all", "--set", "knn.k=5", "--out", tmp_path / "all")
    added = ("mahalanobis", "mahalanobis++", "ssd", "knn", "nan_knn", "nan_ssd")
    assert Bundle.load(tmp_path / "all").manifest.scores == (*FEATURES, *added)


@pytest.mark.parametrize("name", ["vim", "react", "gen", "she", "rmds", "nnguide", "hidden_confidence", "nan_react"])
def test_detectors_of_logits_are_refused(plain: Path, known: Images, name: str) -> None:
    message = failure(fit, plain, known.training, "--detectors", f"{name},knn")
    assert message.startswith(f"{name} looks at logits or their layer, which plain lacks")
    assert "ssd, knn" in message


@pytest.mark.parametrize(
    "option",
    [
        ("--class-conditional",),
        ("--max-error", "0.05"),
        ("--prediction-sets", "0.9"),
        ("--temperature", "2"),
        ("--temperature", "auto", "--score", "auto"),
    ],
)
def test_options_of_classes_are_refused(plain: Path, known: Images, tmp_path: Path, option: tuple[str, ...]) -> None:
    expected = f"{option[0]} is for models with classes; this one is unlabelled"
    assert expected in failure(calibrate, plain, known.calibration, *option)
    options = ("--model", f"{FACTORY}Embedding", "--task", "unlabelled", *INPUT, "--calibration", known.calibration)
    assert expected in failure(export, *options, *option, "--out", tmp_path / "no")


def test_what_is_no_extractor(tmp_path: Path, labels: Path, known: Images) -> None:
    def message(*options: object) -> str:
        return failure(export, "--task", "unlabelled", "--out", tmp_path / "no", *options)

    tokens = message("--model", f"{FACTORY}TokenFeatures", *INPUT)
    assert "expected features [N, D] or a feature map [N, D, h, w], found [2, 256, 8]" in tokens
    named = message("--model", f"{FACTORY}Embedding", *INPUT, "--labels", labels)
    assert "labels and the task unlabelled don't go together" in named
    unknown = message("--model", f"{FACTORY}Embedding", *INPUT, "--score", "energy", "--calibration", known.calibration)
    assert "unknown score 'energy'; there are nan, feature_norm, and auto" in unknown
    assert "--fit goes" not in (failed := message("--model", f"{FACTORY}Embedding", *INPUT, "--fit", known.training))
    assert "needs --calibration" in failed


def test_normalised_features_are_remarked(tmp_path: Path) -> None:
    options = ("--model", f"{FACTORY}UnitLength", "--task", "unlabelled", *INPUT, "--out", tmp_path / "bundle")
    assert "the features of every image have the same length" in call(export, *options)


def test_calibrating_anew(fitted: Path, known: Images, tmp_path: Path) -> None:
    """A fusion of p-values, PAC, and a move to another operating point."""
    call(fit, fitted, known.training, "--detectors", "ssd", "--out", tmp_path / "copy")
    call(calibrate, tmp_path / "copy", known.calibration, "--score", "knn+nan", "--guarantee", "pac")
    gate = Bundle.load(tmp_path / "copy").manifest.gate
    assert gate is not None
    assert (gate.score, gate.guarantee) == ("knn+nan", "pac")
    output = call(calibrate, tmp_path / "copy", "--alpha", "0.1")
    assert "rejected with probability at most 0.1" in output


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_and_parity(fitted: Path, known: Images, tmp_path: Path, precision: str) -> None:
    out = tmp_path / precision
    keep = ("--int8-keep", "none") if precision == "int8" else ()
    call(convert, fitted, "--precision", precision, "--calibration", known.calibration, "--out", out, *keep)
    found = Bundle.load(out).manifest.parity
    assert found is not None
    assert (found.label_agreement, found.mean_logit_difference, found.max_logit_difference) == (None, None, None)
    assert "the predicted class" not in (out / "card.md").read_text()
    assert f"decided otherwise ({found.newly_rejected} newly rejected" in (out / "card.md").read_text()
    figures = tmp_path / "parity.json"
    output = call(parity, fitted, out, known.held, "--json", figures, "--ood", f"noise={known.noise}")
    assert "logits" not in output
    document = json.loads(figures.read_text())["known"]
    assert (document["logits"], document["label_agreement"], document["images"]) == (None, None, 600)
    a, b = (Gate.load(path, engine="onnxruntime-cpu", threads=1) for path in (fitted, out))
    rest = images_of(known.held)
    flips = sum(x.decision != y.decision for x, y in zip(a.decide(rest), b.decide(rest), strict=True))
    assert flips == document["flips"]["newly_rejected"] + document["flips"]["newly_accepted"]


def test_the_command_evaluates_and_writes_the_card(fitted: Path, known: Images, tmp_path: Path) -> None:
    call(fit, fitted, known.training, "--detectors", "ssd", "--out", tmp_path / "copy")
    call(calibrate, tmp_path / "copy", known.calibration, "--score", "ssd")
    noise = f"noise={known.noise}"
    output = call(evaluate, tmp_path / "copy", "--id", known.held, "--ood", noise, "--card")
    assert "% accepted (its calibration promises" in output
    assert "accuracy" not in output
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert {"histogram.png", "roc.png"} <= names
    assert "risk_coverage.png" not in names


def test_in_memory(known: Images, tmp_path: Path) -> None:
    """The function, with a plain module."""
    bundle = oodgate.export(
        factories.Embedding(),
        out=tmp_path / "memory",
        input=SPEC,
        task="unlabelled",
        calibration=images_of(known.calibration),
        verbose=False,
    )
    gate = Gate.load(bundle.path, engine="onnxruntime-cpu", threads=1)
    images = images_of(known.held)[:20]
    expected = features(images)
    assert [one.scores["feature_norm"] for one in gate.decide(images)] == pytest.approx(expected.sum(axis=1), rel=1e-4)


@pytest.mark.parametrize("tensor", ["pool", "flat", "relu"])
def test_a_tensor_of_an_onnx_file(known: Images, tmp_path: Path, tensor: str) -> None:
    """A map of positions is averaged; without classes nothing of the file's head is left."""
    model = torch_like(ending="")
    model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    file, bare = tmp_path / "net.onnx", onnxruntime.InferenceSession(model.SerializeToString())
    file.write_bytes(model.SerializeToString())
    options = ("--checkpoint", file, "--task", "unlabelled", *INPUT[2:], "--calibration", known.calibration)
    output = call(export, *options, "--output", tensor, "--out", tmp_path / "bundle")
    assert f"features: {tensor}, 8 an image" in output
    bundle = Bundle.load(tmp_path / "bundle")
    assert {node.name for node in onnx.load_from_string(bundle.model).graph.node if "Gemm" in node.op_type} == set()
    images = images_of(known.held)[:6]
    x = ((images / 255 - np.array(SPEC.mean)) / np.array(SPEC.std)).transpose(0, 3, 1, 2).astype(np.float32)
    rows = np.concatenate([bare.run([tensor], {"input": one[None]})[0] for one in x]).reshape(6, 8, -1).mean(axis=2)
    gate = Gate.load(bundle.path, engine="onnxruntime-cpu", threads=1)
    assert [one.scores["feature_norm"] for one in gate.decide(images)] == pytest.approx(rows.sum(axis=1), rel=1e-4)


def test_which_tensor_of_an_onnx_file(tmp_path: Path) -> None:
    """One that is not there, two at once, or none of two outputs."""
    model = torch_like(ending="")
    model.graph.output.append(onnx.helper.make_tensor_value_info("flat", onnx.TensorProto.FLOAT, None))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    options = ("--checkpoint", tmp_path / "net.onnx", "--task", "unlabelled", *INPUT[2:], "--out", tmp_path / "bundle")
    assert "there is no such tensor; the outputs are logits, flat" in failure(export, *options, "--output", "hidden")
    assert "give one" in failure(export, *options, "--output", "logits", "--penultimate", "flat")
    assert "which are the features: logits, flat" in failure(export, *options)
    assert "features: flat, 8 an image" in call(export, *options, "--penultimate", "flat")


def test_bundles_of_other_tasks_are_not_compared(plain: Path, shared_bundle: Bundle, known: Images) -> None:
    message = failure(parity, plain, shared_bundle.path, known.calibration)
    assert "their task differ, unlabelled and multiclass" in message


def test_the_manifest_reads_back(fitted: Path) -> None:
    manifest = Bundle.load(fitted).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
