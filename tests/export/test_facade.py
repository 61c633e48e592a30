"""``oodgate.export``, ``calibrate`` and ``evaluate``: what the commands do, with the model and the images in memory."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import oodgate
from export.__main__ import main
from export.evaluate.__main__ import main as evaluate
from tests.small import LABELS, calibration_images, encode, network, write_labelled

SPEC = oodgate.InputSpec(16, 16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), resize="squash")
IMAGES = calibration_images()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> oodgate.Bundle:
    out = tmp_path_factory.mktemp("facade") / "small"
    return oodgate.export(network(), labels=LABELS, input=SPEC, calibration=IMAGES, alpha=0.1, out=out, verbose=False)


@pytest.fixture
def own(bundle: oodgate.Bundle, tmp_path: Path) -> Path:
    """A copy of the bundle."""
    return Path(shutil.copytree(bundle.path, tmp_path, dirs_exist_ok=True))


def energies(images: Any) -> Any:
    """By hand, in float64."""
    with torch.no_grad():
        pixels = (torch.from_numpy(images).double() / 255 - torch.tensor(SPEC.mean)) / torch.tensor(SPEC.std)
        return network().double()(pixels.permute(0, 3, 1, 2)).logsumexp(1).numpy()


def test_a_module_in_memory_is_gated(bundle: oodgate.Bundle) -> None:
    gate = bundle.manifest.gate
    assert gate is not None
    assert (bundle.manifest.labels, bundle.manifest.input) == (LABELS, SPEC)
    assert gate.threshold == pytest.approx(np.sort(energies(IMAGES))[9], rel=1e-5)  # floor(0.1 * 100) = 10


def test_the_command_makes_the_same_bundle(bundle: oodgate.Bundle, tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "weights.pth")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    np.savez(tmp_path / "known.npz", images=IMAGES)
    model = (
        "--checkpoint",
        tmp_path / "weights.pth",
        "--model",
        "tests.small:network",
        "--labels",
        tmp_path / "labels.txt",
    )
    how = ("--size", 16, "--resize", "squash", "--colour", "ignore", "--mean", *SPEC.mean, "--std", *SPEC.std)
    rest = ("--calibration", tmp_path / "known.npz", "--alpha", 0.1, "--out", tmp_path / "small")
    main(list(map(str, (*model, *how, *rest))))
    made = oodgate.Bundle.load(tmp_path / "small").manifest
    assert (made.gate, made.input, made.labels) == (bundle.manifest.gate, bundle.manifest.input, bundle.manifest.labels)


def test_the_model_stays_as_it_is(tmp_path: Path) -> None:
    model = network().half().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    oodgate.export(torch.nn.DataParallel(model), labels=LABELS, input=SPEC, out=tmp_path / "small", verbose=False)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's exporter of before
def test_an_onnx_model_in_memory(bundle: oodgate.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing lies beside it, whatever lies in the folder that one works in."""
    names = {str(i): name for i, name in enumerate(("tench", "goldfish", "shark"))}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "id2label": names}))
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    torch.onnx.export(
        network(), (torch.zeros(1, 3, 16, 16),), file, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}}
    )
    model = onnx.load_from_string(file.getvalue())
    made = oodgate.export(
        model, labels=LABELS, input=SPEC, calibration=IMAGES, alpha=0.1, out=tmp_path / "onnx", verbose=False
    )
    assert made.manifest.gate is not None
    assert bundle.manifest.gate is not None
    assert made.manifest.gate.threshold == pytest.approx(bundle.manifest.gate.threshold, rel=1e-5)
    with pytest.raises(oodgate.OodgateError, match="needs --labels"):
        oodgate.export(model, input=SPEC, calibration=IMAGES, alpha=0.1, out=tmp_path / "other", verbose=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TorchScript
def test_a_path(bundle: oodgate.Bundle, tmp_path: Path) -> None:
    torch.jit.trace(network(), torch.zeros(1, 3, 16, 16)).save(str(tmp_path / "model.pt"))
    made = oodgate.export(
        tmp_path / "model.pt",
        labels=LABELS,
        input=SPEC,
        calibration=IMAGES,
        alpha=0.1,
        out=tmp_path / "b",
        verbose=False,
    )
    assert made.manifest.gate is not None
    assert bundle.manifest.gate is not None
    assert made.manifest.gate.threshold == pytest.approx(bundle.manifest.gate.threshold, rel=1e-5)


class Fixed:
    """A transform that torchvision would call a Compose; `shift` is what it does and doesn't say."""

    def __init__(self, shift: float = 0) -> None:
        normal = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
        resize = {"size": (16, 16), "interpolation": "bilinear"}
        self.transforms = [type("Resize", (), resize)(), type("ToTensor", (), {})(), type("Normalize", (), normal)()]
        self.shift = shift

    def __call__(self, image: Image.Image) -> Any:
        pixels = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR)) / 255
        return ((pixels + self.shift - SPEC.mean) / SPEC.std).transpose(2, 0, 1)


