"""Networks of one's own, and files that hold a whole one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.foreign.cases import Case, Maker, by, names, registry, spread
from benchmarks.foreign.strangers.net import ChannelsLast, Small

CASES, case = registry()

INPUT = [
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


def transform(channels: int = 3) -> Callable[[Image.Image], torch.Tensor]:
    """What :data:`INPUT` says, by torchvision."""
    from torchvision import transforms as t

    first = [t.Grayscale(1)] if channels == 1 else []
    mean, std = ([0.4], [0.2]) if channels == 1 else ([0.4, 0.5, 0.6], [0.2, 0.3, 0.25])
    return t.Compose([t.Resize((110, 150)), t.CenterCrop((96, 128)), *first, t.ToTensor(), t.Normalize(mean, std)])


_FACTORY = str(Path(__file__).resolve().parent / "strangers" / "net.py")


@case("a factory with arguments, Lightning's .ckpt, 96 x 128")
def _lightning(folder: Path) -> Case:
    module = spread(Small(features=24))
    found = {"pytorch-lightning_version": "2.6", "state_dict": {f"net.{k}": v for k, v in module.state_dict().items()}}
    torch.save(
        found | {"hyper_parameters": {"lr": 0.1}, "loops": {}, "callbacks": {"x": Path("y")}}, folder / "last.ckpt"
    )
    argv = ["--model", f"{_FACTORY}:Small(features=24)", "--checkpoint", str(folder / "last.ckpt"), *names(folder, 5)]
    return Case([*argv, *INPUT], by(transform(), module))


@case("a whole model, pickled, with --model")
def _whole(folder: Path) -> Case:
    module = spread(Small())
    torch.save(module, folder / "whole.pth")
    argv = ["--model", f"{_FACTORY}:Small", "--checkpoint", str(folder / "whole.pth"), *names(folder, 5), *INPUT]
    return Case(argv, by(transform(), module))


@case("TorchScript, scripted")
def _scripted(folder: Path) -> Case:
    module = spread(Small())
    torch.jit.script(module).save(str(folder / "m.pt"))  # type: ignore[no-untyped-call]
    return Case(["--checkpoint", str(folder / "m.pt"), *names(folder, 5), *INPUT], by(transform(), module))


@case("TorchScript, traced")
def _traced(folder: Path) -> Case:
    module = spread(Small())
    torch.jit.trace(module, torch.zeros(1, 3, 96, 128)).save(str(folder / "m.pt"))  # type: ignore[no-untyped-call]
    return Case(["--checkpoint", str(folder / "m.pt"), *names(folder, 5), *INPUT], by(transform(), module))


@case("torch.export .pt2")
def _program(folder: Path) -> Case:
    module = spread(Small())
    sizes = ({0: torch.export.Dim("N")},)
    torch.export.save(
        torch.export.export(module, (torch.zeros(2, 3, 96, 128),), dynamic_shapes=sizes), folder / "m.pt2"
    )
    return Case(["--checkpoint", str(folder / "m.pt2"), *names(folder, 5), *INPUT], by(transform(), module))


@case("float16 weights and module")
def _half(folder: Path) -> Case:
    module = spread(Small()).half()
    torch.save(module.state_dict(), folder / "w.pth")
    argv = ["--model", f"{_FACTORY}:Small", "--checkpoint", str(folder / "w.pth"), *names(folder, 5), *INPUT]
    return Case(argv, by(transform(), module.float()))


@case("greyscale, found by trying")
def _grey(folder: Path) -> Case:
    module = spread(Small(1))
    torch.save(module.state_dict(), folder / "w.pth")
    size = ["--size", "96x128", "--resize-to", "110x150", "--mean", "0.4", "--std", "0.2", "--colour", "ignore"]
    argv = ["--model", f"{_FACTORY}:Small(1)", "--checkpoint", str(folder / "w.pth"), *names(folder, 5), *size]
    return Case(argv, by(transform(1), module))


@case("BGR of 0 to 255, less Caffe's mean")
def _bgr(folder: Path) -> Case:
    module = spread(Small())
    torch.save(module.state_dict(), folder / "w.pth")
    size = ["--size", "96x128", "--resize-to", "110x150", "--colour", "ignore", "--channels", "bgr"]
    mean = ["--mean", *(str(v / 255) for v in (123.68, 116.779, 103.939)), "--std", *[str(1 / 255)] * 3]
    argv = ["--model", f"{_FACTORY}:Small", "--checkpoint", str(folder / "w.pth"), *names(folder, 5), *size, *mean]

    def caffe(image: Image.Image) -> torch.Tensor:
        from torchvision import transforms as t

        resized = t.Compose([t.Resize((110, 150)), t.CenterCrop((96, 128))])(image)
        pixels = np.asarray(resized, np.float32)[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    return Case(argv, by(caffe, module))


@case("NHWC, found by trying")
def _nhwc(folder: Path) -> Case:
    module = spread(ChannelsLast())
    torch.save(module.state_dict(), folder / "w.pth")
    argv = ["--model", f"{_FACTORY}:ChannelsLast", "--checkpoint", str(folder / "w.pth"), *names(folder, 5), *INPUT]
    return Case(argv, by(lambda image: transform()(image).permute(1, 2, 0), module))


def lite0(file: Path) -> dict[str, Maker]:
    """EfficientNet-lite0 with real weights of a file, by its package."""

    def make(folder: Path) -> Case:
        from efficientnet_lite_pytorch import EfficientNet
        from torchvision import transforms as t

        (folder / "lite0_factory.py").write_text(
            "def make():\n"
            "    from efficientnet_lite_pytorch import EfficientNet\n"
            "    return EfficientNet.from_name('efficientnet-lite0')\n"
        )
        module = EfficientNet.from_name("efficientnet-lite0")
        module.load_state_dict(torch.load(file, weights_only=True))
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        transform = t.Compose([t.Resize(256), t.CenterCrop(224), t.ToTensor(), t.Normalize(mean, std)])
        argv = ["--model", f"{folder / 'lite0_factory.py'}:make", "--checkpoint", str(file), *names(folder, 1000)]
        size = "--size 224 --resize-to 256 --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 --colour ignore"
        return Case([*argv, *size.split()], by(transform, module.eval()))

    return {"EfficientNet-lite0, real weights, a factory of its package": make}
