"""The small fast network: its whitening from images, its first state, its size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.train.sets import SPEC, colours
from train import models
from train.config import Config
from train.distributed import World
from train.exceptions import TrainingError
from train.loop.trainer import Trainer
from train.methods.double_backward.examine import examine
from train.methods.energy import energy
from train.models.airbench import Airbench, Whitening, airbench
from train.normalize import Normalize
from train.recipes import RECIPES


def patches(images: np.ndarray) -> np.ndarray:
    """(N, 3, H, W) -> every 2x2 patch, (n, 12)."""
    count, _, height, width = images.shape
    corners = [images[:, :, i : i + height - 1, j : j + width - 1] for i in (0, 1) for j in (0, 1)]
    return np.stack(corners, axis=2).transpose(0, 3, 4, 1, 2).reshape(count * (height - 1) * (width - 1), 12)


def test_whitened_patches_have_unit_variance_and_no_correlation() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(700, 3, 9, 9))
    images = torch.from_numpy(noise + 2 * noise.mean(axis=(1, 2, 3), keepdims=True)).float()
    whitening = Whitening()
    whitening.fit(images)
    answers = whitening(images).detach().double()
    assert torch.allclose(answers[:, :12], -answers[:, 12:], atol=1e-5)
    flat = answers[:, :12].permute(0, 2, 3, 1).reshape(-1, 12).numpy()
    variances = np.linalg.eigvalsh(patches(images.double().numpy()).T @ patches(images.double().numpy()) / len(flat))[
        ::-1
    ]
    second_moments = flat.T @ flat / len(flat)
    np.testing.assert_allclose(second_moments, np.diag(variances / (variances + 5e-4)), atol=1e-4)


def test_a_run_takes_the_whitening_from_its_training_images_and_leaves_it_there() -> None:
    config = Config(method="cross-entropy", arch="airbench", epochs=1, batch_size=8, precision="fp32")
    spec = replace(SPEC, height=16, width=16)
    data = colours(16)
    data = replace(data, images=np.asarray(data.images).repeat(2, axis=1).repeat(2, axis=2))
    trainer = Trainer(config, spec, data, None, None, World.alone())
    expected = Whitening()
    expected.fit(Normalize(spec)(torch.from_numpy(data.images)))
    weight = trainer.model.get_parameter("conv1.weight")
    torch.testing.assert_close(weight, expected.weight)
    before = weight.clone()
    for step, fed in enumerate(trainer.feed.steps(0, 2)):
        trainer.step(step + 1, fed)
    assert torch.equal(weight, before)
    assert trainer.model.get_parameter("conv1.bias").abs().max() > 0
    assert "conv1.weight.momentum_buffer" not in trainer.tensors()[1]


def test_its_size_and_its_features() -> None:
    model = models.make("airbench", 10).eval()
    assert sum(p.numel() for p in model.parameters()) < 3_000_000
    logits, features = model(torch.randn(2, 3, 32, 32))
    assert (logits.shape, features.shape) == ((2, 10), (2, 256))
    assert features.min() >= 0
    assert features.max() > 0


def test_blocks_begin_as_identities() -> None:
    model = Airbench(4, widths=(32,))
    x = torch.rand(2, 24, 6, 6)
    torch.testing.assert_close(model.blocks[0].conv1(x)[:, :24], x)  # type: ignore[operator, union-attr]
    torch.testing.assert_close(model.blocks[0].conv2(torch.ones(1, 32, 3, 3)), torch.ones(1, 32, 3, 3))  # type: ignore[operator, union-attr]


def test_a_shift_learns_64_times_as_fast_as_a_bias() -> None:
    norm = airbench(4).blocks[0].norm1  # type: ignore[union-attr]
    x = torch.randn(4, 64, 3, 3)
    before = norm(x)  # type: ignore[operator]
    before.sum().backward()
    with torch.no_grad():
        norm.shift -= 0.001 * norm.shift.grad  # type: ignore[union-attr, operator]
    moved = norm(x) - before  # type: ignore[operator]
    torch.testing.assert_close(moved, torch.full_like(moved, -0.001 * 64 * 4 * 9))


def test_its_second_derivative_is_there() -> None:
    assert examine(airbench(3), torch.randn(2, 3, 16, 16), energy) == []


def test_dropout_is_set_or_refused() -> None:
    model = models.make("wrn-40-2", 3)
    models.set_dropout(model, 0.1)
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.1}
    with pytest.raises(TrainingError, match="--dropout: the network has no dropout layer"):
        models.set_dropout(models.make("resnet20", 3), 0.1)


def test_the_recipe_learns() -> None:
    """Its settings, a smaller batch and its rate: the loss of a step falls below what knowing nothing costs."""
    recipe = {name: value for name, value in RECIPES["cifar-fast"].items() if name in Config.__dataclass_fields__}
    config = Config(
        **{**recipe, "epochs": 12, "batch_size": 16, "learning_rate": 0.05, "warmup": 2.0, "precision": "fp32"}
    )
    data = colours(48)
    data = replace(data, images=np.asarray(data.images).repeat(2, axis=1).repeat(2, axis=2))
    trainer = Trainer(config, replace(SPEC, height=16, width=16), data, None, None, World.alone())
    steps = config.epochs * trainer.feed.steps_per_epoch
    accuracies = [trainer.step(step, fed)[0]["accuracy"] for step, fed in enumerate(trainer.feed.steps(0, steps))]
    assert np.mean(accuracies[-3:]) > 0.8 > 0.6 > np.mean(accuracies[:3])
