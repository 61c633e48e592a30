"""What a network takes, made of the graph's face of RGB pixels: normalised, in its order of channels and of axes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runtime.manifest import InputSpec
from train.normalize import Normalize

# Pillow's conversion to L, in 65536ths of red, green and blue (ITU-R 601); exact in float32.
_LUMA = (19595.0, 38470.0, 7471.0)


class Grey(nn.Module):
    """uint8 (B, H, W, 3) -> whole numbers of 0 to 255 as float32 (B, H, W, 1), as Pillow's mode L rounds them."""

    luma: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("luma", torch.tensor(_LUMA), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        weighted: Tensor = (images.float() * self.luma).sum(dim=3, keepdim=True)
        return torch.floor((weighted + 32768.0) / 65536.0)


class Face(nn.Module):
    """uint8 RGB images (B, H, W, 3) -> float32 (B, C, H, W), or (B, H, W, C) where the network wants channels last.

    Args:
        spec: the normalisation and the channels.
        channels_last: whether the network's axes are NHWC.
    """

    def __init__(self, spec: InputSpec, *, channels_last: bool = False) -> None:
        super().__init__()
        self.normalize = Normalize(spec)
        self.grey = Grey() if spec.channels == "grey" else None
        self.channels, self.opaque, self.channels_last = spec.channels, spec.opaque, channels_last

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.normalize(images if self.grey is None else self.grey(images))
        if self.channels == "grey":
            x = x[:, :1]
        elif self.channels == "bgr":
            x = x.flip(1)
        elif self.channels == "rgba":
            x = torch.cat((x, torch.full_like(x[:, :1], self.opaque)), dim=1)
        # In memory as its axes say: a network may take images apart by view, which says nothing of axes that are only turned.
        return (x.permute(0, 2, 3, 1) if self.channels_last else x).contiguous()
