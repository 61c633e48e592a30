"""What is timed: untrained networks and their bundles, in every precision, with and without the gate."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from tqdm import tqdm

from export.calibrate.calibration import calibrate
from export.classifier import assemble
from export.convert.half import to_half
from export.convert.int8 import Int8Options, Target, quantise
from export.from_torch.classifier import TorchClassifier
from export.from_torch.network.backbone import Backbone
from export.graph import head
from export.graph.building import LOGITS
from export.graph.head import seal
from export.report.card import documents
from runtime import bundle
from runtime.bundle import MODEL, Bundle
from runtime.manifest import InputSpec, Precision
from train import models

Images = npt.NDArray[np.uint8]

SMALL = InputSpec(32, 32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
LARGE = dataclasses.replace(SMALL, height=224, width=224)
_CLASSES, _ALPHA = 10, 0.05


def architectures() -> dict[str, InputSpec]:
    """What is timed where nothing is named, the most telling first; timm's networks where it is installed."""
    if importlib.util.find_spec("timm") is None:
        tqdm.write("timm is not installed: the project's ResNet-18 at 32x32 instead of timm's networks at 224x224")
        return {"wrn-40-2": SMALL, "resnet18": SMALL}
    return {"timm:resnet50": LARGE, "wrn-40-2": SMALL, "timm:efficientnet_lite0": LARGE, "timm:resnet18": LARGE}


def network(arch: str, spec: InputSpec) -> Backbone:
    """An untrained network; its batch norms have statistics, so that nothing over- or underflows."""
    torch.manual_seed(0)
    module = models.make(arch, _CLASSES)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # the statistics of one batch
    backbone = Backbone(module, spec).train()
    with torch.no_grad():
        backbone(torch.from_numpy(pictures(32, spec)))
    return backbone.eval()


def exported(arch: str, spec: InputSpec, folder: Path) -> tuple[Backbone, Bundle]:
    """A network and its bundle; what an earlier run left in the folder is taken as it is."""
    path, file = folder / arch.replace(":", "-"), folder / f"{arch.replace(':', '-')}.pt"
    if path.is_dir() and file.is_file():
        backbone = Backbone(models.make(arch, _CLASSES), spec).eval()
        backbone.load_state_dict(torch.load(file, weights_only=True))
        return backbone, Bundle.load(path)
    backbone = network(arch, spec)
    labels = tuple(f"class {k}" for k in range(_CLASSES))
    classifier = TorchClassifier(arch, "none", "multiclass", labels, spec, backbone.classifier)
    model, manifest = assemble(classifier, arch, {})
    made = bundle.write(path, manifest, {MODEL: seal(model, manifest)}, {})
    torch.save(backbone.state_dict(), file)
    return backbone, made


def pictures(count: int, spec: InputSpec, seed: int = 0) -> Images:
    """Images of large squares, of different brightness and contrast."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(rng.uniform(60, 190, (count, 1, 1, 1)), rng.uniform(10, 80, (count, 1, 1, 1)), (count, 4, 4, 3))
    enlarged = coarse.repeat(-(-spec.height // 4), axis=1).repeat(-(-spec.width // 4), axis=2)
    return np.ascontiguousarray(enlarged[:, : spec.height, : spec.width].clip(0, 255).astype(np.uint8))


def in_precision(of: Bundle, precision: Precision, target: Target) -> Bundle:
    """A bundle in another precision, without a gate."""
    path = of.path.with_name(f"{of.path.name}-{precision}")
    if precision == "fp32":
        return of
    if path.is_dir():
        return Bundle.load(path)
    model = onnx.load_from_string(of.model)
    if precision == "fp16":
        to_half(model)
    else:
        some = pictures(32, of.manifest.input, seed=1)
        quantise(model, some, some, Int8Options(target, "minmax"))
    spec = dataclasses.replace(of.manifest.model, precision=precision)
    manifest = dataclasses.replace(of.manifest, model=spec, files={}, engines={})
    return bundle.write(path, manifest, {MODEL: seal(model, manifest)}, {})


def calibrated(of: Bundle, scores: npt.NDArray[np.float32], path: Path) -> Bundle:
    """A bundle with a gate, from the scores (N, S) of some images."""
    manifest = calibrate(dataclasses.replace(of.manifest, files={}), scores, "energy", _ALPHA)
    model = onnx.load_from_string(of.model)
    return bundle.write(path, manifest, {MODEL: seal(model, manifest)}, documents(manifest))


def without_scores(gated: Bundle, path: Path) -> Bundle:
    """A bundle whose scores are its logits: what an engine takes without the gate."""
    if path.is_dir():
        return Bundle.load(path)
    model = onnx.load_from_string(gated.model)
    head.set_columns(model, [LOGITS])
    width = len(gated.manifest.labels)
    shape = next(output for output in model.graph.output if output.name == "scores").type.tensor_type.shape
    shape.dim[1].dim_value = width
    scores = tuple(f"logit {k}" for k in range(width))
    manifest = dataclasses.replace(
        gated.manifest, scores=scores, score_parameters={}, gate=None, merged={}, files={}, engines={}
    )
    return bundle.write(path, manifest, {MODEL: seal(model, manifest)}, {})
