"""Checkpoints: the round trip is exact, the write atomic, and everything else refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from runtime.manifest import InputSpec
from tests.train.sets import coloured, colours, write_folder
from train import checkpoint, models
from train.__main__ import main as train
from train.checkpoint import Header
from train.exceptions import CheckpointError, TrainingError

HEADER = Header(
    arch="resnet20",
    task="multiclass",
    labels=("cat", "dög", "ship"),
    input=InputSpec(16, 24, mean=(0.1, 0.2, 1 / 3), std=(0.3, 0.25, 0.7), resize="border"),
    method="logitnorm",
    hyperparameters={"epochs": 3, "method_options": {"tau": 0.04}, "milestones": [0.4, 0.7]},
    metrics={"val_accuracy": 0.1 + 0.2},
    step=12345,
)


def weights(classes: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return models.make("resnet20", classes).state_dict()


def save(path: Path, header: Header = HEADER) -> Path:
    checkpoint.save(path, header, weights(), {"fc.weight": torch.randn(3, 64)})
    return path


def save_header(path: Path, **changes: Any) -> Path:
    """A file whose header differs from the good one; None leaves the field out."""
    document = json.loads(json.dumps({**vars(HEADER), "input": vars(HEADER.input), **changes}))
    document = {name: value for name, value in document.items() if value is not None}
    save_file({"model.x": torch.zeros(1)}, path, metadata={"oodgate": json.dumps(document)})
    return path


def test_round_trip_is_exact(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 4),
        "n": torch.tensor(7),
        "half": torch.randn(2).bfloat16(),
        "s": torch.randn(4, 2).T,
    }
    momentum = {"a": torch.randn(3, 4)}
    checkpoint.save(tmp_path / "c.safetensors", HEADER, tensors, momentum)
    loaded = checkpoint.load(tmp_path / "c.safetensors")
    assert loaded.header == HEADER
    for saved, found in ((tensors, loaded.weights), (momentum, loaded.optimizer)):
        assert found.keys() == saved.keys()
        for name, tensor in saved.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)


def test_weights_in_two_places_are_kept_in_both(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    shared = torch.nn.Sequential(layer, layer)
    checkpoint.save(tmp_path / "c.safetensors", HEADER, shared.state_dict(), {}, shared.state_dict())
    found = checkpoint.load(tmp_path / "c.safetensors")
    for weights in (found.weights, found.learning):
        assert weights.keys() == shared.state_dict().keys()
        assert all(torch.equal(weights[name], value) for name, value in shared.state_dict().items())


def test_model_has_the_weights_and_is_in_evaluation_mode(tmp_path: Path) -> None:
    model = checkpoint.load(save(tmp_path / "c.safetensors")).model()
    assert not model.training
    expected = weights()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_nothing_else_is_left_in_the_directory(tmp_path: Path) -> None:
    save(tmp_path / "c.safetensors")
    save(tmp_path / "c.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "c.safetensors")
    before = path.read_bytes()

    def full_disk(_: object, file: Path, **__: object) -> None:
        file.write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(path)
    assert path.read_bytes() == before


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"c\.safetensors: no such file"):
        checkpoint.load(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"this is text, and a long one", b"\xff" * 100], ids=["empty", "text", "binary"]
)
def test_file_that_is_no_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"c\.safetensors: not a readable \.safetensors file"):
        checkpoint.load(tmp_path / "c.safetensors")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a readable \.safetensors file"):
        checkpoint.load(tmp_path)


def test_truncated_file(tmp_path: Path) -> None:
    path = save(tmp_path / "c.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a readable"):
        checkpoint.load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_another_program(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"fc.weight": torch.zeros(3)}, tmp_path / "c.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=r"no 'oodgate' header.*--model package\.module:factory"):
        checkpoint.load(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": None}, "header: arch: missing"),
        ({"labels": "cat"}, "labels: expected a list, found 'cat'"),
        ({"labels": [1, 2]}, r"labels\[0\]: expected a value of type str, found 1"),
        ({"step": "12"}, "step: expected a value of type int, found '12'"),
        (
            {"task": "regression"},
            r"task: expected one of \['multiclass', 'multilabel', 'unlabelled'\], found 'regression'",
        ),
        ({"colour": "red"}, "colour: unknown field"),
        ({"metrics": {"val_accuracy": "good"}}, "metrics.val_accuracy: expected a number, found 'good'"),
        ({"input": {"height": 8}}, r"input\.width: missing"),
        ({"input": {**vars(HEADER.input), "std": [1, 1, 0]}}, "input: .*std positive"),
        ({"input": {**vars(HEADER.input), "height": 0}}, "input: input size must be positive"),
    ],
)
def test_header_with_a_wrong_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"c\.safetensors: header: .*{message.removeprefix('header: ')}"):
        checkpoint.load(save_header(tmp_path / "c.safetensors", **changes))


@pytest.mark.parametrize("header", ["", "{", "[]", "null", '"text"'])
def test_header_that_is_no_object(tmp_path: Path, header: str) -> None:
    save_file({"model.x": torch.zeros(1)}, tmp_path / "c.safetensors", metadata={"oodgate": header})
    with pytest.raises(CheckpointError, match=r"c\.safetensors: header: "):
        checkpoint.load(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("fc.bias"),
        lambda state: state.update({"fc.bias": torch.zeros(4)}),
        lambda state: state.update({"extra": torch.zeros(4)}),
    ],
    ids=["missing", "another shape", "too many"],
)
def test_weights_that_do_not_fit(tmp_path: Path, damage: Any) -> None:
    state = weights()
    damage(state)
    checkpoint.save(tmp_path / "c.safetensors", HEADER, state, {})
    with pytest.raises(CheckpointError, match="the weights are not those of a resnet20"):
        checkpoint.load(tmp_path / "c.safetensors").model()


def test_architecture_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="unknown architecture 'vgg'"):
        checkpoint.load(save_header(tmp_path / "c.safetensors", arch="vgg")).model()


NETWORK = """
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(F.relu(self.conv(x)).mean((2, 3)))
"""


@pytest.mark.parametrize("extra", [(), ("--ema", "0.9"), ("--method", "snojoe", "--set", "layers=1")])
def test_a_network_whose_code_has_changed_is_refused(tmp_path: Path, extra: tuple[str, ...]) -> None:
    """Its weights still fit; what it computes is not what was trained."""
    factory, run = tmp_path / "net.py", tmp_path / "run"
    factory.write_text(NETWORK)
    several = "snojoe" in extra
    data = write_folder(tmp_path / "data", coloured() if several else colours())
    arguments = ["--method", "cross-entropy", "--arch", f"{factory}:Net", "--data", str(data), "--val", str(data)]
    arguments += ["--size", "8", "--batch-size", "8", "--padding", "1", "--epochs", "1", "--out", str(run), *extra]
    assert train(arguments) == 0
    saved = checkpoint.load(run / "checkpoint.safetensors")
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = saved.model()(images)[0].flatten().tolist()
    assert saved.header.witness == pytest.approx(logits, rel=1e-3, abs=1e-4)
    assert train([*arguments, "--resume"]) == 0
    factory.write_text(NETWORK + "\n# as before\n")
    saved.model()
    factory.write_text(NETWORK.replace("F.relu", "F.silu"))
    for again in (saved.model, lambda: train([*arguments, "--resume"])):
        with pytest.raises(
            CheckpointError, match=r"net\.py:Net builds computes something else .* was its code changed"
        ):
            again()
