"""What the last affine maps read, in heads of every kind; computed by hand from the parts of each network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.exceptions import ExportError
from export.from_torch.network.backbone import Backbone, Traced, graph_of, trace
from tests.export.factories import Features, NoLinear, Tokens
from tests.small import SPEC


def images(count: int = 6) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, SPEC.height, SPEC.width, 3), dtype=np.uint8))


def run(network: nn.Module) -> tuple[Traced, Tensor, Tensor, Tensor]:
    """What was traced, logits, penultimate activations, and the pixels as the network gets them."""
    backbone = Backbone(network.eval(), SPEC)
    traced = trace(backbone, SPEC)
    with torch.no_grad():
        logits, penultimate = traced.program.module()(images())
        return traced, logits, penultimate, backbone.face(images())


class Head(Features):
    """Eight features, 3 x 8 weights and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 8))
        self.bias = nn.Parameter(torch.randn(3))


class Functional(Head):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.features(x), self.weight, self.bias)


class Added(Head):
    def forward(self, x: Tensor) -> Tensor:
        return self.features(x) @ self.weight.T + self.bias


class Einsum(Head):
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bd,kd->bk", self.features(x), self.weight)


class Turned(Head):
    """The weights stand on the left, the images along the second axis."""

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight @ self.features(x).t()).t() + self.bias


class Scaled(Head):
    """As logit normalisation at test time, or CLIP, has it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.features(x), self.weight).mul(16).div(0.5).sub(1)


class Subclass(nn.Linear):
    """A linear layer that is one by name alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias


class Custom(Features):
    def __init__(self) -> None:
        super().__init__()
        self.fc = Subclass(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(x))
        return logits


class Lazy(Features):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.LazyLinear(3)
        self.forward(torch.zeros(1, 3, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(x))
        return logits


class WeightNorm(Features):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.utils.parametrizations.weight_norm(nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(F.dropout(self.features(x), 0.5, self.training))
        return logits


@pytest.mark.parametrize("kind", [Functional, Added, Einsum, Turned, Scaled, Custom, Lazy, WeightNorm, NoLinear])
def test_features_that_one_layer_reads(kind: Callable[[], Features]) -> None:
    network = kind()
    traced, logits, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, network.features(x))
        torch.testing.assert_close(logits, network(x))
    assert traced.remarks == ()


class InPlace(Features):
    """VGG's way: operations in place, and dropout, stand before the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Sequential(nn.Linear(8, 5), nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True))
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.middle(self.features(x)))
        return logits


def test_operations_in_place() -> None:
    network = InPlace()
    traced, _, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, network.middle(network.features(x)))
    graph = graph_of(traced.program)
    assert [output.name for output in graph.graph.output] == ["logits", "penultimate"]


class ViewOfInPlace(nn.Module):
    """timm's MobileNetV3: what the last layer reads is a view of what was changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, SPEC.height)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(F.hardswish(self.conv(x), inplace=True).flatten(1))
        return logits


def test_a_view_of_what_was_changed_in_place_is_an_output_too() -> None:
    network = ViewOfInPlace()
    traced, _, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, F.hardswish(network.conv(x)).flatten(1))
    assert [output.name for output in graph_of(traced.program).graph.output] == ["logits", "penultimate"]


class FlatAlready(Features):
    """Flattens what is flat, as timm's networks do behind a pooling that flattens too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(x).flatten(1).float())
        return logits


def test_what_changes_nothing_vanishes_with_the_export() -> None:
    network = FlatAlready()
    traced, _, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, network.features(x))
    assert [output.name for output in graph_of(traced.program).graph.output] == ["logits", "penultimate"]


class Cosine(Head):
    def forward(self, x: Tensor) -> Tensor:
        return 16 * F.linear(F.normalize(self.features(x)), F.normalize(self.weight))


def test_a_cosine_head_reads_normalised_features() -> None:
    network = Cosine()
    traced, _, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, F.normalize(network.features(x)))
    assert traced.remarks == ()


class CosineByDivision(Head):
    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        return features @ self.weight.T / (features.norm(dim=1, keepdim=True) * self.weight.norm(dim=1))


def test_logits_that_are_no_affine_function_of_the_features_are_said_to_be_none() -> None:
    network = CosineByDivision()
    traced, _, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, network.features(x))
    (remark,) = traced.remarks
    assert remark.startswith("div between the last linear layer and the logits")


class Convolved(Features):
    """A convolution of 1 x 1 is the head, and the pooling behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.head(torch.relu(self.conv(x))), 1).flatten(1)


