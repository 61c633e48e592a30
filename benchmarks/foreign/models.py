"""Classifiers as their owners have them: files of each library, and its own transform and network to compare with."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

Logits = Callable[[Path], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Case:
    """Options of the export for files that are there now, and what the library itself answers to an image file."""

    options: list[str]
    logits: Logits


Maker = Callable[[Path], Case]
CASES: dict[str, Maker] = {}


def case(name: str) -> Callable[[Maker], Maker]:
    def register(maker: Maker) -> Maker:
        CASES[name] = maker
        return maker

    return register


def spread(module: nn.Module, side: int = 96) -> nn.Module:
    """Random weights whose logits differ between images: batch normalisation knows the statistics of noisy images."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.3)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        for layer in norms:
            layer.momentum = None  # the mean of all batches, however slow a network's own is
        if norms:
            coarse = torch.randn(8, 3, side // 16, side // 16)
            smooth = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
            images = smooth + 0.2 * torch.randn(8, 3, side, side)
            module.train()
            for _ in range(30):
                module(images)
    return module.eval()


def by(transform: Callable[[Image.Image], torch.Tensor], module: Callable[[torch.Tensor], Any]) -> Logits:
    def logits(path: Path) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            output = module(transform(Image.open(path).convert("RGB"))[None])
        found: npt.NDArray[np.float32] = getattr(output, "logits", output).float().numpy()[0]
        return found

    return logits


def names(folder: Path, count: int) -> list[str]:
    path = folder / "names.txt"
    path.write_text("".join(f"class {i}\n" for i in range(count)))
    return ["--labels", str(path)]


# --- torchvision


def _torchvision(
    name: str, released: str, *, file: Path | None = None, state: Callable[[dict[str, Any]], Any] = dict
) -> Maker:
    def make(folder: Path) -> Case:
        import torchvision

        weights = torchvision.models.get_model_weights(name)[released]
        options = {"transform_input": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        module = torchvision.models.get_model(name, weights=None, **options)
        path = file or folder / f"{name}.pth"
        if file:
            module.load_state_dict(torch.load(file, weights_only=True))
        else:
            torch.save(state(spread(module).state_dict()), path)
        if hasattr(module, "aux_logits"):
            module.aux_logits = False
        argv = ["--model", f"torchvision:{name}:{released}", "--checkpoint", str(path)]
        return Case(argv, by(weights.transforms(), module.eval()))

    return make


CASES["torchvision resnet18, of DataParallel"] = _torchvision(
    "resnet18", "IMAGENET1K_V1", state=lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}}
)
CASES["torchvision squeezenet1_1: a convolution is the head"] = _torchvision("squeezenet1_1", "IMAGENET1K_V1")
CASES["torchvision googlenet: transform_input, auxiliary heads"] = _torchvision("googlenet", "IMAGENET1K_V1")
CASES["torchvision shufflenet_v2_x0_5"] = _torchvision("shufflenet_v2_x0_5", "IMAGENET1K_V1")
CASES["torchvision regnet_y_400mf, V2: resize 232"] = _torchvision("regnet_y_400mf", "IMAGENET1K_V2")


def mobilenet(path: Path) -> None:
    """torchvision's own weights of MobileNetV2, where they are."""
    CASES["torchvision mobilenet_v2, real weights"] = _torchvision("mobilenet_v2", "IMAGENET1K_V1", file=path)


@case("torchvision references: its arguments are in the checkpoint")
def _reference(folder: Path) -> Case:
    import torchvision
    from torchvision.transforms._presets import ImageClassification

    module = spread(torchvision.models.mobilenet_v3_small(num_classes=7))
    arguments = Namespace(
        model="mobilenet_v3_small",
        val_resize_size=160,
        val_crop_size=128,
        interpolation="bicubic",
        output_dir=Path("out"),
    )
    torch.save(
        {"model": module.state_dict(), "epoch": 3, "args": arguments, "optimizer": {"state": {}}}, folder / "model.pth"
    )
    preset = ImageClassification(
        crop_size=128, resize_size=160, interpolation=torchvision.transforms.InterpolationMode.BICUBIC
    )
    return Case(["--checkpoint", str(folder / "model.pth"), *names(folder, 7)], by(preset, module))


# --- timm


def _timm_logits(module: nn.Module, **arguments: Any) -> Logits:
    import timm

    config = timm.data.resolve_data_config(arguments, model=module)
    return by(timm.data.create_transform(**config, is_training=False), module)


