"""What a run starts from and how its input is made, by the options: found, scaled, kept, refused."""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from runtime.manifest import InputSpec
from tests.commands import failure
from tests.train import factories
from tests.train.sets import colours, write_tar
from train import checkpoint, preprocessing
from train.__main__ import main
from train.descriptions.description import Description
from train.exceptions import ModelError
from train.loop import CHECKPOINT
from train.models.libraries.built import Built

ARCH = "tests.train.factories:small"
TIMM = Description(size=(224, 224), mean=(0.5,), std=(0.2,), resize="shortest", resize_to=256, interpolation="bicubic")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """train.tar and weights w.pth of :func:`factories.small`."""
    write_tar(tmp_path / "train.tar", colours(16))
    torch.manual_seed(4)
    torch.save(factories.Small().state_dict(), tmp_path / "w.pth")
    return tmp_path


def arguments(sources: Path, **changes: object) -> list[str]:
    options = {
        "method": "cross-entropy", "arch": ARCH, "data": sources / "train.tar", "val": sources / "train.tar", "epochs": 1,
        "out": sources / "run", "size": 8, "batch_size": 8, "precision": "fp32", **changes,
    }  # fmt: skip
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def built(description: Description, pretrained: str | None = "w.pth") -> Any:
    return argparse.Namespace(built=Built(torch.nn.Identity(), "net", description, pretrained=pretrained))


def test_a_librarys_input_for_another_size() -> None:
    """What is resized before the centre is cut keeps its proportion: 256 of 224 is 146 of 128."""
    spec = preprocessing.of_network(built(TIMM), Description(), 128)
    assert spec == InputSpec(
        128, 128, (0.5,) * 3, (0.2,) * 3, resize="shortest", resize_to=146, interpolation="bicubic", colour="srgb"
    )
    assert preprocessing.describe(spec) == (
        "128 x 128, the shorter side to 146, then the centre, bicubic; mean 0.5 0.5 0.5, std 0.2 0.2 0.2"
    )


def test_options_go_before_what_a_library_says() -> None:
    given = Description(mean=(0.1, 0.2, 0.3), resize="squash", resize_to=(140, 140))
    spec = preprocessing.of_network(built(TIMM), given, 128)
    assert spec is not None
    assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (0.2, 0.2, 0.2))
    assert (spec.resize, spec.resize_to) == ("squash", (140, 140))


def test_nothing_is_pretrained() -> None:
    assert preprocessing.of_network(built(TIMM, None), Description(), 128) is None


def test_nothing_says_how_weights_were_trained() -> None:
    with pytest.raises(ModelError, match=r"net needs --size, --mean, --std: nothing says how its weights \(w\.pth\)"):
        preprocessing.of_network(built(Description()), Description(), None)


def test_another_number_of_channels() -> None:
    with pytest.raises(ModelError, match="net takes grey: training is for networks of three channels"):
        preprocessing.of_network(built(Description(channels="grey").over(TIMM)), Description(), 8)


def test_weights_of_others(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*arguments(sources, init=sources / "w.pth"), "--mean", "0.5", "--std", "0.25"]
    assert main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:5] == [
        "weights: w.pth",
        "last layer: other, 4 -> 5, replaced by one 4 -> 3 for the labels of the data",
        "input: 8 x 8, the largest centred box of its shape, bilinear; mean 0.5 0.5 0.5, std 0.25 0.25 0.25",
    ]
    header = checkpoint.load(sources / "run" / CHECKPOINT).header
    assert header.input == InputSpec(8, 8, (0.5,) * 3, (0.25,) * 3, colour="srgb")
    assert header.origin is not None
    assert header.origin.head == "other"
    digest = hashlib.sha256((sources / "w.pth").read_bytes()).hexdigest()
    assert header.sources["init"] == {"weights": "w.pth", "sha256": digest}


def test_resumed_without_the_file_of_weights(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*arguments(sources, init=sources / "w.pth", epochs=2), "--mean", "0.5", "--std", "0.25"]
    assert main(options) == 0
    before = checkpoint.load(sources / "run" / CHECKPOINT)
    (sources / "w.pth").rename(sources / "elsewhere.pth")
    assert main([*options, "--resume"]) == 0
    assert checkpoint.load(sources / "run" / CHECKPOINT).header == before.header
    other = [*options[:-3], "0.4", "--std", "0.25", "--resume"]
    assert "can't resume: input.mean was [0.5, 0.5, 0.5], now [0.4, 0.4, 0.4];" in failure(capsys, main, *other)
    other = [*options, f"--init={sources / 'elsewhere.pth'}", "--resume"]
    assert "can't resume: it started from other weights than those of --init" in failure(capsys, main, *other)


