"""What test_distributed.py has two processes compute, started by torchrun: ``-m tests.train.together DIRECTORY``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.train.sets import SPEC, colours, noise
from train import models
from train.config import Config
from train.data import ImageSet
from train.distributed import World, join, use_global_batch_norm
from train.loop.trainer import Trainer

BATCH = 8  # of all processes
# Margins between which some images of an untrained network lie and some do not.
_REGULARISED = {"m_in": -1.4, "m_aux": -1.5, "gradient_weight": 1.0}
METHODS: dict[str, tuple[str, str, dict[str, float | str]]] = {
    "cross-entropy": ("cross-entropy", "resnet20", {}),
    "energy": ("energy", "resnet20", {"weight": 1.0, "m_in": -1.4, "m_aux": -1.0}),
    "greg by sample": ("greg", "resnet20", {**_REGULARISED, "reduction": "sample"}),
    "greg by batch": ("greg", "resnet20", {**_REGULARISED, "reduction": "batch"}),
    "idle layer": ("cross-entropy", "idle", {}),
    "greg with an idle layer": ("greg", "idle", {**_REGULARISED, "m_in": 0.0, "m_aux": -3.0}),
}


class Idle(nn.Module):
    """A layer that takes no part, and a batch normalisation without weights."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, affine=False)
        self.pooler, self.fc = nn.Linear(6, 6), nn.Linear(6, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.norm(self.conv(x)).relu().mean(dim=(2, 3))
        return self.fc(features), features


@patch.dict(models.ARCHITECTURES, idle=Idle)
def second_step(name: str, world: World) -> dict[str, Tensor]:
    """Figures, gradients and batch statistics of a run's second step; the first has a rate of zero."""
    method, arch, options = METHODS[name]
    config = Config(
        method,
        arch,
        epochs=1,
        batch_size=BATCH // world.size,
        method_options=options,
        padding=2,
        precision="fp32",
    )
    outliers = ImageSet(noise(24), np.zeros(24, np.int64), ("outlier",), ("",) * 24)
    trainer = Trainer(config, SPEC, colours(24), outliers, None, world)
    for step, fed in enumerate(trainer.feed.steps(0, 2)):
        figures, _ = trainer.step(step, fed)
    gradients = {
        f"gradient of {name}": p.grad.contiguous() for name, p in trainer.model.named_parameters() if p.grad is not None
    }
    learning = [name for name, _ in trainer.model.named_parameters() if not name.startswith("pooler.")]
    assert list(gradients) == [f"gradient of {name}" for name in learning]
    statistics = {
        f"statistic {name}": value for name, value in trainer.model.named_buffers() if value.is_floating_point()
    }
    told = {f"figure {name}": torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}
    return {**told, **gradients, **statistics}


def joined(values: dict[str, Tensor], kind: str) -> Tensor:
    """All numbers of a kind, figure, gradient or statistic, as one vector."""
    return torch.cat([value.double().flatten() for name, value in sorted(values.items()) if name.startswith(kind)])


def normalisation(world: World, total: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Outputs, running statistics, input gradient and the derivatives of its norms, in float64, on one part of a batch.

    Args:
        total: sums over the processes.
    """
    torch.manual_seed(0)
    layer = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3)).double()
    nn.init.uniform_(layer[0].weight, 0.5, 1.5)
    images = torch.randn(8, 3, 4, 2, dtype=torch.float64) * 2 + 1
    if world.size > 1:
        use_global_batch_norm(layer)
    mine = images.chunk(world.size)[world.rank].clone().requires_grad_()
    outputs = layer(mine)
    (gradient,) = torch.autograd.grad(outputs.sin().sum(), mine, create_graph=True)
    gradient.flatten(1).norm(dim=1).sum().backward()
    weight = layer[0].weight
    assert mine.grad is not None
    assert weight.grad is not None
    layer.eval()
    return {
        "part outputs": outputs.detach(),
        "part gradient": gradient.detach(),
        "part derivative by the images": mine.grad,
        "derivative by the weight": total(weight.grad),
        "running mean": layer[0].running_mean,
        "running variance": layer[0].running_var,
        "part in evaluation mode": layer(mine).detach(),
    }


def _total(values: Tensor) -> Tensor:
    torch.distributed.all_reduce(values)
    return values


def main(out: Path) -> None:
    torch.set_num_threads(1)
    with join() as world:
        for name in METHODS:
            save_file(second_step(name, world), out / f"{name}.{world.rank}")
        save_file(normalisation(world, _total), out / f"normalisation.{world.rank}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
