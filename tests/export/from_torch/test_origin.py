"""What a file or directory is, by looking into it, and what is said of one that is nothing known."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from export.exceptions import ExportError
from export.from_torch.origin import Request, kind, read
from tests.export import factories
from tests.small import LABELS, SPEC, calibration_images
from train.descriptions.description import Description

GIVEN = Description(labels=LABELS, size=(16, 16), mean=SPEC.mean, std=SPEC.std, resize="squash")


def scripted(path: Path) -> None:
    with pytest.warns((DeprecationWarning, FutureWarning), match="torch.jit"):
        torch.jit.script(factories.trained()).save(str(path))  # type: ignore[no-untyped-call]


def traced(path: Path) -> None:
    with pytest.warns((DeprecationWarning, FutureWarning), match="torch.jit"):
        torch.jit.trace(factories.trained(), torch.zeros(1, 3, 16, 16)).save(str(path))  # type: ignore[no-untyped-call]


def program(path: Path) -> None:
    example = torch.zeros(2, 3, 16, 16)
    exported = torch.export.export(factories.trained(), (example,), dynamic_shapes=({0: torch.export.Dim("N")},))
    torch.export.save(exported, path)


@pytest.mark.parametrize(
    ("write", "expected"),
    [(scripted, "script"), (traced, "script"), (program, "program")],
    ids=["script", "trace", "pt2"],
)
def test_programs_without_their_code(tmp_path: Path, write: Callable[[Path], None], expected: str) -> None:
    path = tmp_path / ("m.pt2" if expected == "program" else "m.pt")
    write(path)
    assert kind(path) == expected
    classifier = read(Request(path), GIVEN)
    images = calibration_images(3)
    logits, penultimate = classifier.run(images)
    again = read(Request(None, "tests.export.factories:trained"), GIVEN)
    for found, by_python in zip((logits, penultimate), again.run(images), strict=True):
        np.testing.assert_allclose(found, by_python, atol=1e-6)
    assert classifier.parameters == again.parameters


def test_a_program_for_one_size_of_batch(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(factories.trained(), (torch.zeros(2, 3, 16, 16),)), tmp_path / "m.pt2")
    with pytest.raises(ExportError, match=r"m\.pt2: exported for an input of .*'2', '3', '16', '16'.*dynamic_shapes"):
        read(Request(tmp_path / "m.pt2"), GIVEN)


def test_ours(checkpoint_file: Path) -> None:
    assert kind(checkpoint_file) == "ours"
    assert read(Request(checkpoint_file), Description()).arch == "resnet20"
    with pytest.raises(ExportError, match="--size goes with --model; a checkpoint of ours says it itself"):
        read(Request(checkpoint_file), Description(size=(8, 8)))


def test_weights_alone(tmp_path: Path) -> None:
    torch.save({"model": factories.trained().state_dict()}, tmp_path / "w.pth")
    assert kind(tmp_path / "w.pth") == "weights"
    with pytest.raises(ExportError) as error:
        read(Request(tmp_path / "w.pth"), GIVEN)
    message = str(error.value)
    assert "not one of ours: --model tells how to build it" in message
    assert "4 tensors under 'model': 0.weight [8, 3, 3, 3], 4.weight [3, 8], 4.bias [3]" in message


def directory(path: Path, config: object) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architectures": ["ViTForImageClassification"], "model_type": "vit"}, "transformers"),
        ({"architecture": "resnet18", "num_classes": 3}, "timm"),
        ({"architecture": "resnet18", "model_type": "timm_wrapper", "pretrained_cfg": {}}, "timm"),
    ],
)
def test_directories(tmp_path: Path, config: object, expected: str) -> None:
    assert kind(directory(tmp_path / "model", config)) == expected


def test_directories_of_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"config\.json names no architecture"):
        kind(directory(tmp_path / "a", {"lr": 0.1}))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    with pytest.raises(ExportError, match=r"without config\.json.*TensorFlow's SavedModel; convert it to ONNX"):
        kind(tmp_path / "saved")


def test_archives_of_other_libraries(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")
    with pytest.raises(ExportError, match="a model of Keras; convert it to ONNX"):
        kind(tmp_path / "m.keras")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="nowhere: no such file"):
        read(Request(tmp_path / "nowhere"), GIVEN)
    with pytest.raises(ExportError, match="what to export"):
        read(Request(None), GIVEN)


@pytest.mark.parametrize(
    ("target", "package"), [("timm:resnet18", "timm"), ("torchvision:resnet18:IMAGENET1K_V1", "torchvision")]
)
def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, target: str, package: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ExportError, match=rf"--model {target} needs the package {package}"):
        read(Request(None, target), GIVEN)


def test_a_directory_needs_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    path = directory(tmp_path / "model", {"architectures": ["ViTForImageClassification"], "model_type": "vit"})
    with pytest.raises(ExportError, match="a model of transformers needs the package transformers: pip install"):
        read(Request(path), GIVEN)


def test_a_penultimate_by_name_is_for_onnx_and_checkpoints_of_ours() -> None:
    request = Request(None, f"{factories.__name__}:trained", penultimate="backbone")
    with pytest.raises(
        ExportError, match="--penultimate backbone goes with an ONNX file, or with a checkpoint of ours"
    ):
        read(request, GIVEN)
