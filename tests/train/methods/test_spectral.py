"""Spectral normalisation: what it bounds, against singular values in float64, and what folding leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from tests.train.sets import CLASSES, SPEC, coloured
from train import checkpoint, methods, models
from train.checkpoint import Checkpoint
from train.config import Config
from train.exceptions import TrainingError
from train.loop import CHECKPOINT, train
from train.loop.trainer import Trainer
from train.methods import spectral
from train.methods.multilabel import SNoJoE
from train.normalize import Normalize

SIZE = (8, 8)
SNOJOE = Config(method="snojoe", arch="resnet20", epochs=2, batch_size=16, padding=1, precision="fp32")


def run(out: Path, rate: float, **changes: object) -> Checkpoint:
    config = Config(**{**vars(SNOJOE), "learning_rate": rate, **changes})
    train(config, SPEC, coloured(96), coloured(24, seed=1), out)
    return checkpoint.load(out / CHECKPOINT)


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def norm(convolution: nn.Conv2d) -> float:
    return float(torch.linalg.svdvals(convolution.weight.detach().double().flatten(1))[0])


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, float], tuple[nn.Module, Checkpoint]]:
    """A run's network as it was trained, parametrised, and the checkpoint it left."""
    networks: list[nn.Module] = []
    init = Trainer.__init__

    def watched(trainer: Trainer, *args: object) -> None:
        init(trainer, *args)  # type: ignore[arg-type]
        networks.append(trainer.model)

    monkeypatch.setattr(Trainer, "__init__", watched)

    def start(out: Path, rate: float) -> tuple[nn.Module, Checkpoint]:
        left = run(out, rate)
        return networks[0].eval(), left

    return start


@pytest.mark.parametrize("rate", [1e-4, 0.1])
def test_norms_are_at_most_one_after_training_and_folding_keeps_the_outputs(
    trained: Callable[[Path, float], tuple[nn.Module, Checkpoint]], tmp_path: Path, rate: float
) -> None:
    model, left = trained(tmp_path, rate)
    folded = left.model()
    assert not any(parametrize.is_parametrized(module) for module in folded.modules())
    assert folded.state_dict().keys() == models.make("resnet20", len(CLASSES)).state_dict().keys()
    for network in (model, folded):
        norms = list(map(norm, convolutions(network)))
        assert norms[:9] == pytest.approx([1] * 9, abs=1e-3)
        assert max(norms[9:]) > 1.1
    images = Normalize(SPEC)(torch.from_numpy(coloured(8, seed=2).images))
    with torch.no_grad():
        for mine, reference in zip(folded(images), model(images), strict=True):
            torch.testing.assert_close(mine, reference, rtol=1e-6, atol=1e-6)


def test_settling_bounds_a_norm_that_has_moved() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 20, 3), nn.Conv2d(20, 5, 3))
    spectral.normalise(model, convolutions(model), SIZE)
    with torch.no_grad():
        for convolution in convolutions(model):
            convolution.parametrizations.weight.original.copy_(torch.randn(convolution.weight.shape))
    model.eval()
    assert max(map(norm, convolutions(model))) > 1.1
    spectral.settle(model)
    model.eval()
    assert list(map(norm, convolutions(model))) == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_first_layers_are_normalised(layers: int) -> None:
    model = models.make("resnet20", 3)
    SNoJoE(layers=layers).prepare(model, SIZE)
    normalised = [parametrize.is_parametrized(convolution) for convolution in convolutions(model)]
    assert normalised == [True] * layers + [False] * (len(normalised) - layers)


@pytest.mark.parametrize("layers", [-1, 22])
def test_more_layers_than_there_are(layers: int) -> None:
    with pytest.raises(TrainingError, match=f"can't normalise {layers} layers: the network has 21 convolutions"):
        spectral.first_convolutions(models.make("resnet20", 3), layers)


class TorchvisionLike(nn.Module):
    """The children of torchvision's ResNets, three convolutions a stage."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu, self.maxpool = (
            nn.Conv2d(3, 4, 7),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(3),
        )
        for stage in range(1, 5):
            setattr(self, f"layer{stage}", nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(3))))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)


class Blocks(nn.Module):
    """The blocks in a list, as EfficientNet-lite0 has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 4, 3), nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 1)) for _ in range(3))
        self.head, self.fc = nn.Conv2d(4, 4, 1), nn.Linear(4, 2)