class ConvolvedAfterPooling(Convolved):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[:, :, None, None]).squeeze(3).squeeze(2)


@pytest.mark.parametrize("kind", [Convolved, ConvolvedAfterPooling])
def test_a_convolution_of_one_pixel(kind: Callable[[], Convolved]) -> None:
    network = kind()
    _, logits, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, network.features(x))
        by_hand = penultimate @ network.head.weight[:, :, 0, 0].T + network.head.bias
    torch.testing.assert_close(logits, by_hand)


class SqueezeNet(Convolved):
    """torchvision's has a ReLU between the convolution and the pooling."""

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(torch.relu(self.head(torch.relu(self.conv(x)))), 1).flatten(1)


def test_a_relu_before_the_pooling_is_said() -> None:
    network = SqueezeNet()
    traced, _, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, network.features(x))
    assert any("relu between the last linear layer and the logits" in remark for remark in traced.remarks)


class Ended(Functional):
    """An operation behind the last layer."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(super().forward(x))


ORDER = torch.tensor([2, 0, 1])


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda z: torch.where(z > 0, z, 2 * z), "where"),
        (torch.nan_to_num, "nan_to_num"),
        (lambda z: torch.round(100 * z) / 100, "round"),
        (lambda z: z.masked_fill(z < 0, -1), "masked_fill"),
        (lambda z: z[:, ORDER], None),
    ],
    ids=["where", "nan_to_num", "round", "masked_fill", "another order"],
)
def test_what_may_stand_behind_the_last_layer(end: Callable[[Tensor], Tensor], said: str | None) -> None:
    network = Ended(end)
    traced, logits, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, network.features(x))
        torch.testing.assert_close(logits, network(x))
    assert traced.remarks == () if said is None else said in traced.remarks[0]


class Sums(Features):
    """Logits that no layer makes."""

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).cumsum(dim=1)[:, :3]


def test_what_is_no_layer_is_named() -> None:
    with pytest.raises(ExportError, match="Sums has no linear layer before its logits, but cumsum, so no penultimate"):
        run(Sums())


class Distances(Head):
    """Prototypes, by torch's own distances, whose way turns on the number of images."""

    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(self.features(x), self.weight)


class OneWay(Distances):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        f = self.features(x)
        return -torch.cdist(f, self.weight, compute_mode="donot_use_mm_for_euclid_dist"), f


class Products(Distances):
    """The same as sums of products, as the message has it."""

    def forward(self, x: Tensor) -> Tensor:
        f, w = self.features(x), self.weight
        return -(f.square().sum(1, keepdim=True) + w.square().sum(1) - 2 * (f @ w.T)).clamp(min=0).sqrt()


@pytest.mark.parametrize("kind", [Distances, OneWay])
def test_distances_that_onnx_has_not(kind: Callable[[], nn.Module]) -> None:
    with pytest.raises(ExportError, match=r"torch\.cdist takes another way from 26 .* write .* - 2 \* \(f @ w\.T\)"):
        graph_of(run(kind())[0].program)


def test_and_what_to_write_instead() -> None:
    network = Products()
    traced, logits, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, network.features(x))
        torch.testing.assert_close(logits, Distances.forward(network, x), rtol=1e-4, atol=1e-4)
    assert "no affine function of the penultimate activations" in traced.remarks[0]