def _timm(name: str, **options: Any) -> Maker:
    def make(folder: Path) -> Case:
        import timm

        module = timm.create_model(name, num_classes=6, **options)
        module = spread(module, module.pretrained_cfg["input_size"][-1])
        torch.save(module.state_dict(), folder / "w.pth")
        argv = ["--model", f"timm:{name}", "--checkpoint", str(folder / "w.pth"), *names(folder, 6)]
        return Case(argv, _timm_logits(module))

    return make


for _name in ("resnet10t", "test_vit", "test_convnext", "test_efficientnet", "mobilenetv3_small_050", "levit_128s"):
    CASES[f"timm {_name}"] = _timm(_name)


@case("timm hub directory, crop_mode squash, labels in config.json")
def _hub(folder: Path) -> Case:
    import timm
    from timm.models import save_for_hf

    overlay = {"crop_mode": "squash", "crop_pct": 0.95, "interpolation": "bilinear", "input_size": (3, 96, 128)}
    module = spread(timm.create_model("test_resnet", num_classes=4, pretrained_cfg_overlay=overlay))
    save_for_hf(module, folder / "hub", model_config={"label_names": ["a", "b", "c", "d"]})
    return Case(["--checkpoint", str(folder / "hub")], _timm_logits(module))


@case("timm hub directory, crop_mode border")
def _border(folder: Path) -> Case:
    import timm
    from timm.models import save_for_hf

    overlay = {"crop_mode": "border", "crop_pct": 1.0}
    module = spread(timm.create_model("test_resnet", num_classes=4, pretrained_cfg_overlay=overlay))
    save_for_hf(module, folder / "hub", model_config={"label_names": ["a", "b", "c", "d"]})
    return Case(["--checkpoint", str(folder / "hub")], _timm_logits(module))


@case("timm train.py, --ema")
def _training(folder: Path) -> Case:
    import timm

    module = spread(timm.create_model("test_byobnet", num_classes=5))
    plain = {name: value * 0 for name, value in module.state_dict().items()}
    averaged = {f"module.{name}": value for name, value in module.state_dict().items()}
    arguments = Namespace(
        model="test_byobnet", num_classes=5, img_size=None, crop_pct=0.9, mean=[0.5], std=[0.25], ema=True
    )
    found = {"arch": "test_byobnet", "epoch": 9, "state_dict": plain, "state_dict_ema": averaged, "args": arguments}
    torch.save(found, folder / "model_best.pth.tar")
    argv = ["--checkpoint", str(folder / "model_best.pth.tar"), "--ema", *names(folder, 5)]
    return Case(argv, _timm_logits(module, crop_pct=0.9, mean=[0.5], std=[0.25]))


# --- any torch network


class Small(nn.Module):
    """Of somebody: `channels` in, 5 classes."""

    def __init__(self, channels: int = 3, features: int = 16, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, features, 5, 2), nn.ReLU(), nn.Conv2d(features, features, 3, 2), nn.ReLU()
        )
        self.fc = nn.Linear(features, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.stem(x).mean(dim=(2, 3)))
        return logits


_INPUT = [
    "--size",
    "96x128",
    "--resize-to",
    "110x150",
    "--mean",
    "0.4",
    "0.5",
    "0.6",
    "--std",
    "0.2",
    "0.3",
    "0.25",
    "--colour",
    "ignore",
]


def _transform(channels: int = 3) -> Callable[[Image.Image], torch.Tensor]:
    from torchvision import transforms as t

    first = [t.Grayscale(1)] if channels == 1 else []
    mean, std = ([0.4], [0.2]) if channels == 1 else ([0.4, 0.5, 0.6], [0.2, 0.3, 0.25])
    return t.Compose([t.Resize((110, 150)), t.CenterCrop((96, 128)), *first, t.ToTensor(), t.Normalize(mean, std)])


_FACTORY = str(Path(__file__).resolve())


@case("a factory with arguments, Lightning's .ckpt, 96 x 128")
def _lightning(folder: Path) -> Case:
    module = spread(Small(features=24))
    found = {"pytorch-lightning_version": "2.6", "state_dict": {f"net.{k}": v for k, v in module.state_dict().items()}}
    torch.save(
        found | {"hyper_parameters": {"lr": 0.1}, "loops": {}, "callbacks": {"x": Path("y")}}, folder / "last.ckpt"
    )
    argv = ["--model", f"{_FACTORY}:Small(features=24)", "--checkpoint", str(folder / "last.ckpt"), *names(folder, 5)]
    return Case([*argv, *_INPUT], by(_transform(), module))


@case("a whole model, pickled, with --model")
def _whole(folder: Path) -> Case:
    module = spread(Small())
    torch.save(module, folder / "whole.pth")
    argv = ["--model", f"{_FACTORY}:Small", "--checkpoint", str(folder / "whole.pth"), *names(folder, 5), *_INPUT]
    return Case(argv, by(_transform(), module))


