"""How an image becomes the model's input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Resize = Literal["center", "shortest", "squash", "border", "none"]
Corner = Literal["round", "floor"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Resampler = Literal["pillow", "torch"]
Colour = Literal["ignore", "srgb"]
Channels = Literal["rgb", "bgr", "grey", "rgba"]

_LARGEST = 5.0  # mean or deviation that is still one of values in [0, 1]


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the model's input.

    Attributes:
        height, width: the graph's image size in pixels.
        mean, std: per RGB channel, of pixels scaled to [0, 1]; applied inside the graph as ``(x / 255 - mean) / std``.
        resize: how the whole image is resized, on a grid of whole pixels, before the centre ``height x width`` of it is
            cut. ``shortest``: its short side becomes `resize_to`, its long side ``int(resize_to * long / short)``; of a
            pair, it just covers that rectangle. ``squash``: it is stretched to `resize_to`. ``border``: it just fits
            into `resize_to`. ``none``: it stays as large as it is. ``center`` is another rule, without a grid: the
            largest centred box of the input's aspect ratio, of which `crop_fraction` is kept.
        resize_to: the short side, or (height, width); None, with ``squash`` and ``border``, is the input's size.
        corner: of an odd number of pixels too many, ``round`` cuts as torchvision and timm do, to the even neighbour,
            and ``floor`` as transformers does, one less at the left and top.
        fill: the RGB colour around an image that is smaller than the input; by default white with ``border``, or black.
        crop_fraction: with ``center``, the share of the box's side that is kept.
        interpolation: the antialiased resampling filter.
        resampler: whose arithmetic, where both round: ``torch`` is that of uint8 tensors, by which torchvision's v2
            transforms resize them, and so transformers' processors wherever torchvision is installed; its ``nearest`` is
            torchvision's ``nearest-exact``.
        colour: ``srgb`` converts the colours of an embedded ICC profile to sRGB; ``ignore`` takes the numbers as they
            are, as bundles did before there was this field.
        channels: what the graph makes of RGB pixels for its network, of which `mean` and `std` stay those of R, G and B:
            ``bgr`` is the other order, ``grey`` one channel (ITU-R 601, rounded as Pillow does), ``rgba`` four of which
            the last is the constant `opaque`, normalised as the network is used to.

    What the transforms of other libraries are called here, with `height` and `width` of the crop, or of the resized image
    where nothing is cut:

    ==========================================================  =======================================================
    torchvision ``Resize(256), CenterCrop(224)``                ``shortest``, resize_to 256
    torchvision ``Resize((256, 320)), CenterCrop(224)``         ``squash``, resize_to (256, 320)
    torchvision ``Resize((224, 224))``                          ``squash``
    torchvision ``CenterCrop(224)``                             ``none``
    timm ``center``, crop_pct 0.95 of 224                       ``shortest``, resize_to floor(224 / 0.95) = 235
    timm ``center``, crop_pct 0.9 of 192 x 256                  ``shortest``, resize_to (213, 284)
    timm ``squash`` or ``border``, crop_pct 0.9 of 224          the same name, resize_to (248, 248); ``border``'s fill is
                                                                the mean, ``round(255 * m)`` a channel
    transformers ``size {shortest_edge: 256}``, crop_size 224   ``shortest``, resize_to 256, ``floor``
    transformers ``size {height: 224, width: 224}``             ``squash``
    transformers ConvNeXT, PoolFormer ``shortest_edge: 224``    ``shortest``, resize_to int(224 / crop_pct), ``floor``; a
                                                                ConvNeXT of 384 or more ``squash``
    transformers LeViT ``shortest_edge: 224``                   ``shortest``, resize_to int(256 / 224 * 224), ``floor``
    ==========================================================  =======================================================

    ``shortest_edge`` with ``longest_edge``, a ``max_size``, a border that is trimmed first, and sizes that depend on the
    image have no name here. timm's interpolation ``random`` is one of training.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Resize = "center"
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bilinear"
    colour: Colour = "ignore"
    resize_to: int | tuple[int, int] | None = None
    corner: Corner = "round"
    fill: tuple[int, int, int] | None = None
    resampler: Resampler = "pillow"
    channels: Channels = "rgb"
    opaque: float = 1.0

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"input size must be positive, found {self.height} x {self.width}")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must be in (0, 1], found {self.crop_fraction}")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ValueError(f"mean must be finite and std positive, found {self.mean} and {self.std}")
        if max(map(abs, self.mean)) > _LARGEST or max(self.std) > _LARGEST:
            mean, std = (" ".join(f"{value / 255:.4g}" for value in values) for values in (self.mean, self.std))
            raise ValueError(
                f"mean and std are of pixels in [0, 1], found {self.mean} and {self.std}; of pixels in [0, 255] they are, "
                f"divided by 255, mean {mean} and std {std}"
            )
        if self.fill and not all(0 <= value <= 255 for value in self.fill):
            raise ValueError(f"fill must be a colour of 0 to 255 a channel, found {self.fill}")
        self._check_resize_to()

    def _check_resize_to(self) -> None:
        to = self.resize_to
        if self.resize == "shortest" and to is None:
            raise ValueError("resize_to: shortest needs the short side, such as 256")
        if self.resize in ("center", "none") and to is not None:
            raise ValueError(f"resize_to goes with shortest, squash and border, found {to} with {self.resize}")
        if self.resize in ("squash", "border") and isinstance(to, int):
            raise ValueError(f"resize_to of {self.resize} must be (height, width), found {to}")
        if self.resize == "center" and self.resampler != "pillow":
            raise ValueError(f"center is resampled by pillow alone, found {self.resampler}")
        if to is not None and min(to if isinstance(to, tuple) else (to,)) < 1:
            raise ValueError(f"resize_to must be positive, found {to}")
