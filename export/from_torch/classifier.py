"""Where an exported classifier comes from: one of our checkpoints, or any torch module with its weights."""

from __future__ import annotations

import importlib
import pickle
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from export.classifier import Activations, Classifier
from export.exceptions import ExportError
from export.from_torch.backbone import Backbone, to_onnx
from runtime.manifest import InputSpec, Task
from train import checkpoint

# Where training scripts put the weights among other things, and what wrappers of a model put before their names.
_STATE_KEYS = ("state_dict", "model_state_dict", "model")
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class TorchClassifier(Classifier):
    """A torch module that returns (logits, penultimate) of normalised images (B, 3, H, W)."""

    module: nn.Module

    @property
    def framework(self) -> str:
        return "torch"

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())

    def graph(self) -> onnx.ModelProto:
        return to_onnx(self._backbone, self.input)

    @torch.inference_mode()
    def run(self, images: npt.NDArray[np.uint8]) -> Activations:
        logits, penultimate = self._backbone(torch.from_numpy(images))
        return logits.numpy(), penultimate.numpy()

    @cached_property
    def _backbone(self) -> Backbone:
        return Backbone(self.module, self.input).eval()


def from_checkpoint(path: Path) -> TorchClassifier:
    """Read a checkpoint of ``python -m train``; its header says everything.

    Raises:
        CheckpointError: not such a checkpoint.
    """
    loaded = checkpoint.load(path)
    header = loaded.header
    return TorchClassifier(
        module=loaded.model(),
        arch=header.arch,
        method=header.method,
        task=header.task,
        labels=header.labels,
        input=header.input,
        training={"hyperparameters": header.hyperparameters, "sources": header.sources, "metrics": header.metrics},
        data=header.data,
    )


def from_factory(target: str, weights: Path, labels: tuple[str, ...], spec: InputSpec, task: Task) -> TorchClassifier:
    """Call ``package.module:factory()`` for a torch module and load its weights.

    A module that returns one tensor of logits is wrapped so that it also returns the input of the last nn.Linear
    reached in its forward pass; one that returns two tensors is taken as (logits, penultimate).

    Raises:
        ExportError: no such factory, weights that don't fit, or no penultimate to be found.
    """
    module = _call_factory(target)
    _load_weights(module.eval(), weights)
    example = torch.zeros(2, 3, spec.height, spec.width)
    try:
        with torch.no_grad():
            output = module(example)
    except Exception as error:  # a foreign model may raise anything
        raise ExportError(f"{target}: fails on an input of shape {list(example.shape)}: {error}") from error
    if isinstance(output, Tensor):
        module = WithPenultimate(module, example)
        with torch.no_grad():
            output = module(example)
    if repeated := [label for i, label in enumerate(labels) if label in labels[:i]]:
        raise ExportError(f"labels must be distinct, found {repeated[0]!r} twice; tell the two apart")
    _check_outputs(target, output, len(labels))
    return TorchClassifier(module=module, arch=target, method="unknown", task=task, labels=labels, input=spec)


class WithPenultimate(nn.Module):
    """Returns (logits, input of the last nn.Linear reached).

    Args:
        classifier: returns logits.
        example: an input of the right shape, to see which linear layer is reached last.

    Raises:
        ExportError: no nn.Linear is reached.
    """

    def __init__(self, classifier: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.classifier = classifier
        reached: list[nn.Linear] = []
        hooks = [
            module.register_forward_pre_hook(lambda linear, _: reached.append(cast(nn.Linear, linear)))
            for module in classifier.modules()
            if isinstance(module, nn.Linear)
        ]
        with torch.no_grad():
            classifier(example)
        for hook in hooks:
            hook.remove()
        if not reached:
            raise ExportError(
                f"{type(classifier).__name__} has no nn.Linear in its forward pass, so no penultimate activations; "
                "let its forward return (logits, penultimate)"
            )
        self._captured: list[Tensor] = []
        reached[-1].register_forward_pre_hook(self._capture, with_kwargs=True)

    def _capture(self, _: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        self._captured.append(inputs[0] if inputs else named["input"])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W) -> logits (B, K), penultimate (B, D)."""
        logits = self.classifier(x)
        penultimate = self._captured[-1]
        self._captured.clear()
        return logits, penultimate


def _call_factory(target: str) -> nn.Module:
    module_name, _, factory_name = target.partition(":")
    if (here := str(Path.cwd())) not in sys.path:  # the command `oodgate` does not look where it is typed
        sys.path.append(here)
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except Exception as error:  # a foreign module may raise anything
        raise ExportError(
            f"--model {target}: expected package.module:factory that can be imported ({error})"
        ) from error
    try:
        module = cast(Callable[[], object], factory)()
    except Exception as error:  # a foreign factory may raise anything
        raise ExportError(f"--model {target}: the factory fails when called without arguments: {error}") from error
    if not isinstance(module, nn.Module):
        raise ExportError(f"--model {target}: expected a torch.nn.Module, found {type(module).__name__}")
    return module


def _load_weights(module: nn.Module, path: Path) -> None:
    state = _read_weights(path)
    for key in _STATE_KEYS:
        if isinstance(state.get(key), dict):
            state = state[key]
            break
    own = tuple(module.state_dict())
    try:
        for prefix in _WRAPPER_PREFIXES:
            if all(name.startswith(prefix) for name in state) and not all(name.startswith(prefix) for name in own):
                state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ExportError(f"{path}: the weights don't fit the model: {textwrap.shorten(str(error), 300)}") from error


def _read_weights(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ExportError(f"{path}: no such file") from error
    except pickle.UnpicklingError as error:
        raise ExportError(
            f"{path}: not a plain file of weights; reading it could run code, so it is refused. Where you trust it, "
            "convert it: torch.save(torch.load(PATH, weights_only=False).state_dict(), 'weights.pth')"
        ) from error
    except Exception as error:  # a damaged file may make its reader raise anything
        raise ExportError(f"{path}: not readable as weights: {error}") from error
    if not isinstance(loaded, dict):
        raise ExportError(f"{path}: expected a state_dict, found {type(loaded).__name__}")
    return loaded


def _check_outputs(target: str, output: object, classes: int) -> None:
    if not (isinstance(output, tuple) and len(output) == 2 and all(isinstance(item, Tensor) for item in output)):
        raise ExportError(
            f"{target}: forward must return logits, or (logits, penultimate); found {type(output).__name__}"
        )
    logits, penultimate = output
    one_of_two = classes == 2 and logits.numel() == len(logits)
    if not one_of_two and (logits.ndim != 2 or logits.shape[1] != classes):
        raise ExportError(f"{target}: expected logits [N, {classes}] for {classes} labels, found {list(logits.shape)}")
    if penultimate.ndim != 2:
        raise ExportError(
            f"{target}: the last nn.Linear sees {list(penultimate.shape)}, not [N, D]; "
            "let forward return (logits, penultimate)"
        )
