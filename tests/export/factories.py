"""Models of other people, as factories for `--model`; K = 3 classes of images 16 x 16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.small import network


def plain() -> nn.Module:
    """Logits only."""
    return network()


def trained() -> nn.Module:
    """The same with other weights."""
    model = plain()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(0.03)
    return model


class Features(nn.Module):
    """Convolution, ReLU, pooling: 8 features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x)).mean(dim=(2, 3))


class Reordered(Features):
    """The layer called last is neither the first nor the last that was registered, and one is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 6)
        self.last = nn.Linear(6, 3)
        self.middle = nn.Linear(6, 6)
        self.unused = nn.Linear(6, 3)

    def hidden(self, x: Tensor) -> Tensor:
        """What the last layer sees."""
        return torch.relu(self.middle(torch.relu(self.first(self.features(x)))))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.hidden(x))
        return logits


class Pair(Features):
    """Returns logits and penultimate itself; no linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3))

    def forward(self, x: Tensor) -> Any:
        features = self.features(x)
        return features @ self.weight, features


class OnePair(Pair):
    """A pair as a list."""

    def forward(self, x: Tensor) -> Any:
        return list(super().forward(x))


class Triple(Pair):
    def forward(self, x: Tensor) -> Any:
        return (*super().forward(x), x)


class NoLinear(Pair):
    """A matrix product without nn.Linear."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = super().forward(x)[0]
        return logits


class Distances(Pair):
    """Logits are distances to prototypes."""

    def forward(self, x: Tensor) -> Tensor:
        return -(super().forward(x)[1][:, None] - self.weight.T).abs().amax(dim=2)


class Tokens(Features):
    """The linear layer sees [N, T, D]; its outputs are pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.relu(self.conv(x)).flatten(2).transpose(1, 2)
        logits: Tensor = self.fc(tokens).mean(dim=1)
        return logits


class Keyword(Features):
    """Calls its linear layer by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(input=self.features(x))
        return logits


class Dropout(Keyword):
    """Random in training."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(nn.functional.dropout(self.features(x), 0.5, self.training))
        return logits


class Wrapper(nn.Module):
    """Has a child of the name that DataParallel gives to its."""

    def __init__(self) -> None:
        super().__init__()
        self.module = plain()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module(x)
        return logits


class Branching(nn.Module):
    """Decides by the values of its input, which a graph can't."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3))
        logits: Tensor = self.fc(pooled if pooled.sum() > 0 else -pooled)
        return logits


class Noisy(Features):
    """Answers differently each time."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        logits: Tensor = self.fc(features + torch.rand_like(features))
        return logits


class Square(nn.Module):
    """Takes images of 4 x 4 only."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(x.flatten(1))
        return logits


def needs_an_argument(depth: int) -> nn.Module:
    del depth
    return plain()


def fails() -> nn.Module:
    raise RuntimeError("no network today")


def not_a_module() -> str:
    return "resnet"


not_callable = 3


class LogSoftmax(Keyword):
    """Returns log-probabilities, as torch's NLLLoss wants them; each class is predicted now and then."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.fc.weight.zero_()[:, :3] = torch.diag(torch.tensor([18.0, 6.0, 10.0]))
            self.fc.bias.copy_(torch.tensor([-3.0, -2.5, -4.7]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(super().forward(x), dim=1)


class OneOutput(Features):
    """One sigmoid for two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.fc(self.features(x)))


class BatchStatistics(Features):
    """Batch normalisation without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3, track_running_stats=False)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(self.bn(x)))
        return logits


class Squeezed(Keyword):
    """Drops the batch's dimension with that of one image."""

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x)).mean(dim=(2, 3), keepdim=True).squeeze()


class Embedding(Features):
    """Features (B, 8) and no head."""

    def forward(self, x: Tensor) -> Any:
        return self.features(x)


class FeatureMap(Features):
    """Features of each position, (B, 8, 16, 16)."""

    def forward(self, x: Tensor) -> Any:
        return torch.relu(self.conv(x))


class OneOfAList(Features):
    def forward(self, x: Tensor) -> Any:
        return [self.features(x)]


class Pooler(Features):
    """As transformers' models without a head return them."""

    def forward(self, x: Tensor) -> Any:
        return {"last_hidden_state": self.conv(x), "pooler_output": self.features(x)[:, :, None, None]}


class TokenFeatures(Features):
    """(B, 256, 8): which of the tokens?"""

    def forward(self, x: Tensor) -> Any:
        return self.conv(x).flatten(2).transpose(1, 2)


class UnitLength(Features):
    """An embedding, normalised."""

    def forward(self, x: Tensor) -> Any:
        return nn.functional.normalize(self.features(x))
