"""Steps that are recorded as a CUDA graph: on a GPU they do what steps do otherwise; elsewhere they are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.train.sets import SPEC, coloured, colours, noise
from train import checkpoint, models
from train.checkpoint import Checkpoint
from train.config import Config
from train.data import ImageSet
from train.distributed import World
from train.exceptions import TrainingError
from train.loop import CHECKPOINT, optimizer, train
from train.loop.recorded import _ALL, _check, _held
from train.loop.trainer import Trainer
from train.methods import CrossEntropy
from train.models.wide_resnet import WideResNet

CONFIG = Config(method="cross-entropy", arch="wrn-10-1", epochs=2, batch_size=8, learning_rate=0.05, padding=1)
OUTLIERS = ImageSet(noise(20, seed=2), np.zeros(20, np.int64), ("outlier",), ("",) * 20)
MARGINS = {"m_in": -1.0, "m_aux": -1.2}  # among which untrained networks are
METHOD = CrossEntropy.step
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


class Replaced(WideResNet):
    """Puts another tensor in a buffer's place in every step."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, 10, 1, 0.0)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.seen = self.seen + 1
        return super().forward(x)


class Attribute(WideResNet):
    """Keeps a tensor of its own that is no buffer."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, 10, 1, 0.0)
        self.centre = torch.zeros(())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.centre = 0.9 * self.centre.to(x.device) + x.mean().detach()
        return super().forward(x)


class Synchronous(WideResNet):
    """Looks at a value on the CPU."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, 10, 1, 0.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x * (2 if x.mean().item() > 100 else 1))


class Counting(WideResNet):
    """Does something else in every step."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, 10, 1, 0.0)
        self.steps = 0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.steps += 1
        logits, penultimate = super().forward(x)
        return logits * self.steps, penultimate


class Deep(WideResNet):
    """Draws by another function than dropout's, as stochastic depth does."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, 10, 1, 0.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x * torch.bernoulli(torch.full_like(x[:, :1, :1, :1], 0.9)))


@pytest.fixture(autouse=True)
def architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.ARCHITECTURES, "wrn-10-1", lambda classes: WideResNet(classes, 10, 1, 0.3))
    for kind in (Replaced, Attribute, Synchronous, Counting, Deep):
        monkeypatch.setitem(models.ARCHITECTURES, kind.__name__.lower(), kind)


def trained(out: Path, config: Config, **options: Any) -> Checkpoint:
    several = config.method in ("bce", "snojoe")
    data = coloured() if several else colours()
    train(config, SPEC, data, coloured(seed=1) if several else colours(seed=1), out, **options)
    return checkpoint.load(out / CHECKPOINT)


