"""Directories of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.foreign.cases import Case, Maker, by, registry, spread

CASES, case = registry()


def _directory(kind: str, processor: str, config: dict[str, Any], settings: dict[str, Any], suffix: str = "") -> Maker:
    def make(folder: Path) -> Case:
        import transformers

        labels = {i: f"class {i}" for i in range(5)}
        made = getattr(transformers, f"{kind}Config")(
            **config, id2label=labels, label2id={v: k for k, v in labels.items()}
        )
        module = spread(
            getattr(transformers, f"{kind}ForImageClassification{suffix}")(made), config.get("image_size", 96)
        )
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
    "BiT": ("Bit", "Bit", {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 8}, _CUT),
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
        {"embed_dim": [16, 24, 32], "num_heads": [1, 2, 2], "depth": [1, 2, 3]},
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
