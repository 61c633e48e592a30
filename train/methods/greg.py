"""Gradient regularisation: a flat score around images that are already detected right (GReg)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from train.distributed import process_count
from train.exceptions import TrainingError
from train.methods.base import Batch, OutlierMethod, Step, at_least_float32, require
from train.methods.double_backward import twice_differentiable
from train.methods.double_backward.examine import examine
from train.methods.energy import Energy, energy
from train.methods.outlier_exposure import OutlierExposure
from train.methods.sampling import Sample, energy_based_sample

# What the norms are averaged over; see gradient_loss.
Reduction = Literal["sample", "batch"]


def gradient_norms(score: Tensor, images: Tensor, detected: Tensor, *, create_graph: bool = True) -> Tensor:
    """||1[detected] grad_x S||_2 of each image, differentiable with respect to the weights.

    In training mode batch normalisation ties the images of a batch together; grad_x S is then the gradient of the
    detected images' summed score, as automatic differentiation has it.

    Args:
        score: S, (B,), a function of `images`.
        images: (B, C, H, W), requiring grad.
        detected: bool (B,), the images whose score is already on its side of the margin.
        create_graph: whether the norms shall be differentiable; to watch them only costs a third.

    Returns:
        (B,), at least 0, in units of the score over those of `images`; 0 where not detected. At a gradient of
        exactly zero the derivative is taken as zero.
    """
    total = (score * detected).sum()
    (gradient,) = torch.autograd.grad(total, images, retain_graph=True, create_graph=create_graph)
    norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return norms * detected


def gradient_loss(norms_in: Tensor, norms_aux: Tensor, reduction: Reduction = "sample", processes: int = 1) -> Tensor:
    """The gradient loss (GReg eq. 3) from the norms of :func:`gradient_norms`.

        L = E_in ||1[S <= m_in] grad_x S|| + E_aux ||1[S >= m_aux] grad_x S||

    Args:
        norms_in, norms_aux: of in-distribution images (B,) and of outliers (A,).
        reduction: ``sample`` is the equation. ``batch`` divides it by the number of images, B + A, the scale of the
            authors' released code: that differentiates the mean of the batch's hinges, so that every image's gradient
            carries a factor 1 / B or 1 / A, and then averages the norms over the joint batch. Exactly the same only
            where batch normalisation does not couple the images of a batch.
        processes: how many processes hold as many images each.

    Returns:
        a scalar.
    """
    loss = norms_in.mean() + norms_aux.mean()
    return loss if reduction == "sample" else loss / (processes * (len(norms_in) + len(norms_aux)))


@dataclass(frozen=True)
class GradientLoss(OutlierMethod):
    """A method whose loss has `gradient_weight` times the gradient loss of a score (GReg eq. 3)."""

    gradient_weight: float = 0.05  # lambda of the gradient loss, chosen in docs/measured/greg_settings.md
    reduction: Reduction = "sample"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            (self.reduction in ("sample", "batch"), f"reduction must be sample or batch, found {self.reduction!r}"),
            (self.gradient_weight >= 0, f"gradient_weight must be at least 0, found {self.gradient_weight:g}"),
        )

    @abstractmethod
    def score(self, logits: Tensor) -> Tensor:
        """S, what is to be flat: (B, K) -> (B,); low means in-distribution."""

    @abstractmethod
    def margins(self, classes: int) -> tuple[float, float]:
        """m_in and m_aux: images with at most, and outliers with at least, such a score are detected."""

    def step(self, model: nn.Module, batch: Batch) -> Step:
        """Its own terms, and the gradient loss of its score where that is beyond its margin."""
        weight = self.gradient_weight
        logits, images = _differentiable(model, torch.cat([batch.images, batch.outliers]), twice=weight > 0)
        known, outliers = batch.split(logits)
        score, (m_in, m_aux) = self.score(logits), self.margins(logits.shape[1])
        inside, outside = batch.split(score)
        norms = gradient_norms(score, images, torch.cat([inside <= m_in, outside >= m_aux]), create_graph=weight > 0)
        terms = self.terms(known, outliers, batch.labels)
        return _regularised(terms, known, weight, self.reduction, *batch.split(norms))

    def examine(self, model: nn.Module, images: Tensor) -> list[str]:
        slow = examine(model, images, self.score) if self.gradient_weight > 0 else []
        return [*super().examine(model, images), *slow]


@dataclass(frozen=True)
class GReg(GradientLoss, Energy):
    """The energy loss plus `gradient_weight` times the gradient loss of the energy (GReg eq. 3)."""

    def score(self, logits: Tensor) -> Tensor:
        return energy(logits)

    def margins(self, classes: int) -> tuple[float, float]:  # noqa: ARG002  of any number
        return self.m_in, self.m_aux


@dataclass(frozen=True)
class GRegOutlierExposure(GradientLoss, OutlierExposure):
    """Outlier Exposure plus the gradient loss of the score it is detected by, S = -max softmax (GReg table 4).

    The paper leaves the margins open: here an image is detected right when its confidence is at least `confident`, an
    outlier when its confidence is at most `uncertain` of the way from chance, 1 / K, which none can fall below, to 1.
    """

    gradient_weight: float = 0.1
    confident: float = 0.9
    uncertain: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        inside = 0 <= self.uncertain <= 1 and 0 <= self.confident <= 1
        require((inside, f"confident and uncertain must be in [0, 1], found {self.confident:g} and {self.uncertain:g}"))

    def score(self, logits: Tensor) -> Tensor:
        return -logits.softmax(dim=1).amax(dim=1)

    def margins(self, classes: int) -> tuple[float, float]:
        return -self.confident, -(self.uncertain + (1 - self.uncertain) / classes)


@dataclass(frozen=True)
class GRegPlus(GReg):
    """GReg on outliers chosen by energy-based sampling (GReg algorithm 1).

    Of the candidates of a step, one cluster for each in-distribution image, those of least energy enter the energy
    loss and those of most energy the gradient loss.
    """

    recordable: ClassVar[bool] = False
    candidates: float = 4.0  # at least so many for each image; more where an epoch would not show every outlier
    clusters: int = 0  # of a step's candidates; 0 for one each image, the paper's, whose table 7 compares 16, 32 and 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clusters < 0:
            raise TrainingError(f"clusters must be at least 1, or 0 for one each image, found {self.clusters:g}")
        if self.outliers_per_image != 1:
            raise TrainingError(
                "greg+ draws candidates and takes two of each cluster: set candidates or clusters instead"
            )

    def outliers(self, batch_size: int, share: int) -> int:
        return max(share, int(self.candidates * batch_size))

    def step(self, model: nn.Module, batch: Batch) -> Step:
        lowest, highest = self._sample(model, batch)
        chosen = torch.cat([batch.images, batch.outliers[lowest], batch.outliers[highest]])
        logits, images = _differentiable(model, chosen, twice=self.gradient_weight > 0)
        sizes = [len(batch.images), len(lowest), len(highest)]
        known, low, _ = torch.split(logits, sizes)
        score = energy(logits)
        inside, outside, far = torch.split(score, sizes)
        detected = torch.cat([inside <= self.m_in, torch.zeros_like(outside, dtype=torch.bool), far >= self.m_aux])
        norms = gradient_norms(score, images, detected, create_graph=self.gradient_weight > 0)
        norms_in, _, norms_aux = torch.split(norms, sizes)
        terms = self.terms(known, low, batch.labels)
        return _regularised(terms, known, self.gradient_weight, self.reduction, norms_in, norms_aux)

    @torch.no_grad()
    def _sample(self, model: nn.Module, batch: Batch) -> Sample:
        training = [module for module in model.modules() if module.training]  # some may be frozen
        model.eval()  # neither ties candidates together nor counts them in the running statistics
        logits, features = model(batch.outliers)
        torch.clear_autocast_cache()  # before torch 2.11 of weights too that are to have gradients
        for module in training:
            module.training = True
        clusters = int(self.clusters) or len(batch.images)
        energies = energy(logits.float()).cpu().numpy()
        return energy_based_sample(features.float().cpu().numpy(), energies, clusters, batch.seed)


def _differentiable(model: nn.Module, images: Tensor, *, twice: bool) -> tuple[Tensor, Tensor]:
    """Logits, and the images they can be differentiated by; quickly a second time, if asked for."""
    images = images.requires_grad_()
    logits, _ = twice_differentiable(model, images) if twice else model(images)
    return at_least_float32(logits), images


def _regularised(
    terms: dict[str, Tensor], logits: Tensor, weight: float, reduction: Reduction, norms_in: Tensor, norms_aux: Tensor
) -> Step:
    """The step with the gradient loss among its terms, and the mean norm on each side as its figures.

    With a weight of 0 the norms are watched and teach nothing.
    """
    loss = gradient_loss(norms_in, norms_aux, reduction, process_count())
    figures = {"gradient_norm_in": norms_in.mean(), "gradient_norm_aux": norms_aux.mean()}
    return Step({**terms, "gradient": weight * loss}, logits, figures)