@case("TorchScript, scripted")
def _scripted(folder: Path) -> Case:
    module = spread(Small())
    torch.jit.script(module).save(str(folder / "m.pt"))  # type: ignore[no-untyped-call]
    return Case(["--checkpoint", str(folder / "m.pt"), *names(folder, 5), *_INPUT], by(_transform(), module))


@case("TorchScript, traced")
def _traced(folder: Path) -> Case:
    module = spread(Small())
    torch.jit.trace(module, torch.zeros(1, 3, 96, 128)).save(str(folder / "m.pt"))  # type: ignore[no-untyped-call]
    return Case(["--checkpoint", str(folder / "m.pt"), *names(folder, 5), *_INPUT], by(_transform(), module))


@case("torch.export .pt2")
def _program(folder: Path) -> Case:
    module = spread(Small())
    sizes = ({0: torch.export.Dim("N")},)
    torch.export.save(
        torch.export.export(module, (torch.zeros(2, 3, 96, 128),), dynamic_shapes=sizes), folder / "m.pt2"
    )
    return Case(["--checkpoint", str(folder / "m.pt2"), *names(folder, 5), *_INPUT], by(_transform(), module))


@case("float16 weights and module")
def _half(folder: Path) -> Case:
    module = spread(Small()).half()
    torch.save(module.state_dict(), folder / "w.pth")
    argv = ["--model", f"{_FACTORY}:Small", "--checkpoint", str(folder / "w.pth"), *names(folder, 5), *_INPUT]
    return Case(argv, by(_transform(), module.float()))


@case("greyscale, found by trying")
def _grey(folder: Path) -> Case:
    module = spread(Small(1))
    torch.save(module.state_dict(), folder / "w.pth")
    size = ["--size", "96x128", "--resize-to", "110x150", "--mean", "0.4", "--std", "0.2", "--colour", "ignore"]
    argv = ["--model", f"{_FACTORY}:Small(1)", "--checkpoint", str(folder / "w.pth"), *names(folder, 5), *size]
    return Case(argv, by(_transform(1), module))


@case("BGR of 0 to 255, less Caffe's mean")
def _bgr(folder: Path) -> Case:
    module = spread(Small())
    torch.save(module.state_dict(), folder / "w.pth")
    size = ["--size", "96x128", "--resize-to", "110x150", "--colour", "ignore", "--channels", "bgr"]
    mean = ["--mean", *(str(v / 255) for v in (123.68, 116.779, 103.939)), "--std", *[str(1 / 255)] * 3]
    argv = ["--model", f"{_FACTORY}:Small", "--checkpoint", str(folder / "w.pth"), *names(folder, 5), *size, *mean]

    def transform(image: Image.Image) -> torch.Tensor:
        from torchvision import transforms as t

        resized = t.Compose([t.Resize((110, 150)), t.CenterCrop((96, 128))])(image)
        pixels = np.asarray(resized, np.float32)[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    return Case(argv, by(transform, module))


class ChannelsLast(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 3, 1, 2))


@case("NHWC, found by trying")
def _nhwc(folder: Path) -> Case:
    module = spread(ChannelsLast())
    torch.save(module.state_dict(), folder / "w.pth")
    argv = ["--model", f"{_FACTORY}:ChannelsLast", "--checkpoint", str(folder / "w.pth"), *names(folder, 5), *_INPUT]
    transform = _transform()
    return Case(argv, by(lambda image: transform(image).permute(1, 2, 0), module))