def test_resumed_with_the_directory_of_its_weights(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And not with another one's, though the files are called the same."""
    for name, added in (("mine", 0), ("other", 1)):
        state = torch.load(sources / "w.pth")
        (sources / name).mkdir()
        save_file({key: value + added for key, value in state.items()}, sources / name / "model.safetensors")
    options = [*arguments(sources, init=sources / "mine"), "--mean", "0.5", "--std", "0.25"]
    assert main(options) == 0
    assert main([*options, "--resume"]) == 0
    other = [*options, f"--init={sources / 'other'}", "--resume"]
    assert "can't resume: it started from other weights than those of --init" in failure(capsys, main, *other)


def test_from_a_run_of_the_same_network(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(sources, init=sources / "w.pth"), "--mean", "0.5", "--std", "0.25"]) == 0
    assert main(arguments(sources, init=sources / "run" / CHECKPOINT, out=sources / "second")) == 0
    first, second = (checkpoint.load(sources / out / CHECKPOINT) for out in ("run", "second"))
    assert second.header.input == first.header.input
    assert second.header.origin == first.header.origin
    digest = hashlib.sha256((sources / "run" / CHECKPOINT).read_bytes()).hexdigest()
    assert second.header.sources["init"] == {
        "sha256": digest,
        "method": "cross-entropy",
        "epochs": 1,
        "sources": first.header.sources,
    }
    again = arguments(sources, init=sources / "second" / CHECKPOINT, out=sources / "second")
    assert "can't resume: it started from other weights" in failure(capsys, main, *again, "--resume")


def test_own_statistics_where_nothing_is_pretrained(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(sources)) == 0
    assert "weights: random, as it is initialised" in capsys.readouterr().out
    header = checkpoint.load(sources / "run" / CHECKPOINT).header
    values = colours(16).images.reshape(-1, 3) / 255
    assert header.input.mean == pytest.approx(values.mean(axis=0))
    assert "init" not in header.sources


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": "w.pth"}, r"needs --mean, --std: nothing says how its weights \(w\.pth\) were trained"),
        ({"init": "none.pth", "mean": 0.5, "std": 0.2}, r"none\.pth: no such file"),
        ({"init": "w.pth", "arch": "resnet20"}, r"w\.pth: --arch resnet20 starts from a checkpoint of `train`"),
        ({"key": "ema"}, "--key ema goes with a file of weights of others: --init FILE"),
        ({"arch": "tests.train.factories:Softmax"}, "are not the output of one last linear layer"),
        ({"freeze": "9"}, "--freeze 9: tests.train.factories:small has 2 stages: stem, hidden"),
        ({"freeze": "some"}, "freeze must be a number of stages or all-but-head, found 'some'"),
        ({"layer_decay": 0}, r"layer decay must be in \(0, 1\], found 0"),
        ({"backbone_rate": 2}, r"backbone rate must be in \(0, 1\], found 2"),
        ({"ema": 1}, r"ema must be in \[0, 1\), found 1"),
        ({"mixup": -1}, "mixup's alpha must not be negative, found -1"),
        ({"label_smoothing": 1}, r"label smoothing must be in \[0, 1\), found 1"),
        ({"augment": "randaugment"}, "--augment randaugment: expected crop-flip, photographs, none, cutout, trivial, pixmix"),
        ({"milestones": 1.5}, r"milestones must be in \(0, 1\), found \(1\.5,\)"),
        ({"learning_rate": "inf"}, "rates must be finite"),
        ({"resize_to": "big"}, "--resize-to big: expected a side such as 256, or HxW"),
        ({"arch": f"{ARCH}+nan:8", "method": "moco", "mixup": 0.2}, "--mixup 0.2: method 'moco' has no labels"),
        ({"arch": f"{ARCH}+nan:8", "method": "moco", "augment": "trivial"}, "--augment trivial: method 'moco' makes views"),
        ({"arch": f"{ARCH}+nan:8", "method": "moco", "flip": "alternating"}, "--flip alternating: method 'moco' makes views"),
        ({"arch": f"{ARCH}+nan:8", "method": "moco", "padding": 2}, "--padding 2: method 'moco' makes views"),
    ],
)  # fmt: skip
def test_refused(sources: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], message: str) -> None:
    if "init" in changes:
        changes = {**changes, "init": sources / str(changes["init"])}
    assert re.search(message, failure(capsys, main, *arguments(sources, **changes)))