@pytest.mark.parametrize("end", [nn.Softmax(dim=1), nn.LogSoftmax(dim=1), nn.Sigmoid()])
def test_nothing_is_said_of_an_end_that_the_export_takes_off(end: nn.Module) -> None:
    assert run(nn.Sequential(Functional(), end))[0].remarks == ()


class WholeKernel(Features):
    """A convolution as large as its input."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(8, 3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(self.conv(x), 4)).flatten(1)


def test_a_convolution_of_the_whole_input() -> None:
    network = WholeKernel()
    _, logits, penultimate, _ = run(network)
    assert penultimate.shape == (6, 128)
    with torch.no_grad():
        torch.testing.assert_close(logits, F.linear(penultimate, network.head.weight.flatten(1), network.head.bias))


class FirstToken(Tokens):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.relu(self.conv(x)).flatten(2).transpose(1, 2))[:, 0]
        return logits


def test_tokens_that_are_pooled_behind_the_layer() -> None:
    network = Tokens()
    traced, logits, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, network.features(x))
        torch.testing.assert_close(logits, network.fc(penultimate))
    assert traced.remarks == ("the penultimate activations are the mean of 256 positions",)


def test_a_token_that_is_chosen_behind_the_layer() -> None:
    network = FirstToken()
    _, logits, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, torch.relu(network.conv(x))[:, :, 0, 0])
        torch.testing.assert_close(logits, network.fc(penultimate))


class TwoHeads(Features):
    """The average of two heads of two features, as of DeiT's tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(self.features(x)) + self.other(self.features(x.flip(3)).square())) / 2


class Twice(TwoHeads):
    """One layer, applied twice."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack((self.one(self.features(x)), self.one(self.features(x.flip(3)).square()))).mean(0)


@pytest.mark.parametrize("kind", [TwoHeads, Twice])
def test_two_heads_read_features_side_by_side(kind: Callable[[], TwoHeads]) -> None:
    network = kind()
    traced, logits, penultimate, x = run(network)
    with torch.no_grad():
        first, second = network.features(x), network.features(x.flip(3)).square()
        torch.testing.assert_close(penultimate, torch.cat((first, second), dim=1))
        torch.testing.assert_close(logits, network(x))
    assert any("2 linear layers make the logits" in remark for remark in traced.remarks)


class Grouped(TwoHeads):
    """Some classes by one layer, the others by another, of the same features."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        return torch.cat((self.one(features)[:, :1], self.other(features)[:, 1:]), dim=1)


def test_heads_of_the_same_features() -> None:
    network = Grouped()
    _, _, penultimate, x = run(network)
    with torch.no_grad():
        torch.testing.assert_close(penultimate, network.features(x))


class Residual(Head):
    """What is added to the last layer's output comes from no linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.features(x), self.weight) + torch.sigmoid(x.mean(dim=(2, 3)))


def test_a_sum_of_which_one_part_has_no_layer_is_said() -> None:
    traced, _, _, _ = run(Residual())
    assert any("no affine function" in remark for remark in traced.remarks)


def affine_error(network: nn.Module) -> float:
    """Share of the logits' spread that no affine function of the penultimate activations explains."""
    traced = trace(Backbone(network.eval(), SPEC), SPEC)
    with torch.no_grad():
        logits, penultimate = (item.double().numpy() for item in traced.program.module()(images(60)))
    columns: npt.NDArray[np.float64] = np.c_[penultimate, np.ones(len(penultimate))]
    rest = logits - columns @ np.linalg.lstsq(columns, logits, rcond=None)[0]
    return float(np.abs(rest).max() / logits.std())


@pytest.mark.parametrize("kind", [Functional, Turned, Cosine, Convolved, FirstToken, TwoHeads, Grouped])
def test_logits_are_an_affine_function_of_what_was_found(kind: Callable[[], nn.Module]) -> None:
    assert affine_error(kind()) < 1e-5


def test_which_the_check_would_see_otherwise() -> None:
    assert affine_error(CosineByDivision()) > 1e-3
