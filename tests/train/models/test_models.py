"""Every architecture: shapes, the relation of its two outputs, its size, and that all of it learns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train import models
from train.exceptions import TrainingError

WIDTHS = {
    "resnet20": 64,
    "resnet18": 512,
    "wrn-40-2": 128,
    "densenet-bc-100": 342,
    "airbench": 256,
    "airbench-half": 128,
}
# Counted layer by layer for ten classes; the literature's 0.27, 11.2, 2.2 and 0.77 million.
PARAMETERS = {
    "resnet20": 272_474,
    "resnet18": 11_173_962,
    "wrn-40-2": 2_243_546,
    "densenet-bc-100": 769_162,
    "airbench": 1_973_954,
    "airbench-half": 498_690,
}
SIDES = {"airbench": 16, "airbench-half": 16}  # of images, where 8 pixels are too few


@dataclass(frozen=True)
class Answer:
    """A network in evaluation mode, four images, and its outputs for them."""

    arch: str
    model: nn.Module
    images: Tensor
    logits: Tensor
    penultimate: Tensor


@pytest.fixture(scope="module", params=models.ARCHITECTURES)
def answer(request: pytest.FixtureRequest) -> Answer:
    torch.manual_seed(0)
    model = models.make(request.param, 10).eval()
    side = SIDES.get(request.param, 8)
    images = torch.randn(4, 3, side, 3 * side // 2)
    with torch.no_grad():
        return Answer(request.param, model, images, *model(images))


def test_shapes(answer: Answer) -> None:
    assert answer.logits.shape == (4, 10)
    assert answer.penultimate.shape == (4, WIDTHS[answer.arch])
    assert answer.logits.dtype == answer.penultimate.dtype == torch.float32


def test_logits_are_the_last_layer_of_the_penultimate(answer: Answer) -> None:
    weight, bias = (p.detach().double().numpy() for p in answer.model.fc.parameters())
    expected = answer.penultimate.double().numpy() @ weight.T + bias
    np.testing.assert_allclose(answer.logits.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_penultimate_is_not_negative(answer: Answer) -> None:
    assert (answer.penultimate >= 0).all()
    assert (answer.penultimate > 0).any()


def test_each_stage_after_the_first_halves_the_resolution(answer: Answer) -> None:
    shapes = []
    hook = answer.model.blocks.register_forward_hook(lambda *call: shapes.append(tuple(call[-1].shape)))
    with torch.no_grad():
        answer.model(answer.images)
    hook.remove()
    height, width = (1, 2) if answer.arch in ("resnet18", *SIDES) else (2, 3)  # of 8 x 12, three times or twice
    assert shapes == [(4, WIDTHS[answer.arch], height, width)]


def test_number_of_parameters(answer: Answer) -> None:
    assert sum(parameter.numel() for parameter in answer.model.parameters()) == PARAMETERS[answer.arch]


def test_convolutions_are_listed_in_the_order_of_the_forward_pass(answer: Answer) -> None:
    """Spectral normalisation takes the first few of them."""
    convolutions = [module for module in answer.model.modules() if isinstance(module, nn.Conv2d)]
    reached: list[nn.Module] = []
    hooks = [module.register_forward_hook(lambda module, *_: reached.append(module)) for module in convolutions]
    with torch.no_grad():
        answer.model(answer.images)
    for hook in hooks:
        hook.remove()
    assert reached == convolutions
    assert convolutions[0] is answer.model.conv1


def test_images_of_a_batch_do_not_mix(answer: Answer) -> None:
    with torch.no_grad():
        alone, _ = answer.model(answer.images[2:3])
    torch.testing.assert_close(alone, answer.logits[2:3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", [*models.ARCHITECTURES, "resnet20+nan"])
def test_gradients_reach_every_parameter(arch: str) -> None:
    torch.manual_seed(0)
    model = models.make(arch, 8).train()
    logits, _ = model(torch.randn(8, 3, SIDES.get(arch, 8), SIDES.get(arch, 8)))
    F.cross_entropy(logits, torch.arange(8)).backward()
    learning = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert [name for name, p in learning if p.grad is None or not p.grad.any()] == []


def test_dropout_is_of_training_only() -> None:
    torch.manual_seed(0)
    model = models.make("wrn-40-2", 10, dropout=0.5)
    images = torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        model.train()
        assert not torch.equal(model(images)[0], model(images)[0])
        model.eval()
        assert torch.equal(model(images)[0], model(images)[0])


def test_unknown_architecture() -> None:
    with pytest.raises(TrainingError, match=r"'resnet19'; choose one of resnet20, resnet18, wrn-40-2, .*, timm:NAME"):
        models.make("resnet19", 10)


@pytest.mark.parametrize("arch", ["resnet20+other", "+nan", "resnet20+nan+nan", ""])
def test_unknown_form_of_an_architecture(arch: str) -> None:
    with pytest.raises(TrainingError, match="unknown architecture"):
        models.make(arch, 10)
