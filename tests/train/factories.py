"""Networks of other people, as factories for ``--arch``."""

from __future__ import annotations

import warnings
from collections import namedtuple
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

Outputs = namedtuple("Outputs", ["logits", "aux"])


class Small(nn.Module):
    """Two convolutions, pooling, a hidden layer and a last one, called `other` and not registered last."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.other = nn.Linear(4, classes)
        self.hidden = nn.Linear(6, 4)

    def features(self, x: Tensor) -> Tensor:
        return self.hidden(torch.relu(self.norm(self.stem(x))).mean((2, 3))).relu()

    def forward(self, x: Tensor) -> Any:
        return self.other(self.features(x))


def small(classes: int = 5) -> nn.Module:
    return Small(classes)


def normed() -> nn.Module:
    network = Small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        network.hidden = nn.utils.weight_norm(network.hidden)
    network(torch.zeros(2, 3, 8, 8)).sum()
    return network


def twins() -> nn.Module:
    """One that takes the random weights of another, as networks with a target or an average of their own do."""
    network = Small()
    network.load_state_dict(state_dict=Small().state_dict())
    return network


def pretrained(path: str) -> nn.Module:
    """One that reads its weights, as many libraries' factories do."""
    network = Small()
    state = torch.load(path, map_location="cpu")
    network.load_state_dict({name: value.float() for name, value in state["model"].items()})
    return network


def opened(path: str) -> nn.Module:
    """One that reads them tensor by tensor."""
    network = Small()
    with safe_open(path, framework="pt") as file:
        network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  not a dict
    return network


class Named(Small):
    """Outputs with names, the logits first."""

    def forward(self, x: Tensor) -> Any:
        logits = self.other(self.features(x))
        return Outputs(logits, logits * 2)


class Mapped(Small):
    """Outputs by name."""

    def forward(self, x: Tensor) -> Any:
        return {"loss": None, "logits": self.other(self.features(x))}


class Convolution(Small):
    """The last layer is a convolution of 1 x 1 on a map, of which the mean is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(6, 5, 1))

    def forward(self, x: Tensor) -> Any:
        return self.head(torch.relu(self.norm(self.stem(x)))).mean((2, 3))


class Flattened(Small):
    """The last layer is a convolution on one position."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(6, 5, 1, bias=False)

    def forward(self, x: Tensor) -> Any:
        return self.head(torch.relu(self.norm(self.stem(x))).mean((2, 3), keepdim=True)).flatten(1)


class Zeroed(Small):
    """The last layer begins with zeros, as some are; another as wide is zero too."""

    def __init__(self) -> None:
        super().__init__(classes=4)
        for layer in (self.other, self.hidden):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


class Shared(Small):
    """The last layer has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.alias = self.other

    def forward(self, x: Tensor) -> Any:
        return self.alias(self.features(x))


class Softmax(Small):
    """Probabilities."""

    def forward(self, x: Tensor) -> Any:
        return self.other(self.features(x)).softmax(1)


class Scaled(Small):
    """Something behind the last layer."""

    def forward(self, x: Tensor) -> Any:
        return 3 * self.other(self.features(x))


class Twice(Small):
    """Logits of two last layers."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Any:
        features = self.features(x)
        return self.other(features) + self.second(features)


class Matrix(Small):
    """The last map is no layer."""

    def forward(self, x: Tensor) -> Any:
        return self.features(x) @ self.other.weight.T


class Bent(Small):
    """A rectifier behind the last layer."""

    def forward(self, x: Tensor) -> Any:
        return self.other(self.features(x)).abs()


class Map(Small):
    """No logits but a map."""

    def forward(self, x: Tensor) -> Any:
        return self.stem(x)[0]


class Fixed(Small):
    """Of images of 16 x 16 alone."""

    def forward(self, x: Tensor) -> Any:
        return self.other(self.features(x + torch.zeros(16, 16)))


class Changing(Small):
    """Another width each time that it is built."""

    built = 0

    def __init__(self) -> None:
        Changing.built += 1
        super().__init__()
        self.hidden = nn.Linear(6, 4 + Changing.built)
        self.other = nn.Linear(4 + Changing.built, 5)


kept = Small()
