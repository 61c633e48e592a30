"""Other libraries' models: with stand-ins for the libraries everywhere, and with themselves where they are installed."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from export.exceptions import ExportError
from export.from_torch.classifier import TorchClassifier
from export.from_torch.origin import Request, read
from tests.small import calibration_images
from train.descriptions.description import Description
from train.weights.fitting import Choice

SIDE = 16


class Network(nn.Module):
    """What the stand-ins build."""

    def __init__(self, num_classes: int = 3, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 6, 3)
        self.fc = nn.Linear(6, num_classes)
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.relu(self.conv(x)).mean(dim=(2, 3)))
        return logits


def library(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def weights_of(classifier: TorchClassifier) -> Tensor:
    return next(value for name, value in classifier.module.state_dict().items() if name.endswith("fc.weight"))


LABELS = Description(labels=("a", "b", "c"))


# --- torchvision


class Released(Enum):
    IMAGENET1K_V1 = "1"

    @property
    def meta(self) -> dict[str, Any]:
        return {"categories": ["cat", "dog", "ship"]}

    def transforms(self) -> Any:
        values = {"crop_size": [SIDE], "resize_size": [18], "mean": [0.5] * 3, "std": [0.25] * 3}
        return SimpleNamespace(**values, interpolation="bilinear")


class GoogLeNet(Network):
    """Undoes the normalisation if it is told so, and has no heads beside its own."""

    def __init__(self, num_classes: int, transform_input: bool, aux_logits: bool) -> None:
        super().__init__(num_classes)
        self.transform_input, self.aux_logits = transform_input, aux_logits


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(*, weights: Any = None, num_classes: int = 3) -> nn.Module:
        return Network(num_classes, seed=7 if weights else 0)

    def googlenet(
        *,
        weights: Any = None,
        num_classes: int = 3,
        transform_input: bool = False,
        aux_logits: bool = False,
        **_: Any,
    ) -> nn.Module:
        del weights
        return GoogLeNet(num_classes, transform_input, aux_logits)

    builders = {"small": small, "googlenet": googlenet}

    def builder(name: str) -> Any:
        if name not in builders:
            raise ValueError(f"Unknown model {name}")
        return builders[name]

    models = SimpleNamespace(
        get_model_builder=builder, get_model_weights=lambda _: Released, list_models=lambda **_: list(builders)
    )
    library(monkeypatch, "torchvision", models=models)


def file(path: Path, content: Any) -> Path:
    torch.save(content, path / "w.pth")
    return path / "w.pth"


@pytest.mark.usefixtures("torchvision")
def test_torchvisions_own_weights(capsys: pytest.CaptureFixture[str]) -> None:
    classifier = read(Request(None, "torchvision:small:IMAGENET1K_V1"), Description())
    assert torch.equal(weights_of(classifier), Network(seed=7).fc.weight)
    assert classifier.labels == ("cat", "dog", "ship")
    assert (classifier.input.height, classifier.input.resize_to, classifier.input.colour) == (SIDE, 18, "ignore")
    expected = (
        "note: weights of torchvision's small:IMAGENET1K_V1: from its cache, or downloaded where they are not there\n"
    )
    assert capsys.readouterr().out == expected


class Preset(SimpleNamespace):
    """A transform that can be run, and may do something else than its attributes say."""

    def __call__(self, image: Image.Image) -> npt.NDArray[np.float64]:
        width, height = image.size
        short, long = 18, int(18 * max(width, height) / min(width, height))
        size = (short, long) if width < height else (long, short)
        left, top = (round((side - SIDE) / 2) for side in size)
        found = image.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + SIDE, top + SIDE))
        return ((np.asarray(found) / 255 - 0.5) / 0.25).transpose(2, 0, 1) + self.more


@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize("more", [0.0, 0.1])
def test_a_transform_of_its_own_is_run_beside_the_bundles(monkeypatch: pytest.MonkeyPatch, more: float) -> None:
    preset = vars(Released.IMAGENET1K_V1.transforms())
    monkeypatch.setattr(Released, "transforms", lambda _: Preset(**preset, more=more))
    request = Request(None, "torchvision:small:IMAGENET1K_V1")
    if not more:
        assert any("own transform, run on drawn images" in remark for remark in read(request, Description()).remarks)
        return
    with pytest.raises(
        ExportError, match=r"torchvision small's own transform: .* grey levels; say what it should be by"
    ):
        read(request, Description())
    read(request, Description(mean=(0.1,) * 3, std=(0.2,) * 3))  # who says what the input is knows better


@pytest.mark.usefixtures("torchvision")
def test_torchvisions_transforms_for_other_weights_of_other_classes(tmp_path: Path) -> None:
    path = file(tmp_path, {"model": Network(5, seed=3).state_dict()})
    with pytest.raises(ExportError, match="--model needs --labels too"):
        read(Request(path, "torchvision:small:IMAGENET1K_V1"), Description())
    classifier = read(Request(path, "torchvision:small:IMAGENET1K_V1"), Description(labels=tuple("abcde")))
    assert torch.equal(weights_of(classifier), Network(5, seed=3).fc.weight)
    assert classifier.input.resize_to == 18
    assert not [remark for remark in classifier.remarks if "labels" in remark]  # those of the weights are none of it


@pytest.mark.usefixtures("torchvision")
def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**_: Any) -> nn.Module:
        raise OSError("Name or service not known")

    monkeypatch.setattr(sys.modules["torchvision"].models, "get_model_builder", lambda _: unreachable)
    with pytest.raises(
        ExportError, match=r"can't be downloaded \(Name or service not known\); .* give --checkpoint FILE"
    ):
        read(Request(None, "torchvision:small:IMAGENET1K_V1"), Description())


@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize(("released", "transformed"), [(":IMAGENET1K_V1", True), ("", False)])
def test_transform_input_comes_from_the_builder(tmp_path: Path, released: str, transformed: bool) -> None:
    path = file(tmp_path, Network().state_dict())
    given = Description(labels=("a", "b", "c"), size=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.5,) * 3, resize="squash")
    classifier = read(Request(path, f"torchvision:googlenet{released}"), given)
    assert isinstance(classifier.module, GoogLeNet)
    assert (classifier.module.transform_input, classifier.module.aux_logits) == (transformed, False)
    assert any("transform_input is off" in remark for remark in classifier.remarks) != transformed


@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("torchvision:smal", "torchvision has no model 'smal'"),
        ("torchvision:small:V9", "no weights 'V9'; there are IMAGENET1K_V1"),
        ("torchvision:small", "which weights.*small:WEIGHTS, of IMAGENET1K_V1"),
    ],
)
def test_what_torchvision_has_not(target: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        read(Request(None, target), Description())


@pytest.mark.usefixtures("torchvision")
def test_a_checkpoint_of_torchvisions_references(tmp_path: Path) -> None:
    arguments = Namespace(model="small", val_crop_size=SIDE, val_resize_size=20, interpolation="bicubic")
    content = {"model": Network(seed=1).state_dict(), "model_ema": {}, "epoch": 3, "args": arguments}
    classifier = read(Request(file(tmp_path, content)), LABELS)
    assert torch.equal(weights_of(classifier), Network(seed=1).fc.weight)
    assert (classifier.input.resize_to, classifier.input.interpolation) == (20, "bicubic")
    assert any("the file says that it is torchvision's small" in remark for remark in classifier.remarks)


# --- timm


def _among(given: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in known}


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"input_size": (3, SIDE, SIDE), "crop_pct": 0.8, "crop_mode": "center", "interpolation": "bicubic"}
    known |= {"mean": (0.5,) * 3, "std": (0.25,) * 3, "classifier": "fc", "first_conv": "conv"}

    def create_model(
        name: str, pretrained: bool = False, pretrained_cfg: Any = None, num_classes: int = 3
    ) -> nn.Module:
        if name != "small":
            raise RuntimeError(f"Unknown model ({name})")
        module = Network(num_classes, seed=7 if pretrained else 0)
        module.pretrained_cfg = known | (pretrained_cfg or {})  # type: ignore[assignment]
        return module

    data = SimpleNamespace(
        resolve_data_config=lambda given, pretrained_cfg: (
            known | pretrained_cfg | {k: v for k, v in given.items() if k in known}
        ),
        infer_imagenet_subset=lambda module: "imagenet-3" if module.num_classes == 3 else None,
        ImageNetInfo=lambda _: SimpleNamespace(label_descriptions=lambda: ["tench", "goldfish", "shark"]),
    )
    settings = SimpleNamespace(to_dict=lambda: known)
    library(monkeypatch, "timm", create_model=create_model, data=data, get_pretrained_cfg=lambda _: settings)


@pytest.mark.usefixtures("timm")
def test_timms_own_weights() -> None:
    classifier = read(Request(None, "timm:small"), Description())
    assert torch.equal(weights_of(classifier), Network(seed=7).fc.weight)
    assert classifier.labels == ("tench", "goldfish", "shark")
    assert (classifier.input.resize_to, classifier.input.interpolation) == (20, "bicubic")


@pytest.mark.usefixtures("timm")
def test_timms_network_with_as_many_classes_as_the_weights(tmp_path: Path) -> None:
    path = file(tmp_path, {f"module.{k}": v for k, v in Network(5, seed=3).state_dict().items()})
    classifier = read(Request(path, "timm:small"), Description(labels=tuple("abcde")))
    assert torch.equal(weights_of(classifier), Network(5, seed=3).fc.weight)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(("averaged", "seed"), [(False, 1), (True, 2)])
def test_a_checkpoint_of_timms_training(tmp_path: Path, averaged: bool, seed: int) -> None:
    content = {
        "arch": "small",
        "args": Namespace(model="small", crop_pct=0.5, img_size=None, output=Path("out")),
        "state_dict": Network(seed=1).state_dict(),
        "state_dict_ema": Network(seed=2).state_dict(),
    }
    classifier = read(Request(file(tmp_path, content), choice=Choice(averaged)), LABELS)
    assert torch.equal(weights_of(classifier), Network(seed=seed).fc.weight)
    assert classifier.input.resize_to == 32
    assert any("state_dict_ema" in remark for remark in classifier.remarks)


@pytest.mark.usefixtures("timm")
def test_what_timms_training_gave_the_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    create = sys.modules["timm"].create_model
    monkeypatch.setattr(
        sys.modules["timm"],
        "create_model",
        lambda name, num_classes, **options: [given.update(options), create(name, num_classes=num_classes)][1],
    )
    args = Namespace(model="small", img_size=SIDE, gp="max", model_kwargs={"depth": 2})
    content = {"arch": "small", "args": args, "state_dict": Network(seed=1).state_dict()}
    read(Request(file(tmp_path, content)), LABELS)
    assert given == {"depth": 2, "global_pool": "max"}


@pytest.mark.usefixtures("timm")
def test_a_hub_directory(tmp_path: Path) -> None:
    config = {
        "architecture": "small",
        "num_classes": 2,
        "label_names": ["cat", "dog"],
        "pretrained_cfg": {"crop_pct": 1.0},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(Network(2, seed=4).state_dict(), tmp_path / "pytorch_model.bin")
    for path in (tmp_path, tmp_path / "pytorch_model.bin"):
        classifier = read(Request(path), Description())
        assert torch.equal(weights_of(classifier), Network(2, seed=4).fc.weight)
        assert (classifier.labels, classifier.input.resize_to) == (("cat", "dog"), SIDE)


@pytest.mark.usefixtures("timm")
def test_a_classifier_of_a_library_as_an_extractor(tmp_path: Path) -> None:
    """Without classes the features are what its last layer reads; of a network without a head they are wanted so."""
    config = {"architecture": "small", "num_classes": 2, "label_names": ["cat", "dog"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(Network(2, seed=4).state_dict(), tmp_path / "pytorch_model.bin")
    whole, extractor = (read(Request(tmp_path), given) for given in (Description(), Description(task="unlabelled")))
    logits, features = extractor.run(calibration_images(2))
    assert (logits.shape, extractor.labels, extractor.task) == ((2, 0), (), "unlabelled")
    np.testing.assert_array_equal(features, whole.run(calibration_images(2))[1])
    assert [output.name for output in extractor.graph().graph.output] == ["penultimate"]
    assert any("features: what its last layer reads" in remark for remark in extractor.remarks)


@pytest.mark.usefixtures("timm")
def test_a_directory_of_transformers_wrapper_of_timm(tmp_path: Path) -> None:
    config = {
        "architecture": "small",
        "architectures": ["TimmWrapperForImageClassification"],
        "model_type": "timm_wrapper",
        "crop_pct": 0.1,  # none of timm's settings, here
        "num_classes": 2,
        "label_names": ["cat", "dog"],
    }
    state = {f"timm_model.{name}": value for name, value in Network(2, seed=4).state_dict().items()}
    torch.save(state, tmp_path / "pytorch_model.bin")
    for settings, resized in ({}, 20), ({"pretrained_cfg": {"crop_pct": 1.0}}, SIDE):
        (tmp_path / "config.json").write_text(json.dumps(config | settings))
        classifier = read(Request(tmp_path), Description())
        assert torch.equal(weights_of(classifier), Network(2, seed=4).fc.weight)
        assert (classifier.labels, classifier.input.resize_to) == (("cat", "dog"), resized)


class Branches(Network):
    """Two convolutions whose outputs are added; what is fused of them has one."""

    def __init__(self, num_classes: int = 3, seed: int = 0) -> None:
        super().__init__(num_classes, seed)
        self.second = nn.Conv2d(3, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.relu(self.conv(x) + self.second(x)).mean(dim=(2, 3)))
        return logits


def fused(module: nn.Module) -> nn.Module:
    """What timm's reparameterize_model does to :class:`Branches`, and leaves of others."""
    if not isinstance(module, Branches):
        return module
    found = Network(module.num_classes)
    found.load_state_dict({name: value for name, value in module.state_dict().items() if "second" not in name})
    with torch.no_grad():
        found.conv.weight += module.second.weight
        found.conv.bias += module.second.bias  # type: ignore[operator]
    found.reparam_conv = found.conv
    del found.conv
    found.forward = lambda x: found.fc(torch.relu(found.reparam_conv(x)).mean(dim=(2, 3)))  # type: ignore[method-assign]
    return found


