"""An exponential moving average of a network's weights, by which it is evaluated and exported."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """The average and the network that has it.

        a <- d a + (1 - d) w,  d = min(decay, (1 + t) / (10 + t))

    after step t, from 0, of weights and running statistics (TensorFlow's ExponentialMovingAverage with num_updates: a short
    run's average is not one of its first weights). What is no floating-point number is copied.

    Attributes:
        model: the network with the averaged weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay
        own = self.model.state_dict()
        names = {value.data_ptr(): name for name, value in own.items()}.values()  # of each tensor one
        self._floating = [name for name in names if own[name].is_floating_point()]
        self._others = [name for name in names if not own[name].is_floating_point()]

    @torch.no_grad()
    def follow(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step."""
        weight = 1 - decay_at(step, self._decay)
        theirs = model.state_dict()
        own = self.model.state_dict()
        floating = self._floating
        torch._foreach_lerp_([own[name] for name in floating], [theirs[name] for name in floating], weight)
        for name in self._others:
            own[name].copy_(theirs[name])

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on with averaged weights."""
        self.model.load_state_dict(weights)


def decay_at(step: int, decay: float) -> float:
    """How much of the average stays after a step, from 0."""
    return min(decay, (1 + step) / (10 + step))
