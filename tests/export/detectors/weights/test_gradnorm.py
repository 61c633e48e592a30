"""The closed form of GradNorm against autograd, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from export.detectors.weights.gradnorm import GradNorm
from tests.export.detectors.graphs import Example, digits, random, run


@pytest.mark.parametrize("example", [random(), digits()], ids=["random", "digits"])
def test_is_the_norm_of_the_gradient_of_the_last_layer(example: Example) -> None:
    weights, bias = (torch.from_numpy(array) for array in example.training().layers.linear())
    weights.requires_grad_()
    found = example.training().fit(GradNorm)
    features = torch.from_numpy(example.scored.astype(np.float64))
    for i in range(0, len(features), 13):
        log_probabilities = F.log_softmax(features[i] @ weights.T + bias, dim=0)
        divergence = -log_probabilities.mean() - np.log(len(bias))  # KL(u || p)
        (gradient,) = torch.autograd.grad(divergence, weights)
        logits = run(example.model, example.scored[i : i + 1])["logits"]
        expected = gradient.abs().sum().item()
        assert found.reference(logits, example.scored[i : i + 1])[0] == pytest.approx(expected, rel=1e-5)