@pytest.mark.usefixtures("timm")
def test_weights_of_blocks_fused_for_inference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Branches(seed=6).eval()
    path = file(tmp_path, {"state_dict": fused(trained).state_dict()})
    monkeypatch.setattr(sys.modules["timm"], "create_model", lambda _, **options: Branches(options["num_classes"]))
    with pytest.raises(ExportError, match=r"not in the file.*they are of blocks fused for inference: let the factory"):
        read(Request(path, "timm:small"), LABELS)
    monkeypatch.setattr(sys.modules["timm"], "utils", SimpleNamespace(reparameterize_model=fused), raising=False)
    classifier = read(Request(path, "timm:small"), LABELS)
    assert "the weights are of Branches after timm's reparameterize_model: so is the network" in classifier.remarks
    images = calibration_images(3)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(value)[:, None, None] for value in (classifier.input.mean, classifier.input.std))
    with torch.no_grad():
        expected = trained((pixels - mean) / std)
    np.testing.assert_allclose(classifier.run(images)[0], expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("timm")
def test_weights_that_fit_neither_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["timm"], "utils", SimpleNamespace(reparameterize_model=fused), raising=False)
    state = {name.replace("conv", "another"): value for name, value in Network().state_dict().items()}
    with pytest.raises(
        ExportError, match=r"the weights don't fit the model: 2 of 4 do; 2 of the model are not in the file"
    ):
        read(Request(file(tmp_path, state), "timm:small"), LABELS)


