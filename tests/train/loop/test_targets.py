"""Smoothed and mixed labels, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from train.loop.targets import mixed, smoothed


def test_smoothing_is_torchs() -> None:
    logits, labels = torch.randn(7, 4), torch.arange(7) % 4
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(F.cross_entropy(logits, smoothed(labels, 4, 0.1)), expected)
    assert torch.equal(smoothed(labels, 4, 0.0), F.one_hot(labels, 4).float())


def test_smoothing_of_several_labels() -> None:
    found = smoothed(torch.tensor([[True, False, True]]), 3, 0.2)
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.1, 0.9]]))


def test_mixing() -> None:
    images, targets = torch.randn(9, 3, 4, 4), torch.rand(9, 5)
    found_images, found_targets = mixed(images, targets, 0.3, seed=11)
    rng = np.random.default_rng(11)
    share = rng.beta(0.3, 0.3)
    share = max(share, 1 - share)
    order = rng.permutation(9)
    torch.testing.assert_close(found_images, share * images + (1 - share) * images[order])
    torch.testing.assert_close(found_targets, share * targets + (1 - share) * targets[order])


def test_an_image_stays_the_larger_part() -> None:
    targets = torch.eye(6)
    shares = [mixed(torch.zeros(6, 3, 1, 1), targets, 1.0, seed)[1].diagonal().min().item() for seed in range(200)]
    assert min(shares) >= 0.5
    assert np.mean(shares) == pytest.approx(0.75, abs=0.05)  # the larger of two uniform parts