@pytest.mark.parametrize(("stages", "count"), [(1, 1), (4, 1), (5, 4), (7, 10), (8, 13), (9, 13), (10, 13)])
def test_stages_are_the_children_of_the_backbone(stages: int, count: int) -> None:
    for model in (TorchvisionLike(), nn.Sequential(TorchvisionLike()), nn.ModuleDict({"network": TorchvisionLike()})):
        SNoJoE(stages=stages).prepare(model, SIZE)
        normalised = [parametrize.is_parametrized(convolution) for convolution in convolutions(model)]
        assert normalised == [True] * count + [False] * (13 - count)


def test_stages_of_a_list_of_blocks_are_its_blocks() -> None:
    assert list(spectral.stages(Blocks())) == ["stem", "blocks.0", "blocks.1", "blocks.2", "head", "fc"]
    assert len(spectral.first_stages(Blocks(), 3)) == 3
    with pytest.raises(
        TrainingError, match=r"can't normalise 7 stages: the network has 6: stem, blocks.0, .*, head, fc"
    ):
        SNoJoE(stages=7).prepare(Blocks(), SIZE)
    with pytest.raises(TrainingError, match="the first 1 stages have no convolution"):
        SNoJoE(stages=1).prepare(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 1)), SIZE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 9, "stages": 7}, "give layers or stages, not both"),
        ({"layers": -2}, "layers must be at least 0, found -2"),
        ({"stages": -1}, "stages must be at least 1, found -1"),
        ({"norm": "frobenius"}, "norm must be matrix or operator, found 'frobenius'"),
        ({"coefficient": -1.0}, "coefficient must be at least 0, found -1"),
        ({"batch_norm": -1.0}, "batch_norm must be at least 0, found -1"),
    ],
)
def test_settings_that_mean_nothing(options: dict[str, float | str], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        methods.make("snojoe", options)


class PadsItself(nn.Conv2d):
    """As the convolutions of EfficientNet-lite0 do: more at one side than at the other."""

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (0, 1, 1, 2))
        return functional.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)


class Wide(nn.Module):
    """A convolution behind images of three channels, of which it takes the first ones, again and again."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.convolution(x.repeat(1, 2, 1, 1)[:, : self.convolution.in_channels])
        return found


CONVOLUTIONS = [
    lambda: nn.Conv2d(3, 5, 3, padding=1),
    lambda: nn.Conv2d(3, 5, 3, stride=2),
    lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
    lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False),
    lambda: nn.Conv2d(2, 8, 1),
    lambda: nn.Conv2d(2, 3, (2, 3), dilation=2, padding=1),
    lambda: PadsItself(4, 4, 3, stride=2, groups=4),
]


def explicit(convolution: nn.Module, size: tuple[int, int, int]) -> float:
    """The norm of the layer's linear map as a matrix, a column for each pixel of its input."""
    pixels = torch.eye(math.prod(size), dtype=torch.float64).reshape(-1, *size)
    with torch.no_grad():
        matrix = convolution(pixels) - convolution(torch.zeros_like(pixels[:1]))
    return float(torch.linalg.svdvals(matrix.flatten(1))[0])