@pytest.mark.parametrize("method", ["greg+", "moco"])
def test_steps_that_draw_are_refused(method: str) -> None:
    config = replace(CONFIG, method=method, arch="resnet20+nan", padding=4)
    outliers = OUTLIERS if method == "greg+" else None
    with pytest.raises(TrainingError, match=r"--cuda-graph can't record the steps of method '.*', whose steps draw"):
        Trainer(config, SPEC, colours(), outliers, None, World.alone(), None, cuda_graph=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_refused_at_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--cuda-graph needs a GPU that torch can use; leave it out"):
        trained(tmp_path, CONFIG, cuda_graph=True)


def test_a_run_that_is_complete_needs_no_gpu(tmp_path: Path) -> None:
    before = trained(tmp_path, CONFIG)
    after = trained(tmp_path, CONFIG, resume=before, cuda_graph=True)
    assert all(torch.equal(value, before.weights[name]) for name, value in after.weights.items())


def test_a_replay_is_compared() -> None:
    """Its terms to a percent, or a thousandth of the loss, and the weights' gradient as a whole."""
    expected = {"cross_entropy": torch.tensor(2.0), "gradient": torch.tensor(0.01), _ALL: torch.tensor([3.0, 4.0])}
    for name, near, far in (
        ("cross_entropy", torch.tensor(2.02), torch.tensor(2.03)),
        ("gradient", torch.tensor(0.0119), torch.tensor(0.0126)),
        (_ALL, torch.tensor([3.2, 4.1]), torch.tensor([3.2, 4.2])),
    ):
        _check(expected, {**expected, name: near})
        with pytest.raises(TrainingError, match=f"replayed, the step's {name} is .+ off"):
            _check(expected, {**expected, name: far})


def test_tensors_that_a_network_holds() -> None:
    network = Replaced(3)
    network.blocks[0].centre = torch.ones(2)
    assert {"seen", "blocks.0.centre", "bn.running_mean"} < _held(network).keys()
    assert not any(name.endswith("weight") for name in _held(network))


def test_a_weight_may_take_part_later_than_others() -> None:
    """With a GPU's optimizer, as without."""
    found = []
    for kind in ("cpu", "cuda"):
        weights = [nn.Parameter(torch.full((3,), value)) for value in (1.0, 2.0)]
        descent = optimizer.make(
            replace(CONFIG, momentum=0.9), [{"params": weights, "factor": 1.0}], torch.device(kind)
        )
        for step in range(3):
            for weight in weights[: 1 + (step > 0)]:
                weight.grad = torch.full((3,), 1.0 + step)
            descent.step()
        found.append([weight.detach() for weight in weights])
    for mine, reference in zip(*found, strict=True):
        torch.testing.assert_close(mine, reference)


def test_precision_does_not_reach_the_augmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(
        CrossEntropy, "step", lambda self, model, batch: (seen.append(batch.images), METHOD(self, model, batch))[1]
    )
    for precision in ("fp32", "bf16"):
        config = replace(CONFIG, precision=precision, augment="photographs", padding=4, epochs=1)
        trained(tmp_path / precision, config)
    half = len(seen) // 2
    assert all(torch.equal(*pair) for pair in zip(seen[:half], seen[half:], strict=True))


@on_a_gpu
@pytest.mark.parametrize(
    ("method", "options", "change"),
    [
        ("cross-entropy", {}, {}),
        ("cross-entropy", {}, {"precision": "bf16"}),
        ("cross-entropy", {}, {"ema": 0.9, "mixup": 0.2, "augment": "photographs+trivial", "padding": 4}),
        ("logitnorm", {}, {}),
        ("energy", MARGINS, {}),
        ("oe", {}, {}),
        ("greg", {**MARGINS, "gradient_weight": 0}, {"precision": "bf16"}),
        ("greg", {**MARGINS, "gradient_weight": 0.1}, {}),
        ("greg", {**MARGINS, "gradient_weight": 0.1}, {"precision": "bf16"}),
        ("greg-oe", {"confident": 0.5, "uncertain": 0.1}, {}),
        ("bce", {}, {"optimizer": "adam", "learning_rate": 1e-3}),
        ("snojoe", {"layers": 3}, {}),
        ("snojoe", {"layers": 3, "norm": "operator", "coefficient": 0.5, "batch_norm": 1.0}, {}),
    ],
)
def test_recorded_steps_end_with_the_weights_of_others(
    tmp_path: Path, method: str, options: dict[str, Any], change: dict[str, Any]
) -> None:
    """Dropout's draws and the images of every step included."""
    config = replace(CONFIG, method=method, method_options=options, **({"precision": "fp32"} | change))
    outliers = {"outliers": OUTLIERS} if method in ("energy", "oe", "greg", "greg-oe") else {}
    expected = trained(tmp_path / "expected", config, **outliers)
    found = trained(tmp_path / "found", config, cuda_graph=True, **outliers)
    data = coloured() if method in ("bce", "snojoe") else colours()
    start = Trainer(config, SPEC, data, outliers.get("outliers"), None, World.alone()).model.cpu().state_dict()
    names = [name for name, value in expected.weights.items() if value.is_floating_point() and name in start]
    moved, apart = (
        sum((a[name] - b[name]).double().square().sum() for name in names) ** 0.5
        for a, b in ((expected.weights, start), (found.weights, expected.weights))
    )
    assert apart <= 0.1 * moved  # kernels that add in another order every time


@on_a_gpu
@pytest.mark.parametrize(
    ("arch", "why"),
    [
        ("replaced", "the network puts another tensor in seen's place in every step"),
        ("attribute", "the network puts another tensor in centre's place in every step"),
        ("synchronous", r"the step can't be recorded \(.*captur.*\); leave it out"),
        ("counting", "replayed, the step's cross_entropy is .+ off, of"),
    ],
)
def test_networks_that_can_t_be_replayed_are_refused(tmp_path: Path, arch: str, why: str) -> None:
    with pytest.raises(TrainingError, match=why):
        trained(tmp_path, replace(CONFIG, arch=arch, precision="fp32"), cuda_graph=True)


@on_a_gpu
def test_what_would_draw_twice_in_the_penalty_is_refused(tmp_path: Path) -> None:
    config = replace(
        CONFIG, arch="deep", method="greg", method_options={**MARGINS, "gradient_weight": 0.1}, precision="bf16"
    )
    with pytest.raises(TrainingError, match="bernoulli would draw again what it drew in single precision"):
        trained(tmp_path, config, outliers=OUTLIERS, cuda_graph=True)


@on_a_gpu
def test_a_recorded_run_that_goes_on_ends_the_same(tmp_path: Path) -> None:
    config = replace(CONFIG, precision="fp32")
    expected = trained(tmp_path / "expected", config, cuda_graph=True)
    half = tmp_path / "half"
    stopped: list[nn.Module] = []

    class Stop(Exception):
        pass

    step = Trainer.step

    def until(self: Trainer, number: int, *args: Any, **options: Any) -> Any:
        if number == 8 and not stopped:
            stopped.append(self.model)
            raise Stop
        return step(self, number, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", until)
        with pytest.raises(Stop):
            trained(half, config, cuda_graph=True)
    found = trained(half, config, resume=checkpoint.load(half / CHECKPOINT), cuda_graph=True)
    for name, value in expected.weights.items():
        torch.testing.assert_close(found.weights[name], value, rtol=0.05, atol=1e-3)
