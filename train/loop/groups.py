"""Which weights learn, and how fast: freezing, the backbone's rate, and rates that fall towards the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from train.config import ALL_BUT_HEAD, Config
from train.exceptions import TrainingError
from train.models.stages import Stage, find


@dataclass(frozen=True)
class Groups:
    """What is frozen, and the factors of the learning rate.

    Attributes:
        stages: of the backbone in the order of the forward pass; none where they make no difference.
        frozen: how many of them, from the first.
        factors: of each stage; 1 for whatever else there is.
    """

    stages: tuple[Stage, ...] = ()
    frozen: int = 0
    factors: tuple[float, ...] = ()

    @classmethod
    def of(cls, config: Config, model: nn.Module, height: int, width: int) -> Groups:
        """By a run's settings.

        Raises:
            TrainingError: more stages to freeze than there are.
        """
        if not config.freeze and config.layer_decay == config.backbone_rate == 1:
            return cls()
        images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        stages = find(model, images)
        frozen = len(stages) if config.freeze == ALL_BUT_HEAD else int(config.freeze or 0)
        if frozen > len(stages):
            names = ", ".join(stage.name for stage in stages)
            raise TrainingError(f"--freeze {frozen}: {config.arch} has {len(stages)} stages: {names}")
        return cls(stages, frozen, factors(len(stages), config.layer_decay, config.backbone_rate))

    def freeze(self) -> None:
        """Let the first stages be: no gradients, and evaluation mode, in which batch statistics stay as they are."""
        for stage in self.stages[: self.frozen]:
            for weight in stage.parameters():
                weight.requires_grad_(False)
            for module in stage.modules:
                _stay_in_evaluation(module)

    def parameters(self, model: nn.Module) -> list[dict[str, Any]]:
        """The weights that learn, as an optimizer takes them, with the factor of their rate."""
        factor = {
            id(weight): factor
            for stage, factor in zip(self.stages, self.factors, strict=True)
            for weight in stage.parameters()
        }
        groups: dict[float, list[nn.Parameter]] = {}
        for weight in model.parameters():
            if weight.requires_grad:
                groups.setdefault(factor.get(id(weight), 1.0), []).append(weight)
        return [{"params": weights, "factor": factor} for factor, weights in groups.items()]

    def told(self, model: nn.Module) -> tuple[str, ...]:
        """What is frozen, and the rates, in a line each."""
        lines = []
        if self.frozen:
            learning = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
            total = sum(weight.numel() for weight in model.parameters())
            last = self.stages[self.frozen - 1].name
            lines.append(
                f"frozen: {self.frozen} of {len(self.stages)} stages, {self.stages[0].name} to {last}; "
                f"{learning:,} of {total:,} parameters train"
            )
        if any(factor != 1 for factor in self.factors[self.frozen :]):
            learning_stages = self.factors[self.frozen :]
            lines.append(
                f"learning rates: {learning_stages[0]:.3g} (first stage) to {learning_stages[-1]:.3g} (last) of the head's"
            )
        return tuple(lines)


def factors(stages: int, decay: float, backbone_rate: float) -> tuple[float, ...]:
    """Of the learning rate of each stage, where the last layer's is 1 (Clark et al. 2020, arXiv:2003.10555; BEiT).

        backbone_rate * decay ^ (L - i)

    for stage i of L, from 0.
    """
    return tuple(backbone_rate * decay ** (stages - i) for i in range(stages))


def _stay_in_evaluation(module: nn.Module) -> None:
    """Put a module into evaluation mode, in which it stays whatever mode the network is put into."""
    module.eval()
    for part in module.modules():
        part.train = _unmoved.__get__(part)  # type: ignore[method-assign]


def _unmoved(module: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001
    return module