def test_a_transform_is_read_and_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = oodgate.export(network(), labels=LABELS, transform=Fixed(), out=tmp_path / "small")
    assert made.manifest.input == oodgate.InputSpec(
        16, 16, SPEC.mean, SPEC.std, resize="squash", resize_to=(16, 16), colour="ignore"
    )
    assert "run on drawn images, it and the bundle differ by" in capsys.readouterr().out


def test_a_transform_that_does_otherwise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(oodgate.OodgateError, match=r"by up to 5\.1 of 255 grey levels"):
        oodgate.export(network(), labels=LABELS, transform=Fixed(0.02), out=tmp_path / "small", verbose=False)
    assert not (tmp_path / "small").exists()


class Processor:
    """What transformers has for a stretched image."""

    def to_dict(self) -> dict[str, Any]:
        statistics = {"image_mean": list(SPEC.mean), "image_std": list(SPEC.std)}
        return {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, **statistics}

    def __call__(self, images: Image.Image, return_tensors: str) -> dict[str, Any]:
        assert return_tensors == "np"
        return {"pixel_values": Fixed()(images)[None]}


class Config:
    """Of a model of transformers."""

    num_channels = 3
    id2label = MappingProxyType(dict(enumerate(LABELS)))

    def to_dict(self) -> dict[str, Any]:
        return {"id2label": dict(self.id2label)}


