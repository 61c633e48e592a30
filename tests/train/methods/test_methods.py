"""Methods: how they are chosen, and what holds for the loss of every one."""

from __future__ import annotations

import pytest
import torch

from tests.train.methods.examples import Fixed, batch_for
from train import methods, models
from train.exceptions import TrainingError
from train.methods import Batch
from train.methods.greg import GRegOutlierExposure

# Of logits; what contrasts embeddings has tests of its own.
SUPERVISED = [name for name, kind in methods.METHODS.items() if kind.task != "unlabelled"]


@pytest.mark.parametrize("name", SUPERVISED)
def test_losses_are_float32_where_the_network_is_not(name: str) -> None:
    step = methods.make(name, {}).step(Fixed(torch.bfloat16), batch_for(name))
    assert step.loss.dtype == step.logits.dtype == torch.float32


@pytest.mark.parametrize("name", SUPERVISED)
def test_the_loss_can_be_descended(name: str) -> None:
    model = Fixed()
    methods.make(name, {}).step(model, batch_for(name)).loss.backward()
    assert model.logits.grad is not None
    assert model.logits.grad.any()


@pytest.mark.parametrize("name", SUPERVISED)
def test_every_weight_learns_in_half_precision(name: str) -> None:
    """Whatever else passed through the network before: casts of weights are kept while autocast lasts."""
    torch.manual_seed(0)
    model = models.make("resnet20", 4)
    images = torch.randn(12, 3, 8, 8)
    method = methods.make(name, {"layers": 0} if name == "snojoe" else {})
    labels = torch.arange(4) if method.task == "multiclass" else torch.eye(4)
    outliers = images[4:] if method.needs_outliers else images[:0]
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.step(model, Batch(images[:4], labels, outliers)).loss
    loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(TrainingError, match=r"'crossentropy'; choose one of cross-entropy, logitnorm"):
        methods.make("crossentropy", {})


def test_unknown_hyperparameter_lists_the_known() -> None:
    with pytest.raises(TrainingError, match=r"'logitnorm' has no hyperparameter 'temperature'; it has \['tau'\]"):
        methods.make("logitnorm", {"temperature": 1.0})


def test_hyperparameter_of_a_method_that_has_none() -> None:
    with pytest.raises(TrainingError, match=r"'cross-entropy' has no hyperparameter 'tau'; it has \[\]"):
        methods.make("cross-entropy", {"tau": 1.0})


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("logitnorm", {"tau": -0.04}, "tau must be positive, found -0.04"),
        ("logitnorm", {"tau": 0}, "tau must be positive, found 0"),
        ("logit-penalty", {"weight": -1}, "weight must be at least 0, found -1"),
        ("energy", {"weight": -1}, "weight must be at least 0"),
        ("oe", {"weight": -0.5}, "weight must be at least 0, found -0.5"),
        ("greg", {"weight": -1}, "weight must be at least 0"),
        ("greg", {"gradient_weight": -1}, "gradient_weight must be at least 0"),
        ("greg+", {"gradient_weight": -1}, "gradient_weight must be at least 0"),
        ("greg-oe", {"confident": 1.5}, r"confident and uncertain must be in \[0, 1\], found 1.5 and 0.1"),
    ],
)
def test_settings_that_turn_a_loss_around_are_refused(name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        methods.make(name, settings)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_images_of_no_confidence_are_detected_whatever_the_classes(classes: int) -> None:
    method = methods.make("greg-oe", {})
    assert isinstance(method, GRegOutlierExposure)
    logits = torch.zeros(1, classes)
    assert method.score(logits) >= method.margins(classes)[1]
    logits[0, 0] = 5.0
    assert method.score(logits) < method.margins(classes)[1]


@pytest.mark.parametrize("name", ["energy", "greg", "greg+"])
def test_a_margin_that_cosine_logits_can_not_reach_is_said(name: str) -> None:
    """-logsumexp of ten logits in [-10, 10] is -(10 + log 10) at least."""
    images = torch.zeros(2, 3, 32, 32)
    cosine, plain = models.make("resnet20+nan", 10), models.make("resnet20", 10)
    said = methods.make(name, {}).examine(cosine, images)
    assert said[0].startswith(
        "m_in=-23 can't be reached: the cosine logits of 10 classes have an energy of -12.3 at least"
    )
    assert not any("m_in" in line for line in methods.make(name, {}).examine(plain, images))
    assert not any("m_in" in line for line in methods.make(name, {"m_in": -9.8}).examine(cosine, images))
