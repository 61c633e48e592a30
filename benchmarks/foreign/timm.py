"""timm's classifiers."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.foreign.cases import Case, Logits, Maker, by, names, registry, spread

CASES, case = registry()


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