def lite0(file: Path) -> None:
    """EfficientNet-lite0 with its real weights, where its package is."""

    @case("EfficientNet-lite0, real weights, a factory of its package")
    def _lite0(folder: Path) -> Case:
        from efficientnet_lite_pytorch import EfficientNet
        from torchvision import transforms as t

        (folder / "lite0_factory.py").write_text(
            "def make():\n"
            "    from efficientnet_lite_pytorch import EfficientNet\n"
            "    return EfficientNet.from_name('efficientnet-lite0')\n"
        )
        module = EfficientNet.from_name("efficientnet-lite0")
        module.load_state_dict(torch.load(file, weights_only=True))
        transform = t.Compose(
            [t.Resize(256), t.CenterCrop(224), t.ToTensor(), t.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
        )
        argv = ["--model", f"{folder / 'lite0_factory.py'}:make", "--checkpoint", str(file), *names(folder, 1000)]
        size = [
            "--size",
            "224",
            "--resize-to",
            "256",
            "--mean",
            "0.485",
            "0.456",
            "0.406",
            "--std",
            "0.229",
            "0.224",
            "0.225",
            "--colour",
            "ignore",
        ]
        return Case([*argv, *size], by(transform, module.eval()))


# --- transformers


def _directory(kind: str, processor: str, config: dict[str, Any], settings: dict[str, Any], suffix: str = "") -> Maker:
    def make(folder: Path) -> Case:
        import transformers

        labels = {i: f"class {i}" for i in range(5)}
        made = getattr(transformers, f"{kind}Config")(
            **config, id2label=labels, label2id={v: k for k, v in labels.items()}
        )
        module = spread(getattr(transformers, f"{kind}ForImageClassification{suffix}")(made))
        path = folder / "directory"
        module.save_pretrained(path)
        getattr(transformers, f"{processor}ImageProcessor")(**settings).save_pretrained(path)
        loaded = transformers.AutoImageProcessor.from_pretrained(path, local_files_only=True)
        transform = lambda image: loaded(images=image, return_tensors="pt")["pixel_values"][0]  # noqa: E731
        return Case(["--checkpoint", str(path)], by(transform, module))

    return make


_VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "patch_size": 16}
_SWIN = {"patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "image_size": 64}
_STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


_CUT = {"size": {"shortest_edge": 109}, "crop_size": _square(96)}
_TRANSFORMERS: dict[str, tuple[Any, ...]] = {
    "ViT": ("ViT", "ViT", _VIT | {"image_size": 96}, {"size": _square(96)}),
    "DeiT, two heads": (
        "DeiT",
        "DeiT",
        _VIT | {"image_size": 96},
        {"size": _square(110), "crop_size": _square(96)},
        "WithTeacher",
    ),
    "Swin": ("Swin", "ViT", _SWIN, {"size": _square(64), "resample": 3}),
    "ConvNeXt, crop_pct": ("ConvNext", "ConvNext", _STAGES, {"size": {"shortest_edge": 96}, "crop_pct": 0.875}),
    "ResNet": (
        "ResNet",
        "ConvNext",
        _STAGES | {"embedding_size": 8},
        {"size": {"shortest_edge": 96}, "crop_pct": 0.95},
    ),
    "BEiT": ("Beit", "Beit", _VIT | {"image_size": 96}, {"size": _square(96), "do_center_crop": False}),
    "MobileNetV2": ("MobileNetV2", "MobileNetV2", {"depth_multiplier": 0.35, "image_size": 96}, _CUT),
    "EfficientNet, normalised twice": (
        "EfficientNet",
        "EfficientNet",
        {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320, "image_size": 96},
        {"size": _square(96), "resample": 2, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.5, 0.6, 0.7]},
    ),
    "SegFormer": ("Segformer", "Segformer", _STAGES | {"num_attention_heads": [1, 2, 3, 4]}, {"size": _square(96)}),
    "BiT": ("Bit", "Bit", {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1]}, _CUT),
    "LeViT, two heads": (
        "Levit",
        "Levit",
        {
            **{"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1]},
            **{"key_dim": [8, 8, 8], "down_ops": [["Subsample", 8, 2, 4, 2, 2], ["Subsample", 8, 3, 4, 2, 2]]},
        },
        {"size": {"shortest_edge": 64}, "crop_size": _square(64)},
        "WithTeacher",
    ),
    "CvT": (
        "Cvt",
        "ConvNext",
        {"embed_dim": [16, 24, 32], "num_heads": [1, 2, 2], "depth": [1, 1, 1]},
        {"size": {"shortest_edge": 64}, "crop_pct": 0.875},
    ),
    "MobileViT, BGR": (
        "MobileViT",
        "MobileViT",
        {"image_size": 96, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32]},
        _CUT,
    ),
}
for _title, _arguments in _TRANSFORMERS.items():
    CASES[f"transformers {_title}"] = _directory(*_arguments)


@case("transformers ViT, bfloat16 weights, multi-label")
def _bfloat16(folder: Path) -> Case:
    made = _directory(
        "ViT", "ViT", _VIT | {"image_size": 96, "problem_type": "multi_label_classification"}, {"size": _square(96)}
    )
    found = made(folder)
    import transformers

    path = folder / "directory"
    module = transformers.ViTForImageClassification.from_pretrained(path).to(torch.bfloat16)
    module.save_pretrained(path)
    loaded = transformers.AutoImageProcessor.from_pretrained(path, local_files_only=True)
    if json.loads((path / "config.json").read_text())["dtype"] != "bfloat16":
        raise ValueError("the weights are not bfloat16")
    return Case(
        found.options, by(lambda image: loaded(images=image, return_tensors="pt")["pixel_values"][0], module.float())
    )
