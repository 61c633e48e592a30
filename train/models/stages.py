"""A backbone's stages in the order of the forward pass: what is frozen first, and learns more slowly the earlier it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train.models.foreign import Foreign
from train.models.projection import WithProjection

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_MOST = 0.5  # of all weights: what holds more is looked into


@dataclass(frozen=True)
class Stage:
    """A block of a network, or the layers in front of one.

    Attributes:
        name: of its first module.
        modules: that it consists of.
        own: weights that belong to no module of any stage, such as a class token.
    """

    name: str
    modules: tuple[nn.Module, ...]
    own: tuple[nn.Parameter, ...] = ()

    def parameters(self) -> Iterator[nn.Parameter]:
        """All of its weights."""
        for module in self.modules:
            yield from module.parameters()
        yield from self.own


def backbone_of(model: nn.Module) -> nn.Module:
    """What stands in front of a network's last layer, or of its projection head."""
    while isinstance(model, WithProjection | Foreign):
        model = model.backbone if isinstance(model, WithProjection) else model.network
    return model


def head_of(model: nn.Module) -> tuple[nn.Module, ...]:
    """The last layer, or the projection head."""
    if isinstance(model, WithProjection):
        return tuple(module for name, module in model.named_children() if name != "backbone")
    return (model.get_submodule("fc"),)


@torch.no_grad()
def find(model: nn.Module, images: Tensor) -> tuple[Stage, ...]:
    """The stages of a network's backbone: blocks, and single layers between them with their norms, as they are first called.

    A block is a module that is none of a list, is called, and has at most half of the weights; where one of a kind is or has
    not, all of that kind are looked into. What belongs to no block, such as embeddings of positions, belongs to the first.

    Args:
        model: returns (logits, penultimate).
        images: that it takes, (B, 3, H, W).
    """
    backbone, heads = backbone_of(model), {id(weight) for part in head_of(model) for weight in part.parameters()}
    total, large = _size(backbone, heads), set[type[nn.Module]]()
    while True:
        units = dict(_blocks("", backbone, heads, large))
        reached = _reached(model, images, units)
        more = {
            type(unit)
            for unit in units.values()
            if not _is_layer(unit) and (unit not in reached or _size(unit, heads) > _MOST * total)
        }
        if not more - large:
            break
        large |= more
    names = {unit: name for name, unit in units.items()}
    stages = _joined([(names[unit], unit) for unit in reached])
    taken = heads | {id(weight) for stage in stages for weight in stage.parameters()}
    own = tuple(weight for weight in backbone.parameters() if id(weight) not in taken)
    return (Stage(stages[0].name, stages[0].modules, own), *stages[1:]) if stages else ()


def _reached(model: nn.Module, images: Tensor, units: Mapping[str, nn.Module]) -> dict[nn.Module, None]:
    """Modules in the order in which they are first called, those that are never left out."""
    reached: dict[nn.Module, None] = {}
    handles = [unit.register_forward_pre_hook(lambda module, _: reached.setdefault(module)) for unit in units.values()]
    model.eval()
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return reached


def _blocks(
    name: str, module: nn.Module, heads: set[int], large: set[type[nn.Module]]
) -> Iterator[tuple[str, nn.Module]]:
    for child_name, child in module.named_children():
        below = f"{name}.{child_name}" if name else child_name
        if not _size(child, heads) and (any(True for _ in child.parameters()) or not _has_statistics(child)):
            continue  # the head, or nothing that learns or is estimated
        if type(child) in _LISTS or type(child) in large:
            yield from _blocks(below, child, heads, large)
        else:
            yield below, child


def _has_statistics(module: nn.Module) -> bool:
    """Whether it keeps running statistics, as a batch normalisation without weights does."""
    return any(name.rpartition(".")[2] == "running_mean" for name, _ in module.named_buffers())


def _joined(units: list[tuple[str, nn.Module]]) -> list[Stage]:
    """A single layer and the norms behind it are one stage."""
    runs: list[list[tuple[str, nn.Module]]] = []
    for name, unit in units:
        if runs and _is_norm(unit) and (_is_layer(runs[-1][-1][1]) or next(unit.parameters(), None) is None):
            runs[-1].append((name, unit))
        else:
            runs.append([(name, unit)])
    return [Stage(run[0][0], tuple(unit for _, unit in run)) for run in runs]


def _is_norm(module: nn.Module) -> bool:
    return _is_layer(module) and all(weight.ndim == 1 for weight in module.parameters())


def _is_layer(module: nn.Module) -> bool:
    """Whether no module in it has weights of its own."""
    return not any(True for child in module.children() for _ in child.parameters())


def _size(module: nn.Module, heads: set[int]) -> int:
    return sum(weight.numel() for weight in module.parameters() if id(weight) not in heads)
