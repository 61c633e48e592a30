"""NAN's head: its formula in float64, and its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train import models
from train.models.projection import WithProjection


def test_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    model = models.make("resnet20+nan", 5).eval()
    assert isinstance(model, WithProjection)
    images = torch.randn(6, 3, 8, 8)
    with torch.no_grad():
        logits, hidden = model(images)
        _, features = model.backbone(images)
    w = {name: tensor.double().numpy() for name, tensor in model.state_dict().items() if "backbone" not in name}
    h = np.maximum(features.double().numpy() @ w["hidden.weight"].T + w["hidden.bias"], 0)
    g = h @ w["embedding.weight"].T + w["embedding.bias"]
    cosine = [[a @ b / np.sqrt(a @ a * (b @ b)) for b in w["prototypes.weight"]] for a in g]
    np.testing.assert_allclose(hidden.numpy(), h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits.numpy(), np.array(cosine) / 0.1, rtol=1e-4, atol=1e-5)
    assert hidden.shape == (6, 512)
    assert (hidden == 0).any()


@pytest.mark.parametrize(
    ("arch", "d"), [("resnet20", 64), ("resnet18", 512), ("wrn-40-2", 128), ("densenet-bc-100", 342)]
)
def test_number_of_parameters(arch: str, d: int) -> None:
    plain, projected = (sum(p.numel() for p in models.make(name, 10).parameters()) for name in (arch, f"{arch}+nan"))
    width = 512  # at least, and none of these has more features
    assert projected - plain == (d * width + width) + (width * 128 + 128) + 10 * 128 - (10 * d + 10)


def test_the_length_of_embedding_and_prototypes_does_not_matter() -> None:
    torch.manual_seed(0)
    model = models.make("resnet20+nan", 5).eval()
    assert isinstance(model, WithProjection)
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        before, _ = model(images)
        for parameter in (model.prototypes.weight, *model.embedding.parameters()):
            parameter *= 7
        after, _ = model(images)
    torch.testing.assert_close(after, before)
    assert (before.abs() <= 10).all()
