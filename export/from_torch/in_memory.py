"""A network that a program holds: copied, so that it stays as it is, and asked what it says of itself."""

from __future__ import annotations

import copy
from types import FunctionType
from typing import Any

import torch
from torch import nn

from export.exceptions import ExportError, as_export_errors
from export.from_torch.classifier import TorchClassifier, of_module
from export.from_torch.scripted import Scripted
from train.descriptions import transformers as described
from train.descriptions.description import Description
from train.models.libraries.built import said

# What wraps a network, and the attribute in which it is.
_WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}


@as_export_errors()
def read(model: Any, given: Description) -> TorchClassifier:
    """The classifier of a torch module in memory.

    Args:
        model: of any dtype, in training or not, on any device; it is not changed.
        given: what the user says of it, before what a transformers model says of its labels and task.

    Raises:
        ExportError: no module, something about it is missing, or it can't be exported.
    """
    module = _unwrapped(model)
    if not isinstance(module, nn.Module):
        raise ExportError(
            f"expected a torch module, an onnx.ModelProto or a path, found {type(module).__module__}.{type(module).__name__}"
        )
    name = type(module).__name__
    description = given.over(_described(module))
    if description.missing():
        raise ExportError(f"{name}: {_needs(description.missing())}")
    return of_module(_copied(module, name), name, description)


def _needs(missing: tuple[str, ...]) -> str:
    """What to say where arguments are missing, all at once."""
    wanted = ["labels, its class names in the order of the logits"] if "labels" in missing else []
    if set(missing) - {"labels"}:
        wanted.append("transform (torchvision's or timm's), processor (transformers') or input=InputSpec(...)")
    return f"nothing says how it was trained; give {', and '.join(wanted)}"


def _unwrapped(model: Any) -> Any:
    while (attribute := _WRAPPERS.get(type(model).__name__)) and hasattr(model, attribute):
        model = getattr(model, attribute)
    return model


def _described(module: nn.Module) -> Description:
    """What a model of transformers says of its classes."""
    config: Any = getattr(module, "config", None)
    if not hasattr(config, "id2label") or not hasattr(config, "to_dict"):
        return Description()
    description = described.of_config(config.to_dict())
    return Description(channels="grey").over(description) if getattr(config, "num_channels", 3) == 1 else description


def _copied(module: nn.Module, name: str) -> nn.Module:
    """On the CPU, with eager attention where a library offers a choice."""
    if isinstance(module, torch.jit.ScriptModule):
        return Scripted(copy.deepcopy(module).cpu().float().eval())
    for where, each in module.named_modules():
        if isinstance(
            vars(each).get("forward"), FunctionType
        ):  # a copy of which is itself, and runs the original's layers
            raise ExportError(
                f"{name}: the forward of {where or 'this one object'} was replaced by a function, which a copy does not "
                "follow; put it into a class"
            )
    try:
        copied = copy.deepcopy(module).cpu()
    except Exception as error:  # a foreign module may raise anything
        raise ExportError(
            f"{name}: it can't be copied ({said(error)}); save its weights, and give the network anew with them"
        ) from error
    if callable(choose := getattr(copied, "set_attn_implementation", None)):
        choose("eager")
    return copied
