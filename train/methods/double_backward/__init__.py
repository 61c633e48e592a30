"""A network's second derivative, by its images and then by its weights, on fast kernels.

In half precision a rectifier's input is on the wrong side of zero now and then, which sets a gradient's whole path
where it should be nothing. So what the forward pass gives comes from single precision there, and only the passes that
are linear in what flows through them, all those backward, run in half.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from train.methods.base import single_precision
from train.methods.double_backward.batch_norm import batch_norm, with_statistics
from train.methods.double_backward.convolution import conv2d
from train.methods.double_backward.dropout import dropout, with_mask
from train.methods.double_backward.function import Known, recorded
from train.methods.double_backward.rectifier import hardtanh, relu, relu6

_OPERATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.conv2d: conv2d,
    F.batch_norm: batch_norm,
    F.dropout: dropout,
    F.relu: relu,
    F.relu6: relu6,
    F.hardtanh: hardtanh,
}
# What else draws in a network, such as stochastic depth; a recorded step can't go back to where a generator was.
_DRAWING = frozenset(
    (
        *("bernoulli", "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "multinomial", "normal"),
        *("normal_", "poisson", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm"),
        *("random_", "uniform_", "gumbel_softmax", "rrelu", "rrelu_", "dropout", "dropout_", "dropout1d", "dropout2d"),
        *("dropout3d", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"),
    )
)


class FastDoubleBackward(TorchFunctionMode):
    """Within this context the forward pass of any network records these operations in place of torch's own.

    It does not matter whether a module of torch calls them or another one does. A backward pass that builds a graph
    (``create_graph=True``) then yields the gradient with respect to the input alone: weights get none. That is the
    first half of an input-gradient penalty; the second half, an ordinary backward pass, yields them all.

    Args:
        known: what the operations give, in their order, where that was computed before.
    """

    def __init__(self, known: Iterable[Known] = ()) -> None:
        super().__init__()
        self._known = iter(known)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        operation = _OPERATIONS.get(func)
        if operation is None:
            return func(*args, **(kwargs or {}))
        return operation(*args, **(kwargs or {}), known=next(self._known, None))


def twice_differentiable(model: nn.Module, images: Tensor) -> Any:
    """model(images), to be differentiated by the images and then by the weights, fast and as exactly as single precision.

    Under autocast the network runs once more, in single precision, without TF32; the batch statistics that it keeps are
    those of that pass.
    """
    kind = images.device.type
    if not torch.is_autocast_enabled(kind):
        with _unfused_attention(), FastDoubleBackward():
            return model(images)
    again = not recorded(images)
    devices = [images.device] if kind != "cpu" and again else []
    exact = _Exact(torch.get_autocast_dtype(kind), drawing=again)
    with (
        _python_draws_again(),
        torch.random.fork_rng(devices),
        torch.no_grad(),
        single_precision(kind),
        _unfused_attention(),
        exact,
    ):
        model(images)
    others = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with _unfused_attention(), FastDoubleBackward(exact.known):
        return functional_call(model, others, (images,))


@contextmanager
def _python_draws_again() -> Iterator[None]:
    """After this context Python's generator and numpy's are where they were before: a network may draw by them."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Attention in elementary steps: no backward pass of torch's fused kernels can be differentiated."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


class _Exact(TorchFunctionMode):
    """Within this context what the operations give is kept, in half precision.

    Args:
        dtype: that.
        drawing: whether operations may draw, as they will again; dropout may in any case.

    Attributes:
        known: what they give, in their order.
    """

    def __init__(self, dtype: torch.dtype, *, drawing: bool) -> None:
        super().__init__()
        self.known: list[Known] = []
        self._dtype, self._drawing = dtype, drawing

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not self._drawing and (name := _drawing(func, args, kwargs or {})):
            raise RuntimeError(f"{name} would draw again what it drew in single precision")
        if func is F.batch_norm:
            output, *statistics = with_statistics(*args, **(kwargs or {}))
        elif func is F.dropout:
            output, *statistics = with_mask(*args, **(kwargs or {}))
        else:
            output, statistics = func(*args, **(kwargs or {})), []
        if func in _OPERATIONS:
            self.known.append((output.to(self._dtype, copy=True), *statistics))
        return output


def _drawing(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The function's name, if it draws: dropout excepted, whose mask is kept."""
    name = str(getattr(func, "__name__", ""))
    place = {F.scaled_dot_product_attention: 4, F.multi_head_attention_forward: 10}.get(func)
    if place is not None:
        share = kwargs.get("dropout_p", args[place] if len(args) > place else 0.0)
        return name if share and kwargs.get("training", True) else ""
    return name if name in _DRAWING and func is not F.dropout else ""
