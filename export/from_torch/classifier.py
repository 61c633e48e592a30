"""A classifier whose framework is torch: any network that returns logits, or (logits, penultimate)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from export.classifier import Activations, Answers, Classifier
from export.exceptions import ExportError, as_export_errors
from export.from_torch.network.backbone import Backbone, Traced, graph_of, trace
from export.from_torch.network.features import Features, remark
from runtime.manifest import Channels, InputSpec
from train.descriptions.description import Description, check_labels
from train.models.outputs import Logits, has_logits


@dataclass(frozen=True)
class TorchClassifier(Classifier):
    """A torch module of normalised images (B, C, H, W), or (B, H, W, C) with `channels_last`.

    Attributes:
        traced: its operations, where they are known already.
    """

    module: nn.Module
    channels_last: bool = field(default=False, kw_only=True)
    traced: Traced | None = field(default=None, kw_only=True, repr=False)

    @property
    def framework(self) -> str:
        return "torch"

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())

    def graph(self) -> onnx.ModelProto:
        return graph_of(self._traced.program, logits=self.task != "unlabelled")

    @torch.inference_mode()
    def run(self, images: npt.NDArray[np.uint8]) -> Activations:
        outputs = self._backbone(torch.from_numpy(images))
        if isinstance(outputs, Tensor):
            outputs = outputs, self._operations(torch.from_numpy(images))[1]
        logits, penultimate = outputs
        if self.task == "unlabelled":
            logits = logits[:, :0]
        return logits.numpy(), penultimate.numpy()

    def behind(self, spec: InputSpec) -> Answers:
        backbone = Backbone(self.module, spec, channels_last=self.channels_last).eval()

        @torch.inference_mode()
        def answers(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            outputs = backbone(torch.from_numpy(images))
            logits: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
            return logits.numpy()

        return answers

    @cached_property
    def _backbone(self) -> Backbone:
        return Backbone(self.module, self.input, channels_last=self.channels_last).eval()

    @cached_property
    def _traced(self) -> Traced:
        is_own = self.traced is not None and self.traced.spec == self.input
        return self.traced if self.traced and is_own else trace(self._backbone, self.input)

    @cached_property
    def _operations(self) -> nn.Module:
        """The traced operations; of another normalisation the same with other numbers."""
        before = self.traced.spec if self.traced else self.input
        fixed = [(spec.height, spec.width, spec.channels, spec.opaque) for spec in (before, self.input)]
        traced = self.traced if self.traced and fixed[0] == fixed[1] else self._traced
        module = traced.program.module()
        for name in ("scale", "shift"):  # put in their place: the program's own tensors are those of its module too
            setattr(module.get_submodule("face.normalize"), name, self._backbone.face.normalize.get_buffer(name))
        return module


class Column(nn.Module):
    """One logit an image as (B, 1), of a network that returns (B,)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.network(x)).reshape(-1, 1)


@as_export_errors()
def of_module(
    module: nn.Module, arch: str, description: Description, *, headed: bool | None = None, **fields: Any
) -> TorchClassifier:
    """The classifier of a module with its weights, once all is known of it.

    Args:
        module: returns logits, or (logits, penultimate), of normalised images; for the task ``unlabelled`` features.
        arch: what messages and the manifest call it.
        description: labels, input and task; what it does not say of channels is found out.
        headed: whether it is known to return logits: for the task ``unlabelled`` its penultimate activations count.
        fields: further fields of the classifier.

    Raises:
        ExportError: something is missing, the module fails, or there is no penultimate.
    """
    spec = description.input()
    unlabelled = description.task == "unlabelled"
    labels = () if unlabelled else description.labels or ()
    check_labels(labels)
    module = module.float().eval()
    module, spec, channels_last, found = _facing(module, arch, spec, description.channels)
    output = _call(module, spec, channels_last)
    if not isinstance(output, Tensor) and has_logits(output):
        module, headed = Logits(module), headed or not isinstance(output, tuple | list)
        output = _call(module, spec, channels_last)
    if isinstance(output, Tensor) and output.ndim == 1:
        module = Column(module)
        output = _call(module, spec, channels_last)
    if unlabelled and not (headed and isinstance(output, Tensor)):
        module, found = _extractor(module, arch, output, found)
    elif unlabelled:
        found = (*found, "features: what its last layer reads; its classes are left out")
    else:
        _check_outputs(arch, output, len(labels))
    traced = trace(Backbone(module, spec, channels_last=channels_last), spec)
    return TorchClassifier(
        arch,
        fields.pop("method", "unknown"),
        description.task or "multiclass",
        labels,
        spec,
        module,
        channels_last=channels_last,
        traced=traced,
        remarks=(*description.lines, *found, *traced.remarks),
        **fields,
    )


