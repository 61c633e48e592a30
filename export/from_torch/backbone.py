"""A torch network as an ONNX graph: images in; logits and penultimate activations out."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import redirect_stderr
from typing import Any, cast

import onnx
import torch
from torch import Tensor, nn

from export.exceptions import ExportError
from export.graph import LOGITS, OPSET, PENULTIMATE
from runtime.manifest import InputSpec
from train.normalize import Normalize


class Backbone(nn.Module):
    """uint8 images [N, H, W, 3] -> float32 (logits [N, K], penultimate [N, D])."""

    def __init__(self, classifier: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.normalize = Normalize(spec)
        self.classifier = classifier

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, penultimate = self.classifier(self.normalize(images))
        return logits.float(), penultimate.float()


def to_onnx(backbone: Backbone, spec: InputSpec) -> onnx.ModelProto:
    """Export with a dynamic batch dimension.

    Raises:
        ExportError: torch.export can't trace the model; the message carries its reason.
    """
    example = torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8)
    exporter_log = logging.getLogger("torch")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # torch dumps its graph when it fails
            warnings.simplefilter("ignore")  # the exporter's deprecations are not the user's
            program = torch.onnx.export(
                backbone.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=[LOGITS, PENULTIMATE],
                dynamic_shapes=({0: torch.export.Dim("N")},),
                verbose=False,
            )
    except Exception as error:  # torch.export's exceptions share no public base
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ExportError(f"torch.export can't trace the model: {reason}") from error
    finally:
        exporter_log.setLevel(level)
    model = cast(onnx.ModelProto, cast(Any, program).model_proto)
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise ExportError("torch.export can't trace the model: it takes batches of one size only")
    _forget_origin(model.graph)
    return model


def _forget_origin(graph: onnx.GraphProto) -> None:
    """Take out what the exporter notes of where each node comes from: paths and lines of code on this machine."""
    for noted in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del noted.metadata_props[:]
