"""Networks of others: their last layer is found and replaced, their weights read, and a checkpoint builds them again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.train import factories
from train import models
from train.exceptions import ModelError
from train.models import Origin, Start, head

PLACE = "tests.train.factories"
IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def start(name: str, init: str | None = None, key: str | None = None) -> Start:
    return models.start(f"{PLACE}:{name}", init, key, (16, 16))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, factories.Small]:
    """A file with the weights of a network, and the network."""
    torch.manual_seed(7)
    network = factories.Small().eval()
    torch.save({"model": network.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    return tmp_path / "w.pth", network


@pytest.mark.parametrize(
    ("name", "layer", "inputs", "outputs"),
    [
        ("small", "other", 4, 5),
        ("Named", "other", 4, 5),
        ("Mapped", "other", 4, 5),
        ("Convolution", "head.1", 6, 5),
        ("Flattened", "head", 6, 5),
        ("Zeroed", "other", 4, 4),
        ("Shared", "other", 4, 5),
        ("kept", "other", 4, 5),
    ],
)
def test_the_last_layer_is_replaced(name: str, layer: str, inputs: int, outputs: int) -> None:
    started = start(name)
    assert (started.origin.head, started.classes) == (layer, outputs)
    assert started.told(3)[-1] == (
        f"last layer: {layer}, {inputs} -> {outputs}, replaced by one {inputs} -> 3 for the labels of the data"
    )
    model = models.make(f"{PLACE}:{name}", 3, started).eval()
    logits, penultimate = model(IMAGES)
    assert (logits.shape, penultimate.shape) == ((3, 3), (3, inputs))
    torch.testing.assert_close(logits, penultimate @ model.fc.weight.T + model.fc.bias)
    assert {key for key in model.state_dict() if "fc" in key} == {"fc.weight", "fc.bias"}
    assert not any(key.startswith(f"network.{layer}") for key in model.state_dict())


def test_what_the_last_layer_reads_is_the_penultimate() -> None:
    network = factories.Small().eval()
    model = models.foreign.Foreign(network, "other", 3).eval()
    torch.testing.assert_close(model(IMAGES)[1], network.features(IMAGES))


def test_of_a_map_the_mean() -> None:
    network = factories.Convolution().eval()
    expected = torch.relu(network.norm(network.stem(IMAGES))).mean((2, 3))
    model = models.foreign.Foreign(network, "head.1", 3).eval()
    torch.testing.assert_close(model(IMAGES)[1], expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Softmax", "are not the output of one last linear layer"),
        ("Scaled", "are not the output of one last linear layer"),
        ("Twice", "are not the output of one last linear layer"),
        ("Matrix", "are not the output of one last linear layer"),
        ("Bent", "are not the output of one last linear layer"),
        ("Map", r"returns no logits \[N, K\], but \[6, 16, 16\]"),
        ("Changing", "built a second time it is another network"),
        ("nobody", "expected package.module:factory or file.py:factory that can be imported .*nobody"),
    ],
)
def test_what_can_not_be_replaced(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"{re.escape(PLACE)}:{name}: .*{message}"):
        start(name)


def test_images_that_it_does_not_take() -> None:
    with pytest.raises(ModelError, match=r"Fixed: fails on an input of shape \[2, 3, 8, 8\]: The size of tensor a"):
        models.start(f"{PLACE}:Fixed", None, None, (8, 8))


def test_weights_of_a_file(saved: tuple[Path, factories.Small]) -> None:
    path, network = saved
    started = start("small", str(path))
    assert started.told(2)[0] == "weights: w.pth"
    model = models.make(f"{PLACE}:small", 2, started).eval()
    torch.testing.assert_close(model(IMAGES)[1], network.features(IMAGES))


def test_weights_for_other_classes_than_the_factory_has(saved: tuple[Path, factories.Small]) -> None:
    path, network = saved
    model = models.make(f"{PLACE}:small(classes=9)", 2, start("small(classes=9)", str(path))).eval()
    torch.testing.assert_close(model(IMAGES)[1], network.features(IMAGES))


def test_weights_without_a_last_layer(saved: tuple[Path, factories.Small], tmp_path: Path) -> None:
    _, network = saved
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("other")}
    torch.save(state, tmp_path / "backbone.pth")
    model = models.make(f"{PLACE}:small", 2, start("small", str(tmp_path / "backbone.pth"))).eval()
    torch.testing.assert_close(model(IMAGES)[1], network.features(IMAGES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"stem.weight": torch.zeros(6, 3, 5, 5)},
            r"1 of another shape: stem.weight \[6, 3, 5, 5\], not \[6, 3, 3, 3\]",
        ),
        ({"stem.weight": None}, "1 of the model are not in the file: stem.weight"),
        ({"more.weight": torch.zeros(2, 2)}, "1 of the file are not in the model: more.weight"),
    ],
)
def test_weights_of_another_network(
    saved: tuple[Path, factories.Small], tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    state = {name: value for name, value in {**saved[1].state_dict(), **change}.items() if value is not None}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=rf"other\.pth: the weights don't fit the model: .*{message}"):
        start("small", str(tmp_path / "other.pth"))


def test_the_entry_of_a_name(saved: tuple[Path, factories.Small], tmp_path: Path) -> None:
    averaged = {name: value + 1 for name, value in saved[1].state_dict().items()}
    torch.save({"state_dict": saved[1].state_dict(), "state_dict_ema": averaged}, tmp_path / "two.pth")
    started = start("small", str(tmp_path / "two.pth"), "state_dict_ema")
    torch.testing.assert_close(started.network.network.stem.weight, averaged["stem.weight"])  # type: ignore[union-attr]


def test_a_factory_that_reads_its_weights(saved: tuple[Path, factories.Small]) -> None:
    path, network = saved
    arch = f"{PLACE}:pretrained({str(path)!r})"
    started = models.start(arch, None, None, (16, 16))
    assert started.told(2)[0] == f"weights: {arch}, which read w.pth"
    model = models.make(arch, 2, started).eval()
    torch.testing.assert_close(model(IMAGES)[1], network.features(IMAGES))


def test_a_factory_that_reads_its_weights_in_a_way_of_its_own(
    saved: tuple[Path, factories.Small], tmp_path: Path
) -> None:
    """It is no less pretrained, and the input is to be said."""
    save_file(saved[1].state_dict(), tmp_path / "w.safetensors")
    arch = f"{PLACE}:opened({str(tmp_path / 'w.safetensors')!r})"
    started = models.start(arch, None, None, (16, 16))
    assert started.told(2)[0] == f"weights: {arch}, which read a file"


def test_a_checkpoint_does_not_read_them_again(saved: tuple[Path, factories.Small]) -> None:
    path, _ = saved
    arch = f"{PLACE}:pretrained({str(path)!r})"
    started = models.start(arch, None, None, (16, 16))
    model = models.make(arch, 2, started).eval()
    path.unlink()
    again = models.make(arch, 2, started.origin).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(IMAGES), model(IMAGES))


def test_random_weights_are_called_so() -> None:
    assert start("small").told(2)[0].startswith("weights: random")
    assert start("small").built.pretrained is None
    assert start("twins()").built.pretrained is None


def test_a_file_that_is_somewhere_else_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(factories.__file__).read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    started = models.start("mine.py:small", None, None, (16, 16))
    assert started.origin == Origin("other", str(tmp_path / "mine.py"))
    monkeypatch.chdir("/")
    assert isinstance(models.make("mine.py:small", 2, started.origin), nn.Module)
    (tmp_path / "mine.py").unlink()
    with pytest.raises(ModelError, match=rf"mine\.py: no such file.*it was {re.escape(str(tmp_path))}/mine\.py before"):
        models.make("mine.py:small", 2, started.origin)


def test_a_factory_that_builds_another_network_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(48, 7))\n"
    (tmp_path / "mine.py").write_text(source)
    origin = models.start("mine.py:build", None, None, (4, 4)).origin
    (tmp_path / "mine.py").write_text(source.replace("nn.Flatten(), nn.Linear(48, 7)", "nn.Flatten()"))
    with pytest.raises(ModelError, match=r"mine\.py:build: the network that it builds now has no layer 1, which"):
        models.make("mine.py:build", 2, origin)


def test_pretrained_is_of_libraries_that_have_networks_without() -> None:
    with pytest.raises(ModelError, match="--init pretrained goes with timm:NAME and torchvision:NAME"):
        start("small", "pretrained")


def test_layers_that_are_called_twice_are_not_the_last() -> None:
    layer = nn.Linear(4, 4)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4), layer, layer).eval()
    with pytest.raises(ModelError, match="not the output of one last linear layer"):
        head.find(network, IMAGES)


def test_torchvision(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    started = models.start("torchvision:mobilenet_v3_small", None, None, (32, 32))
    assert (started.origin.head, started.classes) == ("classifier.3", 1000)
    model = models.make("torchvision:mobilenet_v3_small", 3, started).eval()
    again = models.make("torchvision:mobilenet_v3_small", 3, started.origin).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(IMAGES), model(IMAGES))
    torch.save(started.network.network.state_dict(), tmp_path / "w.pth")
    of_file = models.start("torchvision:mobilenet_v3_small:IMAGENET1K_V1", str(tmp_path / "w.pth"), None, (32, 32))
    assert (of_file.built.pretrained, of_file.built.description.resize_to) == ("w.pth", 256)
    with pytest.raises(ModelError, match="--arch torchvision:resnet19: torchvision has no model 'resnet19'"):
        models.start("torchvision:resnet19", None, None, None)


def test_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    settings = {"depths": [1, 1], "hidden_sizes": [8, 12], "embedding_size": 8, "layer_type": "basic", "num_labels": 4}
    network = transformers.ResNetForImageClassification(transformers.ResNetConfig(**settings)).eval()
    network.save_pretrained(tmp_path / "hub")
    arch = f"hf:{tmp_path / 'hub'}"
    started = models.start(arch, None, None, (32, 32))
    assert started.origin.head == "network.classifier.1"
    assert started.told(3)[0] == f"weights: the directory {tmp_path / 'hub'}"
    model = models.make(arch, 3, started).eval()
    images = torch.randn(2, 3, 32, 32)
    features = network.resnet(images).pooler_output.flatten(1)
    torch.testing.assert_close(model(images)[1], features)
    (tmp_path / "hub").rename(tmp_path / "gone")
    again = models.make(arch, 3, started.origin).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(images), model(images))


def test_a_network_that_can_not_be_copied() -> None:
    """torch's old weight norm computes its weights anew in every pass."""
    made = start("normed")
    assert made.origin.head == "other"
    assert made.replaced(2)(IMAGES)[0].shape == (3, 2)
