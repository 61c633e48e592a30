"""Spectral normalisation of a network's first convolutions (SNoJoE eq. 12-13), and folding it into the weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from train.exceptions import TrainingError

# Of the power method, per training step. Adam's rates of 1e-3 and less move the weights so little that these keep a norm
# within 1e-4 of 1; while it converges, or at SGD's rate of 0.1, it may be out by some percent, until it is settled.
POWER_ITERATIONS = 3
_SETTLING = 100  # steps' worth of them


def normalise(model: nn.Module, layers: int) -> None:
    """Divide the weights of the first `layers` convolutions by their spectral norm, W / sigma(W), from now on.

    The norm is that of the weight as a matrix (out channels, in channels x height x width), by the power method, as
    :func:`torch.nn.utils.parametrizations.spectral_norm` has it. "First" is the order of ``model.modules()``,
    which is the forward order in the networks of :mod:`train.models`.

    Raises:
        TrainingError: the network has fewer convolutions.
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if not 0 <= layers <= len(convolutions):
        raise TrainingError(f"can't normalise {layers} layers: the network has {len(convolutions)} convolutions")
    for convolution in convolutions[:layers]:
        spectral_norm(convolution, n_power_iterations=POWER_ITERATIONS)


@torch.no_grad()
def settle(model: nn.Module) -> None:
    """Let the power method catch up with the weights, so that every normalised layer has a norm of 1; leaves the model in
    training mode."""
    model.train()
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            for _ in range(_SETTLING):
                _ = module.weight  # each look at it is POWER_ITERATIONS


def fold(model: nn.Module) -> nn.Module:
    """Replace every parametrised weight by its value in evaluation mode; returns the model, in that mode."""
    model.eval()
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return model
