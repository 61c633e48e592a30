"""What a network puts out for the sets of photographs, its scores, and how well they separate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from torch import nn
from tqdm import tqdm

from benchmarks.odin import odin_scores
from benchmarks.snojoe.networks import Features
from export.detectors.base import Energy, JointEnergy, MaxLogit, Msp
from export.detectors.distances.mahalanobis import Mahalanobis, MahalanobisPlusPlus
from export.from_torch.network.backbone import Backbone
from export.from_torch.network.faces import Face
from export.metrics.detection import detection
from export.metrics.multilabel import mean_average_precision
from runtime.manifest import InputSpec
from train.data import ImageSet, load

OOD = ("imagenet", "textures", "caltech")
TRAIN, KNOWN = "coco18-train", "coco18-val@2/2"
SCORES = (
    *("joint_energy", "max_logit", "msp", "energy", "mahalanobis++"),
    *("odin", "mahalanobis", "lof", "isolation_forest"),
)
_EPSILON = 0.0014  # ODIN's step, of pixels in [0, 1]: the paper's for CIFAR-10, not chosen here
_BATCH = 64

Array = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Outputs = tuple[Array, Array]


def photographs(data: Path, name: str, spec: InputSpec) -> ImageSet:
    """``coco18-val@2/2`` of DATA, decoded, in memory."""
    file, part, which = name.partition("@")
    return load(f"{data / file}.tar{part}{which}", spec, in_memory=True)


def outputs(module: nn.Module, spec: InputSpec, images: npt.NDArray[np.uint8], title: str) -> Outputs:
    """Logits (N, K) and penultimate activations (N, D), in evaluation mode."""
    network = Backbone(module, spec).eval()
    starts = tqdm(range(0, len(images), _BATCH), desc=title, unit="batch", disable=None, leave=False)
    with torch.inference_mode():
        found = [network(torch.from_numpy(images[start : start + _BATCH])) for start in starts]
    logits, penultimate = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*found, strict=True))
    return logits, penultimate


def maps(lower: nn.Module, spec: InputSpec, images: npt.NDArray[np.uint8], title: str) -> npt.NDArray[np.float16]:
    """What the lower stages put out, (N, C, h, w), in evaluation mode."""
    face = Face(spec)
    lower = lower.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    found = []
    with torch.inference_mode():
        for start in tqdm(range(0, len(images), _BATCH), desc=title, unit="batch"):
            x = face(torch.from_numpy(np.ascontiguousarray(images[start : start + _BATCH])))
            found.append(lower(x.contiguous(memory_format=torch.channels_last)).half().contiguous().numpy())
    return np.concatenate(found)


def pooled(features: Features, middle: npt.NDArray[np.float16], title: str) -> Array:
    """The backbone's features (N, D) of what its lower stages put out."""
    return np.concatenate([features.pooled(part).numpy() for part in _parts(features, middle, title)])


def of_maps(module: nn.Module, middle: npt.NDArray[np.float16], title: str) -> Outputs:
    """Logits (N, K) and penultimate activations (N, D) of what the lower stages put out."""
    found = [module(part) for part in _parts(module, middle, title)]
    logits, penultimate = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*found, strict=True))
    return logits, penultimate


def _parts(module: nn.Module, middle: npt.NDArray[np.float16], title: str) -> Iterator[torch.Tensor]:
    module.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    with torch.inference_mode():
        for start in tqdm(range(0, len(middle), _BATCH), desc=title, unit="batch", disable=None, leave=False):
            part = torch.from_numpy(np.array(middle[start : start + _BATCH])).float()
            yield part.contiguous(memory_format=torch.channels_last)


def scores(
    training: Outputs, labels: npt.NDArray[np.bool_], sets: Mapping[str, Outputs]
) -> dict[str, dict[str, Values]]:
    """Every score but ODIN of every set, by score and set; what is fitted is fitted on the training images.

    Args:
        training, labels: of the images trained on; multi-hot (n, K).
        sets: outputs by name.
    """
    _, features = training
    base = {"joint_energy": JointEnergy(), "max_logit": MaxLogit(), "msp": Msp(), "energy": Energy()}
    gaussians = {
        "mahalanobis++": MahalanobisPlusPlus.of(features, labels),
        "mahalanobis": Mahalanobis.of(features, labels),
    }
    neighbours = LocalOutlierFactor(novelty=True).fit(features)
    forest = IsolationForest(random_state=0).fit(features)
    found = {
        name: {key: detector.reference(*pair) for key, pair in sets.items()}
        for name, detector in (base | gaussians).items()
    }
    for name, fitted in {"lof": neighbours, "isolation_forest": forest}.items():
        found[name] = {key: fitted.score_samples(penultimate) for key, (_, penultimate) in sets.items()}
    return found


def odin(module: nn.Module, spec: InputSpec, sets: Mapping[str, ImageSet]) -> dict[str, Values]:
    """By the largest sigmoid, T = 1, of every set."""
    network = Backbone(module, spec).eval()
    return {name: odin_scores(network, one.images, 1.0, _EPSILON, "multilabel", name) for name, one in sets.items()}


def figures(found: Mapping[str, Mapping[str, Values]]) -> dict[str, Any]:
    """AUROC, FPR95 (ID-positive) and AUPR (ID positive) of each score against each OOD set, in [0, 1]."""
    return {score: {name: _figures(values["known"], values[name]) for name in OOD} for score, values in found.items()}


def precision(known: Outputs, labels: npt.NDArray[np.bool_]) -> float:
    """Mean average precision."""
    measured = mean_average_precision(known[0], labels)
    return measured.value if measured else float("nan")


def _figures(known: Values, unknown: Values) -> dict[str, float]:
    own = detection(known, unknown)
    return {"fpr95": own.fpr95_id_positive, "auroc": own.auroc, "aupr": own.aupr_in}
