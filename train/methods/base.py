"""What a training method is: the loss of a batch, and what the loop must provide for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from runtime.manifest import Task
from train.exceptions import TrainingError


@dataclass(frozen=True)
class Batch:
    """What a step learns from.

    Attributes:
        images: augmented and normalised, (B, 3, H, W).
        labels: int64 (B,), or multi-hot float32 (B, K) for multi-label methods; where labels are smoothed or mixed,
            probabilities float32 (B, K) for both.
        outliers: auxiliary images (A, 3, H, W); A = 0 for methods that use none.
        seed: of whatever the method draws itself.
        views: for a method without labels, other views of the same images, (B, 3, H, W), and `images` are the first ones;
            none for others.
    """

    images: Tensor
    labels: Tensor
    outliers: Tensor
    seed: int = 0
    views: Tensor = field(default_factory=lambda: torch.empty(0))

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Of the rows of images followed by outliers, those of the images and those of the outliers."""
        known, outliers = torch.split(values, [len(self.images), len(self.outliers)])
        return known, outliers


@dataclass(frozen=True)
class Step:
    """What a method makes of a batch.

    Attributes:
        terms: by name, the scalars whose sum is the loss to descend.
        logits: (B, K), for the accuracy shown.
        figures: by name, other scalars worth a curve.
    """

    terms: dict[str, Tensor]
    logits: Tensor
    figures: dict[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        """The sum of the terms."""
        return cast(Tensor, sum(self.terms.values()))


@dataclass(frozen=True)
class Method(ABC):
    """A frozen dataclass whose fields are the method's hyperparameters."""

    task: ClassVar[Task] = "multiclass"
    needs_outliers: ClassVar[bool] = False
    recordable: ClassVar[bool] = True  # whether a step does the same to every batch, and draws nothing by its seed

    def prepare(self, model: nn.Module, size: tuple[int, int]) -> None:  # noqa: B027  most methods need nothing
        """Change a new network before it is trained; what this adds must fold into plain weights, or be released.

        Args:
            model: returns (logits, penultimate).
            size: height and width of its images.
        """

    def examine(self, model: nn.Module, images: Tensor) -> list[str]:  # noqa: ARG002
        """Try some images on the network before training; what is worth a line, or TrainingError where the method can't."""
        return []

    def release(self, model: nn.Module) -> None:  # noqa: B027
        """Take off what :meth:`prepare` added for training alone, once the weights are loaded."""

    def settle(self, model: nn.Module) -> None:  # noqa: B027
        """Bring what :meth:`prepare` added up to date at the end of an epoch, before the network is evaluated and saved."""

    def outliers(self, batch_size: int, share: int) -> int:  # noqa: ARG002  for methods that must see every one
        """How many auxiliary images a step draws; `share` of them a step show each one once an epoch."""
        return batch_size if self.needs_outliers else 0

    @abstractmethod
    def step(self, model: nn.Module, batch: Batch) -> Step:
        """Forward pass and loss of one batch."""


def require(*conditions: tuple[bool, str]) -> None:
    """Raises TrainingError with the first problem whose condition does not hold."""
    for holds, problem in conditions:
        if not holds:
            raise TrainingError(problem)


@dataclass(frozen=True)
class OutlierMethod(Method):
    """A method that learns from auxiliary outliers too, by terms of their logits."""

    needs_outliers: ClassVar[bool] = True

    outliers_per_image: float = 1.0  # auxiliary images that a step draws for each known one

    def __post_init__(self) -> None:
        require(
            (self.outliers_per_image > 0, f"outliers_per_image must be positive, found {self.outliers_per_image:g}")
        )

    def outliers(self, batch_size: int, share: int) -> int:  # noqa: ARG002
        return max(1, round(self.outliers_per_image * batch_size))

    def step(self, model: nn.Module, batch: Batch) -> Step:
        # One forward pass over both, so that batch normalisation sees both.
        known, outliers = batch.split(logits_of(model, torch.cat([batch.images, batch.outliers])))
        return Step(self.terms(known, outliers, batch.labels), known)

    @abstractmethod
    def terms(self, known: Tensor, outliers: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The terms of the loss, from the logits of the images (B, K) and of the outliers (A, K)."""


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """(B, K), at least float32 whatever the network's precision, because losses need it."""
    logits, _ = model(images)
    return at_least_float32(logits)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precisions as float32."""
    return tensor.float() if tensor.element_size() < 4 else tensor


@contextmanager
def single_precision(kind: str) -> Iterator[None]:
    """No autocast on this kind of device, and no TF32 in its convolutions, whose mantissas have ten bits."""
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        with torch.autocast(kind, enabled=False):
            yield
    finally:
        convolutions.fp32_precision = before