@pytest.mark.usefixtures("timm")
def test_a_network_that_timm_has_not() -> None:
    with pytest.raises(ExportError, match=r"timm can't build smal: Unknown model \(smal\)"):
        read(Request(None, "timm:smal"), Description())


# --- transformers


class Pretrained(Network):
    config = SimpleNamespace(num_channels=3)

    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(logits=super().forward(x))


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the stand-in was asked, and what it answers that it did not find."""
    record: dict[str, Any] = {"found": {}}

    class Auto:
        @staticmethod
        def from_pretrained(_: Path, **options: Any) -> Any:
            record["options"] = options
            return Pretrained(seed=5), record["found"]

    class Processor:
        @staticmethod
        def from_pretrained(path: Path, **__: Any) -> Any:
            settings = json.loads((path / "preprocessor_config.json").read_text())
            return SimpleNamespace(to_dict=lambda: settings, backend="pil")

    silent = dict.fromkeys(
        ("get_verbosity", "set_verbosity_error", "disable_progress_bar", "enable_progress_bar"), lambda: 0
    )
    library(
        monkeypatch,
        "transformers",
        AutoModelForImageClassification=Auto,
        AutoImageProcessor=Processor,
        logging=SimpleNamespace(**silent, set_verbosity=lambda _: None),
    )
    return record


PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": SIDE, "width": SIDE},
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}


def directory(path: Path, **changes: Any) -> Path:
    config = {
        "architectures": ["SmallForImageClassification"],
        "model_type": "small",
        "id2label": {0: "a", 1: "b", 2: "c"},
    }
    (path / "config.json").write_text(json.dumps(config | changes))
    (path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return path


def test_a_directory_of_transformers(tmp_path: Path, transformers: dict[str, Any]) -> None:
    classifier = read(Request(directory(tmp_path, problem_type="multi_label_classification")), Description())
    assert (classifier.labels, classifier.task) == (("a", "b", "c"), "multilabel")
    assert (classifier.input.height, classifier.input.resize, classifier.input.resampler) == (SIDE, "squash", "pillow")
    options = transformers["options"]
    assert (options["local_files_only"], options["attn_implementation"], options["dtype"]) == (
        True,
        "eager",
        torch.float32,
    )
    assert "trust_remote_code" not in options
    assert classifier.run(calibration_images(2))[0].shape == (2, 3)


@pytest.mark.parametrize("what", ["missing_keys", "mismatched_keys"])
def test_a_head_that_would_be_random(tmp_path: Path, transformers: dict[str, Any], what: str) -> None:
    transformers["found"] = {what: ["classifier.weight"]}
    with pytest.raises(ExportError, match=r"weights of Pretrained are not in its files, such as classifier\.weight"):
        read(Request(directory(tmp_path)), Description())


@pytest.mark.usefixtures("transformers")
def test_a_backbone_without_a_head(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"config\.json says SmallModel, which has no classes"):
        read(Request(directory(tmp_path, architectures=["SmallModel"])), Description())


def test_code_in_a_directory_runs_only_where_it_is_trusted(tmp_path: Path, transformers: dict[str, Any]) -> None:
    path = directory(tmp_path, auto_map={"AutoModelForImageClassification": "modeling.Mine"})
    with pytest.raises(
        ExportError, match=r"its model is code in the directory \(modeling\.Mine\), which --trust would"
    ):
        read(Request(path), Description())
    assert "options" not in transformers
    read(Request(path, trust=True), Description())
    assert transformers["options"]["trust_remote_code"] is True


@pytest.mark.usefixtures("transformers")
def test_a_directory_without_a_processor_says_so(tmp_path: Path) -> None:
    path = directory(tmp_path)
    (path / "preprocessor_config.json").unlink()
    with pytest.raises(ExportError, match=r"needs --size.* too: .*there is no preprocessor_config\.json") as caught:
        read(Request(path), Description())
    assert "--model" not in str(caught.value)


@pytest.mark.usefixtures("transformers")
def test_a_trainers_checkpoint_has_its_processor_above(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-500"
    checkpoint.mkdir()
    (directory(checkpoint) / "preprocessor_config.json").rename(tmp_path / "preprocessor_config.json")
    classifier = read(Request(checkpoint), Description())
    assert classifier.input.height == SIDE
    assert any("is that of" in remark and str(tmp_path) in remark for remark in classifier.remarks)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "model.safetensors",
            b"version https://git-lfs.github.com/spec/v1",
            "model.safetensors is a pointer of Git LFS",
        ),
        ("flax_model.msgpack", b"x", "its weights are Flax's"),
        ("adapter_config.json", b"{}", "its weights are an adapter of PEFT without the model"),
        ("README.md", b"x", "no such weights"),
    ],
)
def test_what_is_in_place_of_weights(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    transformers: dict[str, Any],
    name: str,
    content: bytes,
    message: str,
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError("no such weights")

    del transformers
    monkeypatch.setattr(sys.modules["transformers"].AutoModelForImageClassification, "from_pretrained", fails)
    (directory(tmp_path) / name).write_bytes(content)
    with pytest.raises(ExportError, match=f"transformers can't load it: {message}"):
        read(Request(tmp_path), Description())


@pytest.mark.usefixtures("transformers")
def test_what_a_processor_can_not_say_the_options_do(tmp_path: Path) -> None:
    path = directory(tmp_path)
    (path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | {"do_pad": True}))
    with pytest.raises(ExportError, match=r"needs --size, --mean, --std and --resize-to too: .*do_pad") as caught:
        read(Request(path), Description())
    assert str(caught.value).startswith(str(path))
    given = Description(size=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.5,) * 3, resize="squash")
    classifier = read(Request(path), given)
    assert any("do_pad" in remark for remark in classifier.remarks)


# --- themselves


def test_squeezenet_of_torchvision(tmp_path: Path) -> None:
    installed = pytest.importorskip("torchvision")
    module = installed.models.squeezenet1_1(num_classes=3).eval()
    given = Description(labels=("a", "b", "c"), size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3, resize="squash")
    classifier = read(Request(file(tmp_path, module.state_dict()), "torchvision:squeezenet1_1"), given)
    images = calibration_images(3).repeat(4, axis=1).repeat(4, axis=2)
    logits, penultimate = classifier.run(images)
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), module(x))
        torch.testing.assert_close(torch.from_numpy(penultimate), module.features(x).mean(dim=(2, 3)))


def test_two_heads_of_transformers(tmp_path: Path) -> None:
    installed = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = installed.DeiTConfig(**sizes, image_size=16, patch_size=8, id2label={0: "a", 1: "b"})
    module = installed.DeiTForImageClassificationWithTeacher(config).eval()
    module.save_pretrained(tmp_path)
    installed.DeiTImageProcessor(size=_square(18), crop_size=_square(16)).save_pretrained(tmp_path)
    classifier = read(Request(tmp_path), Description())
    logits, penultimate = classifier.run(calibration_images(3))
    x = torch.from_numpy(calibration_images(3)).permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.no_grad():
        hidden = module.deit(x).last_hidden_state
        torch.testing.assert_close(torch.from_numpy(logits), module(x).logits)
        torch.testing.assert_close(torch.from_numpy(penultimate), hidden[:, :2].flatten(1))
    assert (classifier.input.resize_to, classifier.input.corner) == ((18, 18), "floor")


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


@pytest.mark.parametrize("name", ["repvgg_a0", "mobileone_s0", "fastvit_t8"])
def test_timms_own_blocks_fused(tmp_path: Path, name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3).eval()
    path = file(tmp_path, timm.utils.reparameterize_model(network).state_dict())
    classifier = read(Request(path, f"timm:{name}"), Description(labels=("a", "b", "c")))
    assert any("after timm's reparameterize_model" in remark for remark in classifier.remarks)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(classifier.module.eval()(pixels), network(pixels), rtol=1e-3, atol=1e-3)
