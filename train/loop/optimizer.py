"""The optimizer of a run: made by its settings, and its state as a checkpoint has it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from train.checkpoint import Checkpoint
from train.config import Config
from train.exceptions import CheckpointError


def make(config: Config, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    """SGD or Adam.

    Args:
        config: its settings.
        groups: the weights, as :meth:`train.loop.groups.Groups.parameters` has them.
        device: where they are.
    """
    fused = True if device.type == "cuda" else None  # one kernel for all weights; None is torch's own choice
    rates: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": fused}
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, betas=(config.momentum, 0.999), **rates)
    descent = torch.optim.SGD(groups, momentum=config.momentum, nesterov=config.nesterov, **rates)
    if fused and config.momentum:  # torch's would have all weights begin in the same step
        for weight in (weight for group in descent.param_groups for weight in group["params"]):
            descent.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return descent


def state_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Its tensors, named ``PARAMETER.KEY``."""
    states = {name: optimizer.state[parameter] for name, parameter in model.named_parameters()}
    return {f"{name}.{key}": value for name, state in states.items() for key, value in state.items()}


def restore(optimizer: torch.optim.Optimizer, model: nn.Module, resume: Checkpoint) -> None:
    """Go on with the state of a checkpoint.

    Raises:
        CheckpointError: it is not that of this network.
    """
    parameters = dict(model.named_parameters())
    for name, value in resume.optimizer.items():
        parameter, _, key = name.rpartition(".")
        if parameter not in parameters:
            raise CheckpointError(f"the optimizer's state is not that of a {resume.header.arch}: {name}")
        weight = parameters[parameter]
        like = value.shape == weight.shape  # and in memory too, as a fused optimizer has it
        own = torch.empty_like(weight).copy_(value) if like else value.to(weight.device)
        optimizer.state[weight][key] = own
