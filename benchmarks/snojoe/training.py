"""The two ways of training: the classifier alone on features that are computed once, and the whole network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.snojoe.networks import BACKBONES, MOMENTUM, SIDE, Classifier, Network, Upper
from train import checkpoint
from train.checkpoint import Checkpoint, Header
from train.config import Config
from train.data import ImageSet
from train.loop import CHECKPOINT, train
from train.methods import Batch, make, spectral
from train.metrics import mean_average_precision

RATES, EPOCHS = (3e-4, 1e-3), (10, 20)
_BATCH = 128
_STEP_BATCH = 32


@dataclass(frozen=True)
class Variant:
    """Attributes:
    options: of the method `snojoe`; none for binary cross-entropy alone.
    statistics: of a network that is not trained further, whether its batch normalisations keep theirs while the weights
        before them are divided, or have them divided too.
    """

    options: Mapping[str, float | str] = field(default_factory=dict)
    statistics: str = "kept"


def prepared(backbone: str, variant: Variant, classes: int) -> Network:
    """A network with ImageNet's weights, these scaled as the variant says and folded into plain ones."""
    network = Network(BACKBONES[backbone], classes)
    if not variant.options:
        return network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    method = make("snojoe", {**variant.options})
    method.prepare(network, (SIDE, SIDE))
    method.settle(network)
    spectral.fold(network)
    if variant.statistics == "divided":
        divide_statistics(network, before)
    return network


@torch.no_grad()
def divide_statistics(network: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Divide the running mean of each batch normalisation by what the convolution before it was divided by, and the variance
    by its square: but for epsilon it then puts out what it did before.

    Args:
        network: with the divided weights.
        before: its state before.
    """
    factor: Tensor = torch.ones(())
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            factor = before[f"{name}.weight"].norm() / module.weight.norm()
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean /= factor
            module.running_var /= factor**2


def classifier(
    features: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_], rate: float, epochs: int, seed: int
) -> Classifier:
    """Trained on features (n, D) by Adam with a cosine schedule."""
    torch.manual_seed(seed)
    model = Classifier(features.shape[1], labels.shape[1])
    x, y = torch.from_numpy(features), torch.from_numpy(labels).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    steps = len(x) // _BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * epochs)
    for _ in range(epochs):
        for rows in torch.randperm(len(x))[: steps * _BATCH].reshape(steps, _BATCH):
            loss = F.binary_cross_entropy_with_logits(model(x[rows])[0], y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return model.eval()


def choose(features: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_]) -> dict[str, float]:
    """The rate and the epochs with the largest mAP on every fifth training image, trained on the others."""
    held = np.arange(len(features)) % 5 == 4
    found = []
    for rate in RATES:
        for epochs in EPOCHS:
            model = classifier(features[~held], labels[~held], rate, epochs, seed=0)
            with torch.no_grad():
                logits = model(torch.from_numpy(features[held]))[0].numpy()
            found.append((mean_average_precision(logits, labels[held]), rate, epochs))
    precision, rate, epochs = max(found)
    return {"rate": rate, "epochs": epochs, "held_out_map": precision}


def start(backbone: str, head: Classifier, labels: Sequence[str]) -> Checkpoint:
    """ImageNet's weights and a classifier trained on their features, as a run can start from."""
    network = Network(BACKBONES[backbone], len(labels))
    network.classifier.load_state_dict(head.state_dict())
    header = Header(backbone, "multilabel", tuple(labels), BACKBONES[backbone].spec, "bce")
    return Checkpoint(header, dict(network.state_dict()), {})


def tuned(
    backbone: str,
    variant: Variant,
    begin: Checkpoint,
    data: ImageSet,
    val: ImageSet,
    settings: Mapping[str, Any],
    out: Path,
) -> nn.Module:
    """The whole network trained further by the project's own loop; gone on with where it was left."""
    method = "snojoe" if variant.options else "bce"
    config = Config(
        method,
        backbone,
        method_options={**variant.options},
        batch_size=_STEP_BATCH,
        optimizer="adam",
        weight_decay=0.0,
        warmup=0.25,
        padding=12,
        **settings,
    )
    path = out / CHECKPOINT
    resume = checkpoint.load(path) if path.exists() else None
    spec, sources = BACKBONES[backbone].spec, {"data": "coco18-train.tar"}
    recorded = torch.cuda.is_available()
    train(config, spec, data, val, out, resume, init=begin, sources=sources, cuda_graph=recorded)
    return checkpoint.load(path).model()


def scale_upper(network: Network, options: Mapping[str, Any] | None) -> None:
    """Scale the convolutions of the upper stages as a run does; nothing where `options` are None."""
    if options is not None:
        spectral.normalise(network, spectral.convolutions_of(network.features.upper), (SIDE, SIDE), **options)
        spectral.settle(network)


@torch.no_grad()
def estimate_statistics(network: Network, middle: npt.NDArray[np.float16]) -> None:
    """Give the batch normalisations of the upper stages the mean statistics of batches of training images, as training has
    them: ImageNet's are of other photographs, of another size."""
    upper = network.features.upper.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    layers = [module for module in upper.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
    rows = torch.randperm(len(middle), generator=torch.Generator().manual_seed(0)).tolist()
    for start in tqdm(range(0, len(rows) - _BATCH + 1, _BATCH), desc="statistics"):
        batch = torch.from_numpy(np.stack([middle[row] for row in rows[start : start + _BATCH]])).float()
        upper(batch.contiguous(memory_format=torch.channels_last))
    for layer in layers:
        layer.momentum = MOMENTUM
    upper.eval()


def upper_tuned(
    network: Network,
    options: Mapping[str, Any] | None,
    middle: tuple[npt.NDArray[np.float16], npt.NDArray[np.float16]],
    labels: npt.NDArray[np.bool_],
    settings: Mapping[str, Any],
) -> Upper:
    """The stages after the lower ones and the classifier, trained further on what the lower ones put out.

    Args:
        network: whose upper part is trained, in place.
        options: of :func:`train.methods.spectral.normalise`, for the convolutions of that part; None for none.
        middle: of the images and of their mirror images, (n, C, h, w); a step draws one of them for each image.
        labels: multi-hot (n, K).
        settings: `epochs`, `learning_rate` and `seed`.
    """
    torch.manual_seed(settings["seed"])
    model = Upper(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    method = make("snojoe", {"layers": 0})
    scale_upper(network, options)
    rate = settings["learning_rate"]
    groups = [
        {"params": model.features.parameters(), "lr": rate * settings["backbone_rate"]},
        {"params": model.classifier.parameters(), "lr": rate},
    ]
    optimizer = torch.optim.Adam(groups)
    hot, steps = torch.from_numpy(labels).float(), len(labels) // _STEP_BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * settings["epochs"])
    for epoch in range(settings["epochs"]):
        model.train()
        bar = tqdm(
            torch.randperm(len(labels))[: steps * _STEP_BATCH].reshape(steps, _STEP_BATCH), desc=f"epoch {epoch + 1}"
        )
        for rows in bar:
            sides = torch.randint(0, 2, (len(rows),)).tolist()
            seen = np.stack([middle[side][row] for side, row in zip(sides, rows.tolist(), strict=True)])
            batch = torch.from_numpy(seen).float().contiguous(memory_format=torch.channels_last)
            loss = method.step(model, Batch(batch, hot[rows], batch[:0])).loss
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.3f}")
        method.settle(model)
    spectral.fold(model)
    return model
