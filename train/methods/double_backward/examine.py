"""What a network's second derivative will cost, or why there is none, told before training begins."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from train.exceptions import TrainingError
from train.methods.double_backward import twice_differentiable

# By torch's generic formulas, exact and slower than the passes themselves; attention besides in elementary steps.
_SLOW = {
    F.conv1d: "conv1d",
    F.conv2d: "conv2d",
    F.conv3d: "conv3d",
    F.conv_transpose1d: "conv_transpose1d",
    F.conv_transpose2d: "conv_transpose2d",
    F.conv_transpose3d: "conv_transpose3d",
    F.layer_norm: "layer_norm",
    F.group_norm: "group_norm",
    F.instance_norm: "instance_norm",
    F.scaled_dot_product_attention: "attention",
    F.multi_head_attention_forward: "attention",
}


def examine(model: nn.Module, images: Tensor, score: Callable[[Tensor], Tensor]) -> list[str]:
    """Differentiate a score of a copy of the network twice, by the images and by the weights.

    Args:
        model: returns (logits, features).
        images: some, normalised, (B, C, H, W).
        score: (B, K) -> (B,).

    Returns:
        a line for each kind of layer that torch's own formulas differentiate, which are exact and slow: its name, and where
        such layers are in the network.

    Raises:
        TrainingError: an operation whose gradient can't be differentiated.
    """
    model = copy.deepcopy(model).train()
    record = _Record(model)
    images = images.detach().clone().requires_grad_()
    with record:
        logits, _ = twice_differentiable(model, images)
    try:
        (gradient,) = torch.autograd.grad(score(logits).sum(), images, create_graph=True)
        gradient.square().sum().backward()  # type: ignore[no-untyped-call]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise TrainingError(
            f"the gradient loss needs the network's second derivative, and a layer has none ({reason}); "
            "take another --arch, or --method energy or oe, which do without"
        ) from error
    return [_line(kind, names) for kind, names in record.slow.items()]


def _line(kind: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} x {kind}, differentiated twice by torch's own formulas, exact and slow: {shown}"


class _Record(TorchFunctionMode):
    """Within this context the slow operations of a network are noted.

    Attributes:
        slow: the modules that call each kind.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.slow: dict[str, list[str]] = {}
        self._inside: list[str] = []
        for name, module in model.named_modules():
            module.register_forward_pre_hook(lambda *_, name=name: self._inside.append(name))
            module.register_forward_hook(self._leave)

    def _leave(self, *_: Any) -> None:
        self._inside.pop()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _SLOW and torch.is_grad_enabled():  # not so within an autograd function, which is ours
            self.slow.setdefault(_SLOW[func], []).append(self._inside[-1] or "the network itself")
        return output
