"""A network as its library built it, with what is known of it; and what builders have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import nn

from train.descriptions.description import Description
from train.weights.files import Weights, is_averaged

Transform = Callable[[Image.Image], Any]

# The option that gives a file of weights, beside the one that names the network.
FILE_OPTION = {"--model": "--checkpoint", "--arch": "--init"}


@dataclass(frozen=True)
class Built:
    """A network with its weights.

    Attributes:
        arch: what it is called.
        description: what its origin says of it.
        remarks: what was found, taken or assumed while it was built.
        headed: whether it is known to return logits, or features; None where it is not known.
        transform: what its library makes of an RGB image, [C, H, W] normalised, where that can be run here.
        pretrained: which weights it has; None for those that it was initialised with.
        file: of its factory's code.
        config: what else builds it again, JSON.
    """

    module: nn.Module
    arch: str
    description: Description
    remarks: tuple[str, ...] = ()
    transform: Transform | None = None
    headed: bool | None = None
    pretrained: str | None = None
    file: str = ""
    config: dict[str, Any] = field(default_factory=dict)


def classes_of(weights: Weights) -> int | None:
    """The number of classes by a file's last matrix: what registers its head last, as nearly all networks do."""
    plain = [state for name, state in weights.entries.items() if not is_averaged(name)] or list(
        weights.entries.values()
    )
    state = max(plain, key=len, default={})
    matrices = [value for name, value in state.items() if value.ndim in (2, 4) and name.endswith("weight")]
    return int(matrices[-1].shape[0]) if matrices else None


def said(error: BaseException) -> str:
    """An exception's message as one line of moderate length."""
    text: Any = " ".join(str(error).split()) or type(error).__name__
    return str(text)[:300]
