"""A checkpoint: one .safetensors file, weights and optimizer state as tensors, everything else in its header."""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from runtime import schema
from runtime.atomic import writing
from runtime.manifest import DataSpec, InputSpec, Task
from train import methods, models
from train.exceptions import CheckpointError
from train.methods import spectral

KEY = "oodgate"
_WEIGHTS, _OPTIMIZER, _LEARNING = "model.", "optimizer.", "learning."


@dataclass(frozen=True)
class Header:
    """What export, or a resumed run, needs beside the tensors.

    Attributes:
        arch: what :func:`train.models.make` takes, such as ``resnet20`` or ``resnet20+nan``.
        labels: K class names; none for the task ``unlabelled``.
        input: the image size and normalisation the model was trained with.
        method: a key of :data:`train.methods.METHODS`.
        hyperparameters: the whole training configuration.
        sources: what it learned from: the names of `data`, `val` and `aux`; of `init`, its file's SHA-256, method, epochs and
            sources.
        data: sketches of the images that it learned from: ``training``, ``auxiliary``, and those of `init` as
            ``init, training`` and so on. Empty in a checkpoint of an earlier version.
        digests: of the images and labels that it goes through, in their order, by ``training`` and ``auxiliary``. Empty in a
            checkpoint of an earlier version, which is not resumed.
        metrics: the last epoch's figures.
        step: number of optimizer steps taken.
        running: means over the steps so far of an epoch that was cut.
        origin: what builds a network of others again.
        witness: logits of such a network as :func:`testify` has them, at the end of the last epoch.
    """

    arch: str
    task: Task
    labels: tuple[str, ...]
    input: InputSpec
    method: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Any] = field(default_factory=dict)
    data: dict[str, DataSpec] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    step: int = 0
    running: dict[str, float] = field(default_factory=dict)
    origin: models.Origin | None = None
    witness: tuple[float, ...] = ()

    def check(self, model: nn.Module) -> None:
        """Try the witnesses on a network that was built again, with its weights, in evaluation mode.

        Raises:
            CheckpointError: it computes something else than it did.
        """
        if not self.witness:
            return
        expected, found = torch.tensor(self.witness), torch.tensor(testify(model, self.input))
        size = expected.abs().max().item()
        off = (found - expected).abs().max().item() if found.shape == expected.shape else math.inf
        if not off <= _WITNESSED * size:
            raise CheckpointError(
                f"what {self.arch} builds computes something else than it did as it was trained: with the same weights "
                f"logits differ by {off:.2g}, the largest being {size:.2g}; was its code changed? Bring back what it was, or "
                "train again"
            )


_WITNESSED = 0.05  # of the largest logit; TF32 and bf16 on other machines are less


def testify(model: nn.Module, spec: InputSpec) -> tuple[float, ...]:
    """What a network puts out for two images of noise, one after the other, in evaluation mode, in which it is left."""
    images = torch.randn(2, 3, spec.height, spec.width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model.eval()(images.to(next(model.parameters()).device))[0]
    return tuple(logits.float().flatten().tolist())


@dataclass(frozen=True)
class Checkpoint:
    """A header and its tensors, on the CPU.

    Attributes:
        weights: of the network, or their average.
        optimizer: its state.
        learning: where `weights` are an average, those that go on learning.
    """

    header: Header
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    learning: dict[str, Tensor] = field(default_factory=dict)

    def model(self) -> nn.Module:
        """The network with these weights, in evaluation mode, what its method added to them folded in.

        Raises:
            CheckpointError: when the weights don't fit the architecture that the header names, or it computes something else
                now than it did.
            TrainingError: when there is no such architecture or method.
        """
        model = models.make(self.header.arch, len(self.header.labels), self.header.origin)
        options = self.header.hyperparameters.get("method_options", {})
        method = methods.make(self.header.method, options)
        method.prepare(model, (self.header.input.height, self.header.input.width))
        self.load_into(model)
        method.release(model)
        folded = spectral.fold(model)
        self.header.check(folded)
        return folded

    def load_into(self, model: nn.Module, *, learning: bool = False) -> None:
        """Give a network these weights, or those that go on learning.

        Raises:
            CheckpointError: when they don't fit.
        """
        try:
            model.load_state_dict(self.learning if learning and self.learning else self.weights)
        except RuntimeError as error:
            reason = textwrap.shorten(str(error), 300)
            raise CheckpointError(f"the weights are not those of a {self.header.arch}: {reason}") from error


def save(
    path: Path,
    header: Header,
    weights: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    learning: dict[str, Tensor] | None = None,
) -> None:
    """Write to a temporary sibling, then rename: a reader sees the old file or the new one, never half of one."""
    named = {_WEIGHTS: weights, _OPTIMIZER: optimizer, _LEARNING: learning or {}}
    tensors: dict[str, Tensor] = {}
    storages: set[int] = set()
    for prefix, part in named.items():
        for name, tensor in part.items():
            own = tensor.detach().cpu().contiguous()
            if own.untyped_storage().data_ptr() in storages:  # of a layer that stands in two places
                own = own.clone()
            storages.add(own.untyped_storage().data_ptr())
            tensors[prefix + name] = own
    with writing(path) as temporary:
        save_file(tensors, temporary, metadata={KEY: json.dumps(dataclasses.asdict(header))})


def load(path: Path) -> Checkpoint:
    """Read a checkpoint that :func:`save` wrote.

    Raises:
        CheckpointError: no such file, no safetensors file, or one without our header.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable .safetensors file ({error})") from error
    if KEY not in metadata:
        raise CheckpointError(
            f"{path}: no {KEY!r} header, so not a checkpoint of `python -m train`; "
            "export the weights of another model with --model package.module:factory"
        )
    try:
        header = schema.build(Header, json.loads(metadata[KEY]))
    except ValueError as error:
        raise CheckpointError(f"{path}: header: {error}") from error
    return Checkpoint(header, *(_with_prefix(tensors, prefix) for prefix in (_WEIGHTS, _OPTIMIZER, _LEARNING)))


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
