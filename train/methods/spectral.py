"""Spectral normalisation of a network's first convolutions (SNoJoE eq. 12-13), and folding it into the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from train.exceptions import TrainingError
from train.methods.base import single_precision

Norm = Literal["matrix", "operator"]
NORMS: tuple[Norm, ...] = get_args(Norm)

# Of the power method, per training step. Adam's rates of 1e-3 and less move the weights so little that these keep a norm
# within 1e-4 of 1; while it converges, or at SGD's rate of 0.1, it may be out by some percent, until it is settled.
POWER_ITERATIONS: dict[Norm, int] = {"matrix": 3, "operator": 1}
_STARTING = 15
# To be settled, at most so many; or until the last one changes the norm by less than this share.
_SETTLING: dict[Norm, int] = {"matrix": 300, "operator": 50}
_SETTLED: dict[Norm, float] = {"matrix": 0.0, "operator": 1e-5}
_NAMED = 12  # stages that a message lists


class Scaled(nn.Module):
    """A convolution's weight W at a spectral norm of 1, W / sigma, or of at most c, W / max(1, sigma / c).

    sigma is that of `norm`: ``matrix`` of W as a matrix (out channels, in channels / groups x height x width), as Miyato et
    al. 2018 (arXiv:1802.05957) and :func:`torch.nn.utils.parametrizations.spectral_norm` have it; ``operator`` of the linear
    map from the layer's input to its output, at the size, stride, padding and groups that it runs with (Gouk et al. 2021,
    arXiv:1804.04368; i-ResNet, arXiv:1811.00995). The second is how far apart the layer can move two inputs of
    distance 1; of a kernel of height h and width w it may be sqrt(h w) times the first.

    Args:
        convolution: the layer, before it is parametrised.
        coefficient: c; 0 for a norm of 1 whatever it was.
        size: (C, H, W) of the layer's input, for the norm of its operator; None for that of the matrix.

    Attributes:
        vector: the right singular vector as far as it is found, of norm 1.
    """

    vector: Tensor

    def __init__(self, convolution: nn.Conv2d, coefficient: float, size: tuple[int, ...] | None) -> None:
        super().__init__()
        self.norm: Norm = "operator" if size else "matrix"
        self.coefficient = coefficient
        twin = copy.deepcopy(convolution).to("meta")
        twin.bias = None
        self._twin = (twin,)  # in a tuple: no part of the network's state
        weight = convolution.weight.detach()
        # The same in every process, and whatever has been drawn before.
        shape, generator = (1, *size) if size else (weight[0].numel(),), torch.Generator().manual_seed(0)
        drawn = torch.randn(shape, generator=generator, dtype=weight.dtype).to(weight.device)
        self.register_buffer("vector", drawn / torch.linalg.vector_norm(drawn))
        self.iterate(weight, _STARTING)

    def forward(self, weight: Tensor) -> Tensor:
        """W (O, I / groups, h, w) -> the same, scaled."""
        if self.training:
            self.iterate(weight, POWER_ITERATIONS[self.norm])
        with single_precision(weight.device.type):
            sigma = torch.linalg.vector_norm(self._reach(weight, self.vector.clone()))
        factor: Tensor = (sigma / self.coefficient).clamp(min=1) if self.coefficient else sigma
        return weight / factor

    def iterate(self, weight: Tensor, times: int) -> None:
        """So many steps of the power method."""
        for _ in range(times):
            self.vector.copy_(self._power(weight)[0])

    def settle(self, weight: Tensor) -> None:
        """Steps of the power method until they change the norm no more."""
        before = 0.0
        for _ in range(_SETTLING[self.norm]):
            vector, square = self._power(weight)
            self.vector.copy_(vector)
            now = square.item() ** 0.5
            if abs(now - before) <= _SETTLED[self.norm] * now:
                break
            before = now

    def _power(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """A' A v / ||A' A v|| and ||A' A v||, A' by the derivative of <A v, u> with respect to v."""
        with single_precision(weight.device.type), torch.inference_mode(False), torch.enable_grad():
            v = self.vector.clone().requires_grad_()
            reached = self._reach(weight.detach(), v)
            (back,) = torch.autograd.grad(reached, v, reached.detach())
        square = torch.linalg.vector_norm(back)
        return back / square.clamp(min=torch.finfo(back.dtype).tiny), square

    def _reach(self, weight: Tensor, vector: Tensor) -> Tensor:
        """A v, of the layer without its bias, or W v."""
        if self.norm == "matrix":
            return weight.flatten(1) @ vector
        found: Tensor = functional_call(self._twin[0], {"weight": weight}, (vector,))
        return found


class Limited(nn.Module):
    """The gain g of a batch normalisation, g / max(1, L / c) with L = max_i |g_i| / sqrt(v_i + eps), v its running variance.

    L is the spectral norm of what it does in evaluation (Gouk et al. 2021, arXiv:1804.04368, section 3.3; with the running
    variance, as here, van Amersfoort et al. 2021, arXiv:2102.11409). Without it the normalisation takes back whatever a
    convolution before it was divided by.

    Args:
        normalisation: the layer.
        coefficient: c.
    """

    def __init__(self, normalisation: nn.BatchNorm2d, coefficient: float) -> None:
        super().__init__()
        self._layer = (normalisation,)  # in a tuple: it has this one as a part
        self.coefficient = coefficient

    def forward(self, gain: Tensor) -> Tensor:
        """(C,) -> (C,)."""
        layer = self._layer[0]
        if layer.running_var is None:
            raise TrainingError("a batch normalisation without running statistics has no norm; leave batch_norm at 0")
        norm = (gain.abs() / (layer.running_var + layer.eps).sqrt()).max()
        return gain / (norm / self.coefficient).clamp(min=1)


def first_convolutions(model: nn.Module, layers: int) -> list[nn.Conv2d]:
    """The first `layers` convolutions in the order of ``model.modules()``, which is that of the forward pass in the networks
    of :mod:`train.models`.

    Raises:
        TrainingError: the network has fewer convolutions.
    """
    convolutions = convolutions_of(model)
    if not 0 <= layers <= len(convolutions):
        raise TrainingError(f"can't normalise {layers} layers: the network has {len(convolutions)} convolutions")
    return convolutions[:layers]


def first_stages(model: nn.Module, count: int) -> list[nn.Conv2d]:
    """The convolutions in the first `count` of :func:`stages`.

    Raises:
        TrainingError: the network has fewer stages, or no convolution in these.
    """
    found = stages(model)
    names = ", ".join(list(found)[:_NAMED]) + (", .." if len(found) > _NAMED else "")
    if not 1 <= count <= len(found):
        raise TrainingError(f"can't normalise {count} stages: the network has {len(found)}: {names}")
    convolutions = [each for stage in list(found.values())[:count] for each in convolutions_of(stage)]
    if not convolutions:
        raise TrainingError(f"the first {count} stages have no convolution to normalise; the network's are {names}")
    return convolutions


def stages(model: nn.Module) -> dict[str, nn.Module]:
    """The backbone's children by name, in the order that it lists them.

    That is the order of the forward pass in torchvision's, timm's and our networks. Of a module that has all convolutions
    in one of its children, as a wrapper around a backbone has, those of that child; of a ``ModuleList``, which has no
    forward pass of its own, its members. torchvision's ResNets have ten: conv1, bn1, relu,
    maxpool, layer1 to layer4, avgpool, fc.
    """
    found = dict(_children(model))
    having = [child for child in found.values() if convolutions_of(child)]
    if len(having) == 1 and not isinstance(having[0], nn.Conv2d):
        return stages(having[0])
    return found


def convolutions_of(model: nn.Module) -> list[nn.Conv2d]:
    """In the order of ``model.modules()``."""
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def normalise(
    model: nn.Module,
    convolutions: Sequence[nn.Conv2d],
    size: tuple[int, int],
    norm: Norm = "matrix",
    coefficient: float = 0.0,
    batch_norm: float = 0.0,
) -> None:
    """From now on scale the weights of these convolutions as :class:`Scaled` says.

    Args:
        model: the network that they are of.
        convolutions: which.
        size: height and width of the network's images.
        norm, coefficient: of :class:`Scaled`.
        batch_norm: if not 0, c of :class:`Limited` for every batch normalisation that comes next after one of them.

    Raises:
        TrainingError: one of them is frozen, or parametrised by the network itself.
    """
    if frozen := sum(not convolution.weight.requires_grad for convolution in convolutions):
        raise TrainingError(
            f"{frozen} of the {len(convolutions)} convolutions to normalise are frozen: their weights would be divided and "
            "the statistics that follow them would stay; freeze fewer stages, or normalise none"
        )
    if parametrised := sum(parametrize.is_parametrized(convolution) for convolution in convolutions):
        raise TrainingError(
            f"{parametrised} of the {len(convolutions)} convolutions to normalise have a parametrisation of their own, such "
            "as torch's spectral_norm or weight_norm; take it off in the factory, or normalise fewer"
        )
    sizes = _sizes(model, convolutions, size) if norm == "operator" else [None] * len(convolutions)
    if batch_norm:
        for layer in _following(model, convolutions):
            parametrize.register_parametrization(layer, "weight", Limited(layer, batch_norm))
    for convolution, own in zip(convolutions, sizes, strict=True):
        parametrize.register_parametrization(convolution, "weight", Scaled(convolution, coefficient, own))


@torch.no_grad()
def settle(model: nn.Module) -> None:
    """Let the power method catch up with the weights, so that every scaled layer has its norm; leaves the model in training
    mode."""
    model.train()
    for layer in model.modules():
        for scaled in _parametrizations(layer):
            if isinstance(scaled, Scaled):
                scaled.settle(layer.parametrizations.weight.original)  # type: ignore[union-attr, arg-type]


def fold(model: nn.Module) -> nn.Module:
    """Replace every weight that :func:`normalise` scales by its value in evaluation mode; returns the model, in that mode."""
    model.eval()
    for module in list(model.modules()):
        if any(isinstance(each, (Scaled, Limited)) for each in _parametrizations(module)):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return model


def _children(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            yield from _children(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


@torch.no_grad()
def _sizes(model: nn.Module, convolutions: Sequence[nn.Conv2d], size: tuple[int, int]) -> list[tuple[int, ...] | None]:
    """(C, H, W) of the input of each convolution, where the network's images are of this height and width."""
    found: dict[nn.Module, tuple[int, ...]] = {}
    handles = [
        each.register_forward_pre_hook(lambda module, inputs: found.update({module: tuple(inputs[0].shape[1:])}))
        for each in convolutions
    ]
    training, weight = model.training, next(model.parameters())
    model.eval()
    try:
        model(torch.zeros(1, 3, *size, dtype=weight.dtype, device=weight.device))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    if missing := len(convolutions) - len(found):
        raise TrainingError(f"{missing} of the convolutions to normalise take no part in the forward pass")
    return [found[each] for each in convolutions]


def _following(model: nn.Module, convolutions: Sequence[nn.Conv2d]) -> list[nn.BatchNorm2d]:
    """The batch normalisations of which the last convolution before them is one of these."""
    chosen, last, found = {id(each) for each in convolutions}, None, []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            last = module
        elif isinstance(module, nn.BatchNorm2d) and module.affine and id(last) in chosen:
            found.append(module)
    return found


def _parametrizations(module: nn.Module) -> list[nn.Module]:
    """Of the module's weight."""
    if not parametrize.is_parametrized(module, "weight"):
        return []
    return list(module.parametrizations.weight)  # type: ignore[union-attr, arg-type]
