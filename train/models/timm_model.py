"""Any classifier of the timm library, by its name there; timm is imported when one is asked for."""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor, nn

from train.exceptions import TrainingError


class TimmModel(nn.Module):
    """A network of timm and its last linear layer, `fc`.

    Args:
        name: what timm calls it, such as ``resnet50``.
        num_classes: K.

    Raises:
        TrainingError: timm can't be imported or has no such network, or the network does not end in one linear layer.
    """

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        try:
            timm = importlib.import_module("timm")
        except ImportError as error:
            raise TrainingError(f"timm:{name} needs the timm library; install it: pip install timm") from error
        try:
            self.network: Any = timm.create_model(name, num_classes=num_classes)
        except RuntimeError as error:
            raise TrainingError(f"timm:{name}: timm can't make this network: {error}") from error
        classifier = self.network.get_classifier()
        if not isinstance(classifier, nn.Linear):
            raise TrainingError(
                f"timm:{name}: expected a network that ends in one linear layer, found {type(classifier).__name__}"
            )
        self.network.reset_classifier(0)
        self.fc = classifier

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W), normalised -> logits (B, K), penultimate (B, D)."""
        penultimate = self.network.forward_head(self.network.forward_features(x), pre_logits=True)
        return self.fc(penultimate), penultimate