def _extractor(
    module: nn.Module, arch: str, output: Any, remarks: tuple[str, ...]
) -> tuple[nn.Module, tuple[str, ...]]:
    """The module as an extractor of features, and what is said of it."""
    try:
        return Features(module), (*remarks, remark(output))
    except ExportError as error:
        raise ExportError(f"{arch}: {error}") from error


def _facing(
    module: nn.Module, arch: str, spec: InputSpec, channels: Channels | None
) -> tuple[nn.Module, InputSpec, bool, tuple[str, ...]]:
    """In which order of axes, and of how many channels, the module takes images; what was found by trying."""
    first: Exception | None = None
    for kind in (channels,) if channels else (spec.channels, "grey"):
        tried = dataclasses.replace(spec, channels=kind)
        failed, failed_last = (_failure(module, tried, last) for last in (False, True))
        first = first or failed
        if failed and failed_last:
            continue
        remarks = []
        if failed:
            remarks.append("the model takes channels last: the graph turns the axes")
        elif not failed_last and kind != "grey":
            remarks.append(
                "the model takes channels last as well as first, and gets them first; if it was trained the other way, "
                "let its forward begin with x.permute(0, 2, 3, 1)"
            )
        if kind == "grey" and not channels:
            remarks.append("the model takes one channel: the graph makes images grey")
        if kind == "grey" and len({*zip(spec.mean, spec.std, strict=True)}) > 1:
            remarks.append(
                f"of mean and std the first are taken, {spec.mean[0]:g} and {spec.std[0]:g}: give one of each"
            )
        return module, tried, failed is not None, tuple(remarks)
    shape = [2, {"grey": 1, "rgba": 4}.get(channels or "rgb", 3), spec.height, spec.width]
    raise ExportError(f"{arch}: fails on an input of shape {shape}: {' '.join(str(first).split())[:300]}") from first


def _failure(module: nn.Module, spec: InputSpec, channels_last: bool) -> Exception | None:
    """Why the module does not take images so; None if it does."""
    try:
        _call(module, spec, channels_last)
    except Exception as error:  # a foreign model may raise anything
        return error
    return None


def _call(module: nn.Module, spec: InputSpec, channels_last: bool) -> Any:
    images = torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8)
    face = Backbone(module, spec, channels_last=channels_last).eval().face
    with torch.no_grad():
        return module(face(images))


def _check_outputs(arch: str, output: object, classes: int) -> None:
    pair = isinstance(output, tuple) and len(output) == 2 and all(isinstance(item, Tensor) for item in output)
    if not (isinstance(output, Tensor) or pair):
        raise ExportError(
            f"{arch}: forward must return logits, or (logits, penultimate); found {type(output).__name__}"
        )
    logits = output if isinstance(output, Tensor) else cast(tuple[Tensor, Tensor], output)[0]
    width = logits.shape[1] if logits.ndim == 2 else None
    if width != classes and (width, classes) != (1, 2):
        hint = "; other labels, or features without a head?" if width is not None else ""
        raise ExportError(
            f"{arch}: expected logits [N, {classes}] for {classes} labels, found {list(logits.shape)}{hint}"
        )
    if not isinstance(output, Tensor) and cast(tuple[Tensor, Tensor], output)[1].ndim != 2:
        found = list(cast(tuple[Tensor, Tensor], output)[1].shape)
        raise ExportError(f"{arch}: expected penultimate activations [N, D], found {found}")