@pytest.mark.parametrize("make", CONVOLUTIONS)
@pytest.mark.parametrize("coefficient", [0.0, 0.25, 100.0])
def test_the_operator_norm_is_that_of_the_explicit_matrix(
    make: Callable[[], nn.Conv2d], coefficient: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(spectral._SETTLED, "operator", 0.0)  # to the end; a run stops within a thousandth
    torch.manual_seed(0)
    convolution = make().double()
    size = (convolution.in_channels, 7, 6)
    sigma = explicit(convolution, size)
    assert 0.25 < sigma < 100
    weight = convolution.weight.detach().clone()
    spectral.normalise(Wide(convolution), [convolution], size[1:], "operator", coefficient)
    for _ in range(10):
        spectral.settle(convolution)
    folded = spectral.fold(convolution)
    expected = {0.0: 1.0, 0.25: 0.25, 100.0: sigma}[coefficient]
    assert explicit(folded, size) == pytest.approx(expected, rel=1e-3)
    torch.testing.assert_close(folded.weight, weight * expected / sigma, rtol=1e-3, atol=0)


@pytest.mark.parametrize("norm", ["matrix", "operator"])
def test_the_gradient_goes_through_the_norm(norm: spectral.Norm) -> None:
    """d(W / s) with ds = <u v', dW>: W's own direction changes nothing."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 3, 3, padding=1).double()
    spectral.normalise(Wide(convolution), [convolution], (5, 5), norm)
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    for _ in range(20):
        spectral.settle(convolution)
    convolution(x).square().sum().backward()
    weight = convolution.parametrizations.weight.original
    assert weight.grad is not None
    assert (weight.grad * weight).sum().item() == pytest.approx(0, abs=1e-9)
    step = torch.randn_like(weight)
    moved = []
    for sign in (1, -1):
        other = nn.Conv2d(2, 3, 3, padding=1).double()
        other.weight.data, other.bias.data = weight.detach() + sign * 1e-6 * step, convolution.bias.data  # type: ignore[union-attr]
        sigma = explicit(other, (2, 5, 5)) if norm == "operator" else globals()["norm"](other)
        other.weight.data /= sigma
        moved.append(other(x).square().sum().item())
    assert (weight.grad * step).sum().item() == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-4)


def test_the_size_is_that_of_the_layer_and_finding_it_changes_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 2, 3)).train()
    before = {name: value.clone() for name, value in model.state_dict().items() if name.startswith("1.")}
    state = torch.get_rng_state()
    spectral.normalise(model, convolutions(model), (15, 11), "operator")
    assert [tuple(model.get_buffer(f"{i}.parametrizations.weight.0.vector").shape) for i in (0, 3)] == [
        (1, 3, 15, 11),
        (1, 4, 7, 5),
    ]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not any(module._forward_pre_hooks for module in model)


def test_convolutions_that_are_frozen_or_unused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    with pytest.raises(TrainingError, match="1 of the convolutions to normalise take no part"):
        spectral.normalise(model, [*convolutions(model), nn.Conv2d(3, 3, 1)], SIZE, "operator")
    model[0].requires_grad_(False)
    with pytest.raises(TrainingError, match="1 of the 2 convolutions to normalise are frozen"):
        spectral.normalise(model, convolutions(model), SIZE)


def test_limited_gains() -> None:
    """max |g| / sqrt(v + eps) is at most c where a scaled convolution comes before, and what it was elsewhere."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    )
    layers = [module for module in model if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        assert layer.running_var is not None
        nn.init.uniform_(layer.weight, -9, 9)
        nn.init.uniform_(layer.running_var, 0.5, 2)
    gains = [layer.weight.detach().clone() for layer in layers]

    def norms() -> list[float]:
        return [
            float((layer.weight.detach().double().abs() / (layer.running_var.double() + layer.eps).sqrt()).max())  # type: ignore[union-attr]
            for layer in layers
        ]

    before = norms()
    spectral.normalise(model, convolutions(model)[:1], SIZE, batch_norm=3.0)
    spectral.fold(model)
    assert norms() == pytest.approx([3.0, *before[1:]], rel=1e-6)
    torch.testing.assert_close(layers[0].weight, gains[0] * 3.0 / before[0])


def test_batch_normalisation_takes_the_scale_back_unless_its_gain_is_limited() -> None:
    """W / s behind it is W with an epsilon s^2 times as large."""
    torch.manual_seed(0)
    x, epsilon, tiny = torch.randn(8, 3, 6, 6, dtype=torch.float64), 0.1, 1e-12

    def outputs(epsilon: float, **options: float) -> Tensor:
        torch.manual_seed(1)
        model = (
            nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=epsilon), nn.ReLU()).double().train()
        )
        nn.init.constant_(model[1].weight, 5)
        sigma.append(norm(model[0]))
        spectral.normalise(model, convolutions(model), SIZE, **options) if options else None
        found: Tensor = model(x)
        return found

    sigma: list[float] = []
    divided = outputs(epsilon, coefficient=0.0)
    assert sigma[0] < 0.9
    torch.testing.assert_close(divided, outputs(epsilon * sigma[0] ** 2), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(divided, outputs(epsilon), rtol=0.01)
    torch.testing.assert_close(outputs(tiny, coefficient=0.0), outputs(tiny), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(outputs(tiny, batch_norm=1.0), outputs(tiny) / 5, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("coefficient", [0.0, 0.9])
def test_operator_norms_train_resume_and_fold(tmp_path: Path, coefficient: float) -> None:
    """What is exported has the norms; a run that was stopped after an epoch ends with the weights of one that was not."""
    options = {"layers": 3.0, "norm": "operator", "coefficient": coefficient, "batch_norm": 2.0 * (coefficient > 0)}
    config = Config(**{**vars(SNOJOE), "learning_rate": 0.02, "method_options": options})
    data, val = coloured(32), coloured(8, seed=1)
    train(config, SPEC, data, val, tmp_path / "whole")
    whole = checkpoint.load(tmp_path / "whole" / CHECKPOINT)
    with pytest.MonkeyPatch.context() as patch:
        settle, settled = SNoJoE.settle, []

        def once(self: SNoJoE, model: nn.Module) -> None:
            if settled:
                raise KeyboardInterrupt
            settled.append(settle(self, model))

        patch.setattr(SNoJoE, "settle", once)
        with pytest.raises(KeyboardInterrupt):
            train(config, SPEC, data, val, tmp_path / "stopped")
    path = tmp_path / "stopped" / CHECKPOINT
    train(config, SPEC, data, val, tmp_path / "stopped", checkpoint.load(path))
    resumed = checkpoint.load(path)
    assert resumed.weights.keys() == whole.weights.keys()
    assert all(torch.equal(resumed.weights[name], tensor) for name, tensor in whole.weights.items())
    folded = whole.model()
    assert folded.state_dict().keys() == models.make("resnet20", len(CLASSES)).state_dict().keys()
    sizes = [(3, 8, 8), (16, 8, 8), (16, 8, 8)]
    found = [explicit(each.double(), size) for each, size in zip(convolutions(folded), sizes, strict=False)]
    assert found == pytest.approx([coefficient or 1.0] * 3, rel=1e-2)


def test_an_average_of_weights_has_the_norms_too(tmp_path: Path) -> None:
    options = {"layers": 2.0, "norm": "operator"}
    config = Config(**{**vars(SNOJOE), "epochs": 1, "learning_rate": 0.02, "method_options": options, "ema": 0.9})
    train(config, SPEC, coloured(32), coloured(8, seed=1), tmp_path)
    folded = checkpoint.load(tmp_path / CHECKPOINT).model()
    found = [
        explicit(each.double(), size) for each, size in zip(convolutions(folded), [(3, 8, 8), (16, 8, 8)], strict=False)
    ]
    assert found == pytest.approx([1, 1], rel=1e-2)


def test_no_layers_are_plain_binary_cross_entropy(tmp_path: Path) -> None:
    none = run(tmp_path / "none", 0.02, method_options={"layers": 0.0}, epochs=1).weights
    plain = run(tmp_path / "plain", 0.02, method="bce", epochs=1).weights
    assert none.keys() == plain.keys()
    assert all(torch.equal(none[name], tensor) for name, tensor in plain.items())


def test_folding_a_network_that_has_nothing_to_fold() -> None:
    model = models.make("resnet20", 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert spectral.fold(model) is model
    assert not model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_parametrisations_of_a_network_s_own_stay_and_are_not_put_under_another() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3), torch.nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3))
    model = nn.Sequential(first, second)
    with pytest.raises(TrainingError, match="1 of the 2 convolutions to normalise have a parametrisation of their own"):
        spectral.normalise(model, [first, second], SIZE)
    spectral.normalise(model, [first], SIZE)
    images = torch.randn(2, 3, *SIZE)
    expected = model.eval()(images)
    spectral.fold(model)
    assert [parametrize.is_parametrized(layer) for layer in model] == [False, True]
    torch.testing.assert_close(model(images), expected)
