"""Methods for images that carry any number of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from runtime.manifest import Task
from train.methods import spectral
from train.methods.base import Batch, Method, Step, logits_of


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
    """Binary cross-entropy with the first `layers` convolutions spectrally normalised (SNoJoE section 3.3)."""

    layers: int = 9  # the paper's; its table 3 compares 0, 7, 8 and 9

    def prepare(self, model: nn.Module) -> None:
        spectral.normalise(model, int(self.layers))

    def settle(self, model: nn.Module) -> None:
        spectral.settle(model)
