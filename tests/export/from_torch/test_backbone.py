"""Tracing: what the backbone computes, and what becomes of a model that can't be traced."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from export.exceptions import ExportError
from export.from_torch.backbone import Backbone, to_onnx
from tests.export.factories import Branching, Pair
from tests.small import SPEC, calibration_images


def test_normalises_and_classifies() -> None:
    images = calibration_images(3)
    module = Pair().eval()
    mean, std = np.array(SPEC.mean), np.array(SPEC.std)
    normalised = torch.from_numpy((images / 255.0 - mean) / std).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        for found, expected in zip(Backbone(module, SPEC)(torch.from_numpy(images)), module(normalised), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_answers_in_float32_where_the_network_does_not() -> None:
    class Half(Pair):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(output.half() for output in super().forward(x))

    outputs = Backbone(Half(), SPEC)(torch.zeros(1, 16, 16, 3, dtype=torch.uint8))
    assert [output.dtype for output in outputs] == [torch.float32, torch.float32]


class FixedBatch(Pair):
    """Takes two images, no other number."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, features = super().forward(x)
        return logits.reshape(2, 3), features


class BranchingPair(Branching):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(x), x.mean(dim=(2, 3))


@pytest.mark.parametrize("module", [BranchingPair(), FixedBatch()], ids=["branches", "fixed batch"])
def test_a_model_that_cannot_be_traced(module: nn.Module) -> None:
    with pytest.raises(ExportError, match=r"torch\.export can't trace the model: .+"):
        to_onnx(Backbone(module, SPEC), SPEC)


def test_the_exporters_log_level_is_given_back() -> None:
    log = logging.getLogger("torch.onnx")
    before = log.level
    to_onnx(Backbone(Pair(), SPEC), SPEC)
    assert log.level == before


def test_the_graph_says_nothing_of_the_machine_that_made_it() -> None:
    graph = to_onnx(Backbone(Pair(), SPEC), SPEC)
    assert b"backbone.py" not in graph.SerializeToString()
