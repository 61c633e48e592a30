"""A small network with a residual branch, its graph, its bundle on disk, and images."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from export.calibrate.calibration import calibrate
from export.classifier import assemble
from export.from_torch.classifier import TorchClassifier
from export.graph.head import seal
from export.images.inference import collect
from runtime import bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.manifest import Manifest
from tests.small import ALPHA, LABELS, SPEC


class Residual(nn.Module):
    """Three convolutions, the last two beside a shortcut; 8 penultimate features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, len(LABELS))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.first(x))
        x = torch.relu(x + self.third(torch.relu(self.second(x))))
        penultimate = x.mean(dim=(2, 3))
        return self.fc(penultimate), penultimate


class Positive(Residual):
    """Sums of products of one sign, the largest that there are."""

    def __init__(self) -> None:
        super().__init__()
        for layer in (self.second, self.third):
            layer.weight.data.abs_()


class Shared(Residual):
    """Two layers; the logits need more of them than the penultimate activations."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.first(x))
        penultimate = torch.relu(self.second(x)).mean(dim=(2, 3))
        return self.fc(penultimate) + x.amax(dim=(1, 2, 3))[:, None], penultimate


def graph(kind: type[nn.Module] = Residual) -> tuple[onnx.ModelProto, Manifest]:
    """The graph of a network, a copy that may be edited, and its manifest."""
    model, manifest = _exported(kind)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy, manifest


@cache
def _exported(kind: type[nn.Module]) -> tuple[onnx.ModelProto, Manifest]:
    return assemble(TorchClassifier("residual", "none", "multiclass", LABELS, SPEC, kind().eval()), "small", {})


def with_own_operator() -> onnx.ModelProto:
    """A network with an operator of ONNX Runtime's own behind its first layer, of which onnx infers no type."""
    model, _ = graph()
    first = next(node for node in model.graph.node if node.op_type == "Relu")
    first.op_type, first.domain = "QuickGelu", "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return model


def write_bundle(path: Path, images: npt.NDArray[np.uint8]) -> Path:
    """The network's bundle, calibrated for ``energy``."""
    model, manifest = graph()
    scores = collect(OnnxRuntimeCpu(model.SerializeToString(), threads=1), images).scores
    manifest = calibrate(manifest, scores, "energy", ALPHA)
    return bundle.write(path, manifest, {bundle.MODEL: seal(model, manifest)}, {}).path


def outputs(
    model: onnx.ModelProto, images: npt.NDArray[np.uint8], *, plain: bool = False
) -> dict[str, npt.NDArray[np.float32]]:
    """What the graph makes of images; with `plain` node by node as it is written, so that int8 is in floating point."""
    options = ort.SessionOptions()
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    run = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = ["logits", "penultimate", "scores"]
    return dict(zip(names, run.run(names, {"images": images}), strict=True))


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every constant."""
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def head(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The score head and the gate."""
    return [node for node in model.graph.node if node.name.startswith("head/") or node.name in ("scores", "accept")]
