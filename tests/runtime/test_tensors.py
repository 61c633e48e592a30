"""Decisions as tensors: types, shapes and what stands for nothing."""

from __future__ import annotations

import numpy as np
import pytest

from runtime import Gate
from runtime.bundle import Bundle
from runtime.tensors import OUTPUTS
from tests.small import calibration_images

TYPES = {"BOOL": "bool", "BYTES": "object", "INT32": "int32", "FP32": "float32", "FP64": "float64"}


@pytest.mark.parametrize("name", OUTPUTS)
def test_types_and_shapes_are_what_they_are_said_to_be(name: str, selective_bundle: Bundle) -> None:
    gate = Gate.load(selective_bundle.path, engine="onnxruntime-cpu", threads=1)
    tensor = OUTPUTS[name].tensor(gate.decide(calibration_images(5)))
    assert tensor.dtype.name == TYPES[OUTPUTS[name].datatype]
    assert tensor.shape == (5, *OUTPUTS[name].columns(gate.manifest))


def test_each_image_s_own(selective_bundle: Bundle) -> None:
    decisions = Gate.load(selective_bundle.path, engine="onnxruntime-cpu", threads=1).decide(calibration_images(200, 5))
    tensors = {name: output.tensor(decisions).tolist() for name, output in OUTPUTS.items()}
    assert set(tensors["reason"]) == {b"", b"ood", b"uncertain"}
    for i, decision in enumerate(decisions):
        accepted = decision.decision == "accept"
        assert tensors["accept"][i] is accepted
        assert (tensors["label"][i] == b"") is not accepted
        assert (tensors["reason"][i] == b"") is accepted
        assert tensors["confidence"][i] == max(tensors["probabilities"][i])
        assert int(np.argmax(tensors["probabilities"][i])) == tensors["class_index"][i]
        assert sum(tensors["probabilities"][i]) == pytest.approx(1, abs=1e-6)
