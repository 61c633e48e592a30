"""torchvision's classifiers."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.foreign.cases import Case, Maker, by, names, registry, spread

CASES, case = registry()


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


def mobilenet(file: Path) -> dict[str, Maker]:
    """MobileNetV2 with torchvision's own weights of a file."""
    return {"torchvision mobilenet_v2, real weights": _torchvision("mobilenet_v2", "IMAGENET1K_V1", file=file)}


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
