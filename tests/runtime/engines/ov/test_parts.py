"""Trunk and head together compute the graph, whatever the head reads of the trunk."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtime.bundle import Bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.engines.ov.parts import split
from tests.small import calibration_images

pytest.importorskip("openvino")
IMAGES = calibration_images(4, seed=4)


def in_two(model: bytes) -> tuple[list[Any], dict[str, npt.NDArray[np.float32]]]:
    """The trunk's outputs, and what trunk and head make of the images."""
    core = importlib.import_module("openvino").Core()
    graph = core.read_model(model)
    graph.reshape({"images": list(IMAGES.shape)})
    trunk, head = (core.compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}) for part in split(graph))
    between = list(trunk({0: IMAGES}).values())
    found = head(dict(enumerate(between)))
    outputs = {name: found[head.output(name)] for name in ("logits", "scores")}
    return list(trunk.outputs), {**outputs, "penultimate": between[0]}


def check(model: bytes) -> list[Any]:
    expected = OnnxRuntimeCpu(model, 1).run(IMAGES, penultimate=True)
    outputs, found = in_two(model)
    for name, values in found.items():
        np.testing.assert_allclose(values, getattr(expected, name), rtol=1e-5, atol=1e-5)
    return outputs


def test_a_plain_network_hands_over_its_penultimate_activations(shared_bundle: Bundle) -> None:
    (output,) = check(shared_bundle.model)
    assert "penultimate" in output.get_names()


def test_an_error_bound_and_label_sets_change_nothing(selective_bundle: Bundle) -> None:
    assert len(check(selective_bundle.model)) == 1


def test_logits_that_need_more_of_the_network_get_it() -> None:
    from tests.export.convert.graphs import Shared, graph

    model, _ = graph(Shared)
    outputs = check(model.SerializeToString())
    assert len(outputs) == 2
    assert "penultimate" in outputs[0].get_names()
