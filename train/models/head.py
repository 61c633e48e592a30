"""The last affine layer of a network, found by running it, and the network without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from train.exceptions import ModelError
from train.models.outputs import first

Layer = nn.Linear | nn.Conv2d


@torch.no_grad()
def find(network: nn.Module, images: Tensor) -> str:
    """The name of the layer whose output is the network's logits.

    It is the last linear layer, or convolution of 1 x 1, for which the network returns whatever stands in place of its
    output, or the mean of that over its positions.

    Args:
        network: in evaluation mode; returns logits, alone, first or by that name.
        images: normalised, of the shape that it takes.

    Raises:
        ModelError: the network fails on the images, returns no logits, or there is no such layer: its logits are something
            else than the output of one layer.
    """
    calls, logits = _calls(network, images)
    names: dict[nn.Module, str] = {module: name for name, module in network.named_modules()}
    for layer in reversed([layer for layer in dict.fromkeys(calls) if calls.count(layer) == 1]):
        if width_of(layer)[1] == logits.shape[1] and _makes(layer, network, images, logits):
            return names[layer]
    raise ModelError(
        f"its logits {list(logits.shape)} are not the output of one last linear layer, which could be replaced (a softmax or "
        "a scale behind it? two heads? a matrix that is no nn.Linear?); let a factory return it with one nn.Linear last"
    )


def width_of(layer: Layer) -> tuple[int, int]:
    """How many values a layer reads and makes at each position."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def replace(network: nn.Module, layer: nn.Module, other: nn.Module) -> None:
    """Put another module in a layer's place, under every name that it has."""
    for parent in network.modules():
        for name, child in list(parent._modules.items()):  # named_children() leaves out the second name
            if child is layer:
                setattr(parent, name, other)


def rows(outputs: Any) -> Tensor:
    """(B, D) of what a network returns: logits, or features in their place, of which a map's mean is taken."""
    values = outputs if isinstance(outputs, Tensor) else first(outputs)
    if values.ndim == 4:
        return values.mean((2, 3))
    return values[:, None] if values.ndim == 1 else values


def is_pointwise(module: nn.Module) -> bool:
    """Whether it is an affine map of each position."""
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1 and module.stride == (1, 1)
    return isinstance(module, nn.Linear)


def _calls(network: nn.Module, images: Tensor) -> tuple[list[Any], Tensor]:
    """The affine layers in the order in which they are called, and the logits."""
    calls: list[Any] = []
    layers = [module for module in network.modules() if is_pointwise(module)]
    with _hooked(layers, lambda module, *_: calls.append(module)):
        try:
            outputs = network(images)
        except Exception as error:  # a foreign network may raise anything
            said = " ".join(str(error).split())[:300] or type(error).__name__
            raise ModelError(f"fails on an input of shape {list(images.shape)}: {said}") from error
    try:
        logits = rows(outputs)
    except (LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"returns no logits, but {type(outputs).__name__}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"returns no logits [N, K], but {found}")
    return calls, logits


def _makes(layer: Layer, network: nn.Module, images: Tensor, logits: Tensor) -> bool:
    """Whether the network returns what stands in place of the layer's output."""
    drawn: list[Tensor] = []
    generator = torch.Generator().manual_seed(0)

    def instead(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        drawn.append(torch.randn(output.shape, generator=generator).to(output))
        return drawn[0]

    with _hooked([layer], instead):
        returned = rows(network(images))
    (expected,) = drawn
    if expected.ndim not in (2, 4) or returned.shape != logits.shape:
        return False
    return torch.allclose(returned, rows(expected), rtol=1e-4, atol=1e-5)


@contextmanager
def _hooked(modules: list[Any], hook: Any) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