def test_a_processor_and_a_model_that_knows_its_labels(tmp_path: Path) -> None:
    model = network()
    model.config = Config()
    made = oodgate.export(model, processor=Processor(), out=tmp_path / "small", verbose=False)
    assert made.manifest.labels == LABELS
    assert (made.manifest.input.resize, made.manifest.input.mean) == ("squash", SPEC.mean)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give labels, .* and transform .* or input=InputSpec"),
        ({"labels": LABELS}, r"give transform \(torchvision's or timm's\)"),
        ({"labels": LABELS, "input": SPEC, "transform": Fixed()}, "give one of them"),
        ({"labels": LABELS[:2], "input": SPEC}, r"expected logits \[N, 2\] for 2 labels"),
        ({"labels": LABELS, "input": SPEC, "score": "entropy"}, "unknown score 'entropy'"),
        ({"labels": LABELS, "input": SPEC, "guarantee": "none"}, "--guarantee must be one of marginal, pac"),
        ({"labels": LABELS, "input": SPEC, "max_error": 1.5}, "--max-error must be between 0 and 1"),
        ({"labels": LABELS, "input": SPEC, "max_error": 0.1}, "--max-error needs --calibration"),
        ({"labels": LABELS, "input": SPEC, "score": "msp"}, "--score needs --calibration"),
        ({"labels": LABELS, "input": SPEC, "calibration": "nowhere.tar"}, "nowhere.tar"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(oodgate.OodgateError, match=message):
        oodgate.export(network(), out=tmp_path / "small", verbose=False, **arguments)


def test_no_model_and_no_option(tmp_path: Path) -> None:
    with pytest.raises(
        oodgate.OodgateError, match=r"expected a torch module, an onnx\.ModelProto or a path, found builtins"
    ):
        oodgate.export(3, labels=LABELS, input=SPEC, out=tmp_path / "small")
    with pytest.raises(TypeError, match="alfa is none of the gate's options: score, alpha"):
        oodgate.export(network(), labels=LABELS, input=SPEC, out=tmp_path / "small", alfa=0.1)


def test_the_default_score_by_its_name_needs_no_images(tmp_path: Path) -> None:
    made = oodgate.export(network(), labels=LABELS, input=SPEC, score="energy", out=tmp_path / "small", verbose=False)
    assert made.manifest.gate is None


def test_labels_by_number(tmp_path: Path) -> None:
    index = {name: i for i, name in reversed(list(enumerate(LABELS)))}
    made = oodgate.export(network(), labels=index, input=SPEC, out=tmp_path / "small", verbose=False)
    assert made.manifest.labels == tuple(LABELS)


def test_a_forward_that_a_copy_would_not_follow(tmp_path: Path) -> None:
    """Its layers would be the original's, in whatever mode that is."""
    model = network()
    original = model.forward
    model.forward = lambda x: original(x) / 2  # type: ignore[method-assign]
    with pytest.raises(oodgate.OodgateError, match="the forward of this one object was replaced by a function"):
        oodgate.export(model, labels=LABELS, input=SPEC, out=tmp_path / "small", verbose=False)


def files(folder: Path) -> list[Path]:
    folder.mkdir()
    for i, image in enumerate(IMAGES):
        (folder / f"{i:03}.png").write_bytes(encode(image))
    return sorted(folder.iterdir())


@pytest.mark.parametrize("kind", ["paths", "pil", "dataset", "loader", "folder"])
def test_images_of_any_kind_calibrate_alike(kind: str, own: Path, tmp_path: Path) -> None:
    tensors = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    dataset = TensorDataset(tensors, torch.zeros(len(IMAGES), dtype=torch.int64))
    given: Any = {
        "paths": lambda: files(tmp_path / "files"),
        "pil": lambda: list(map(Image.fromarray, IMAGES)),
        "dataset": lambda: dataset,
        "loader": lambda: DataLoader(dataset, batch_size=8),
        "folder": lambda: files(tmp_path / "files")[0].parent,
    }[kind]()
    made = oodgate.calibrate(own, given, alpha=0.2, verbose=False)
    assert made.manifest.gate is not None
    assert made.manifest.gate.threshold == pytest.approx(np.sort(energies(IMAGES))[19], rel=1e-5)


def test_without_images_the_gate_moves(own: Path) -> None:
    moved = oodgate.calibrate(own, alpha=0.05, verbose=False).manifest.gate
    assert moved is not None
    assert moved.threshold == pytest.approx(np.sort(energies(IMAGES))[4], rel=1e-5)
    with pytest.raises(oodgate.OodgateError, match="without SOURCE only --alpha"):
        oodgate.calibrate(own, verbose=False)


def test_coverages_as_the_command_takes_them(own: Path, tmp_path: Path) -> None:
    source = write_labelled(tmp_path / "labelled.npz", oodgate.Bundle.load(own))

    def sets(given: Any) -> list[float]:
        gate = oodgate.calibrate(own, source, prediction_sets=given, verbose=False).manifest.gate
        assert gate is not None
        return [one.coverage for one in gate.sets]

    assert [sets(given) for given in ("0.8,0.95", "none", (0.8, 0.95), 0.9, ())] == [
        *([0.8, 0.95], [], [0.8, 0.95], [0.9], []),
    ]
    with pytest.raises(oodgate.OodgateError, match="--prediction-sets must be between 0 and 1, or none, found 1"):
        sets(1)


def test_evaluation_is_the_command_s(own: Path, tmp_path: Path) -> None:
    known, other = calibration_images(60, seed=5), np.random.default_rng(0).integers(0, 99, (40, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "known.npz", images=known)
    np.savez(tmp_path / "other.npz", images=other)
    figures = oodgate.evaluate(own, known, {"dark": other}, verbose=False)
    assert oodgate.evaluate(own, known, verbose=False).id == figures.id
    sources = ("--id", f"{tmp_path}/known.npz", "--ood", f"dark={tmp_path}/other.npz", "--json", f"{tmp_path}/f.json")
    evaluate([str(own), *sources])
    expected = (tmp_path / "f.json").read_text()
    assert figures.id.acceptance == pytest.approx(np.mean(energies(known) >= np.sort(energies(IMAGES))[9]))
    assert str(figures.ood["dark"].scores["energy"].auroc) in expected
