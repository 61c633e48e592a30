"""What is timed: the shipped graph and three others, in fp32 and int8, and images whose decisions are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch

from benchmarks.gpu.graphs import LARGE, SMALL, pictures
from benchmarks.paths import BUNDLE
from export.classifier import assemble
from export.convert.int8 import Int8Options, quantise
from export.from_torch.classifier import TorchClassifier
from export.from_torch.network.backbone import Backbone
from export.graph.head import seal
from runtime.bundle import Bundle
from runtime.manifest import InputSpec, Manifest
from train import models
from train.data import load

SHIPPED = "shipped"  # its folder
_NETWORKS = {
    "resnet20": ("resnet20", SMALL),
    "wrn-40-2": ("wrn-40-2", SMALL),
    "efficientnet_lite0": ("efficientnet_lite_pytorch:EfficientNet.from_name('efficientnet-lite0')", LARGE),
}
SETS = {"calibration": 1, "evaluation": 2}  # by the half of the validation set
_CLASSES = 10
_QUANTISED = 64


def prepare(folder: Path, data: Path | None, count: int) -> None:
    """Write each graph's fp32.onnx, int8.onnx and manifest.json into a folder of its own, and the images beside them.

    Args:
        folder: to write to.
        data: where cifar10-val.tar is; without, there are no images to decide on.
        count: how many of each of its halves are taken, evenly apart.
    """
    shipped = Bundle.load(BUNDLE)
    if data:
        _write_images(folder, data / "cifar10-val.tar", shipped.manifest, count)
    _write(folder / SHIPPED, onnx.load_from_string(shipped.model), shipped.manifest)
    for name, (arch, spec) in _NETWORKS.items():
        _write(folder / name, *_untrained(arch, spec))


def _untrained(arch: str, spec: InputSpec) -> tuple[onnx.ModelProto, Manifest]:
    """A network whose weights are of one magnitude a layer, on which speed does not depend, so that its file packs well."""
    torch.manual_seed(0)
    module = models.make(arch, _CLASSES)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data = layer.weight.data.sign() * layer.weight.data.std().clamp(min=1e-3)
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # the statistics of one batch
    backbone = Backbone(module, spec).train()
    with torch.no_grad():
        backbone(torch.from_numpy(pictures(32, spec)))
    backbone.eval()
    labels = tuple(f"class {k}" for k in range(_CLASSES))
    return assemble(TorchClassifier(arch, "none", "multiclass", labels, spec, module), arch, {})


def _write(folder: Path, model: onnx.ModelProto, manifest: Manifest) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(manifest.to_json(indent=1))
    (folder / "fp32.onnx").write_bytes(seal(model, manifest))
    some = pictures(_QUANTISED, manifest.input, seed=1)
    if (images := folder.parent / "calibration.npz").exists() and folder.name == SHIPPED:
        with np.load(images) as stored:
            some = stored["images"][:: len(stored["images"]) // _QUANTISED][:_QUANTISED]
    quantise(model, some, some, Int8Options(method="percentile" if folder.name == SHIPPED else "minmax"))
    (folder / "int8.onnx").write_bytes(seal(model, manifest))


def _write_images(folder: Path, source: Path, manifest: Manifest, count: int) -> None:
    """calibration.npz and evaluation.npz, which are sources too."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, half in SETS.items():
        found = load(f"{source}@{half}/2", manifest.input, labels=manifest.labels)
        labels = np.array(manifest.labels)[found.with_classes(manifest.labels, str(source)).labels]
        kept = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
        np.savez_compressed(folder / f"{name}.npz", images=np.asarray(found.images)[kept], labels=labels[kept])
