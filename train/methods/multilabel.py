"""Methods for images that carry any number of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from runtime.manifest import Task
from train.methods import spectral
from train.methods.base import Batch, Method, Step, logits_of, require

LAYERS = 9  # where neither layers nor stages are given: the paper's number


@dataclass(frozen=True)
class BinaryCrossEntropy(Method):
    """One sigmoid a label; the mean over images and labels."""

    task: ClassVar[Task] = "multilabel"

    def step(self, model: nn.Module, batch: Batch) -> Step:
        logits = logits_of(model, batch.images)
        loss = F.binary_cross_entropy_with_logits(logits, batch.labels.to(logits.dtype))
        return Step({"binary_cross_entropy": loss}, logits)


@dataclass(frozen=True)
class SNoJoE(BinaryCrossEntropy):
    """Binary cross-entropy with the network's first layers spectrally normalised (SNoJoE section 3.3).

    The paper's table 3 compares 0, 7, 8 and 9 "layers" of a ResNet-101, the ninth being its average pooling: children of
    torchvision's ResNet, which are `stages` here, and not convolutions.

    Attributes:
        layers: how many of the network's convolutions, in the order of its modules; -1 for 9, or for none with `stages`.
        stages: the convolutions of how many of :func:`train.methods.spectral.stages`; 0 for `layers` instead.
        norm: ``matrix`` or ``operator``, of :class:`train.methods.spectral.Scaled`.
        coefficient: the bound c on that norm; 0 for a norm of 1 whatever it was (eq. 13).
        batch_norm: the bound on the norm of each batch normalisation that follows one of these convolutions
            (:class:`train.methods.spectral.Limited`); 0 for none, which is the paper's.
    """

    layers: int = -1
    stages: int = 0
    norm: str = "matrix"
    coefficient: float = 0.0
    batch_norm: float = 0.0

    def __post_init__(self) -> None:
        require(
            (self.layers >= -1, f"layers must be at least 0, found {self.layers:g}"),
            (self.stages >= 0, f"stages must be at least 1, found {self.stages:g}"),
            (self.layers < 0 or not self.stages, "give layers or stages, not both; stages=0 takes off a recipe's"),
            (self.norm in spectral.NORMS, f"norm must be {' or '.join(spectral.NORMS)}, found {self.norm!r}"),
            (self.coefficient >= 0, f"coefficient must be at least 0, found {self.coefficient:g}"),
            (self.batch_norm >= 0, f"batch_norm must be at least 0, found {self.batch_norm:g}"),
        )

    def prepare(self, model: nn.Module, size: tuple[int, int]) -> None:
        if self.stages:
            convolutions = spectral.first_stages(model, int(self.stages))
        else:
            convolutions = spectral.first_convolutions(model, LAYERS if self.layers < 0 else int(self.layers))
        norm = next(each for each in spectral.NORMS if each == self.norm)
        spectral.normalise(model, convolutions, size, norm, self.coefficient, self.batch_norm)

    def settle(self, model: nn.Module) -> None:
        spectral.settle(model)
