"""Input gradients of a score: how far an image is from the gate's threshold, to first order."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.manifest import InputSpec
from train.data import Images
from train.normalize import Normalize

_BATCH = 64


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T logsumexp(f / T), (B, K) -> (B,)."""
    return temperature * torch.logsumexp(logits / temperature, dim=1)


def max_logit(logits: Tensor) -> Tensor:
    """max f."""
    return logits.amax(dim=1)


def msp(logits: Tensor) -> Tensor:
    """max softmax(f)."""
    return logits.softmax(dim=1).amax(dim=1)


def joint_energy(logits: Tensor) -> Tensor:
    """sum log(1 + exp f)."""
    return F.softplus(logits).sum(dim=1)


SCORES: dict[str, Callable[..., Tensor]] = {
    "energy": energy,
    "max_logit": max_logit,
    "msp": msp,
    "joint_energy": joint_energy,
}


def gradient_norms(
    classifier: nn.Module, spec: InputSpec, score: str, images: Images, parameters: Mapping[str, float] | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A score S and ||grad_x S||_2 of each image, x being its pixels scaled to [0, 1].

    Args:
        classifier: returns (logits (B, K), penultimate) of normalised images; is put into evaluation mode.
        spec: the normalisation, which the gradient goes through.
        score: a key of :data:`SCORES`, higher means more in-distribution.
        images: uint8 [N, H, W, 3], N >= 1.
        parameters: keyword arguments of the score.

    Returns:
        float64 (N,) and (N,).
    """
    normalize, function = Normalize(spec), SCORES[score]
    classifier.eval()
    scores, norms = [], []
    for start in range(0, len(images), _BATCH):
        pixels = torch.from_numpy(images[start : start + _BATCH]).float().requires_grad_()
        values = function(classifier(normalize(pixels))[0].float(), **(parameters or {}))
        (gradient,) = torch.autograd.grad(values.sum(), pixels)  # an image's score depends on its own pixels alone
        scores.append(values.detach().double())
        norms.append(255 * gradient.double().flatten(1).norm(dim=1))  # pixels are 255 times x
    return torch.cat(scores).numpy(), torch.cat(norms).numpy()


def first_order_radius(
    scores: npt.NDArray[np.float64], threshold: float, norms: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(S - threshold) / ||grad_x S||: to first order, the L2 distance to a changed decision; negative where rejected.

    GReg equation 4 with the gradient norm at x in place of the Lipschitz constant around it, which for a network that
    is linear around x is the same as far as it is linear. An estimate, no certificate: the constant may be larger nearby.
    Infinite where the gradient is 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = (scores - threshold) / norms
    return np.where(scores == threshold, 0.0, radius)
