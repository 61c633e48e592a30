"""Verification: a faithful export passes with tiny differences, a tampered one does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.calibrate.calibration import calibrate
from export.checks.verification import Verification, verify
from export.classifier import Classifier, assemble
from export.exceptions import ExportError
from export.from_torch.classifier import TorchClassifier
from export.graph.head import seal
from export.images.inference import collect
from runtime.bundle import Bundle
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.manifest import Manifest
from tests.export.factories import Noisy
from tests.small import ALPHA, LABELS, SPEC, calibration_images, classifier

IMAGES = calibration_images()


@pytest.fixture(scope="module")
def exported() -> tuple[Classifier, onnx.ModelProto, Manifest]:
    """Network, graph and manifest, calibrated."""
    source = classifier()
    model, manifest = assemble(source, "small", {"energy": {"temperature": 1.0}})
    scores = collect(OnnxRuntimeCpu(model.SerializeToString(), threads=1), IMAGES).scores
    return source, model, calibrate(manifest, scores, "energy", ALPHA)


Exported = tuple[Classifier, onnx.ModelProto, Manifest]


def check(exported: Exported, damage: Callable[[onnx.ModelProto], None] = lambda _: None) -> Verification:
    """Verify a copy of the graph, damaged or not."""
    source, model, manifest = exported
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    sealed = onnx.load_from_string(seal(copy, manifest))
    damage(sealed)
    return verify(source, OnnxRuntimeCpu(sealed.SerializeToString(), threads=1), manifest, IMAGES)


def shift(name: str, amount: float) -> Callable[[onnx.ModelProto], None]:
    """Add to every value of the constant whose name ends like this."""

    def damage(model: onnx.ModelProto) -> None:
        (tensor,) = (item for item in model.graph.initializer if item.name.endswith(name))
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array((values + amount).astype(values.dtype), tensor.name))

    return damage


def test_a_faithful_export_differs_by_rounding(exported: Exported) -> None:
    found = check(exported)
    assert found.images == len(IMAGES)
    assert found.max_logit_difference < 1e-5
    assert list(found.max_score_difference) == list(exported[2].scores)
    assert max(found.max_score_difference.values()) < 1e-4
    assert found.decision_flips == 0


def test_the_confidence_that_selects_is_verified_too(selective_bundle: Bundle) -> None:
    engine = OnnxRuntimeCpu(selective_bundle.model, threads=1)
    found = verify(classifier(), engine, selective_bundle.manifest, IMAGES)
    assert found.max_score_difference["confidence"] < 1e-5
    assert found.decision_flips == 0


def test_without_a_threshold_there_are_no_decisions_to_differ(exported: Exported) -> None:
    source, model, manifest = exported
    manifest = replace(manifest, gate=None)
    engine = OnnxRuntimeCpu(model.SerializeToString(), threads=1)
    assert verify(source, engine, manifest, IMAGES).decision_flips is None


@pytest.mark.parametrize("amount", [0.05, -1.0, np.nan])
def test_another_weight_is_found(exported: Exported, amount: float) -> None:
    with pytest.raises(ExportError, match="logits differ from torch's by"):
        check(exported, shift("4.bias", amount))


def test_another_normalisation_is_found(exported: Exported) -> None:
    with pytest.raises(ExportError, match="logits differ"):
        check(exported, shift("shift", 0.5))


def test_a_threshold_that_is_not_the_manifests_fails(exported: Exported) -> None:
    """With a threshold above all scores every accepted image is flipped."""
    with pytest.raises(ExportError, match=r"of 99 decisions of the exported graph differ") as caught:
        check(exported, shift("threshold", 1e6))
    accepted = len(IMAGES) - round(ALPHA * (len(IMAGES) + 1)) + 1
    assert accepted - 2 <= int(str(caught.value).split()[0]) <= accepted


def test_a_score_that_is_not_the_references_shows_in_its_difference(exported: Exported) -> None:
    def rename(model: onnx.ModelProto) -> None:
        (node,) = (node for node in model.graph.node if node.output[0] == "scores")
        node.input[0], node.input[1] = node.input[1], node.input[0]

    found = check(exported, rename)
    assert found.max_score_difference["msp"] > 0.01
    assert found.max_score_difference["energy"] < 1e-4


def test_a_model_with_randomness_of_its_own_is_found() -> None:
    source = TorchClassifier("noisy", "none", "multiclass", LABELS, SPEC, Noisy().eval())
    model, manifest = assemble(source, "noisy", {})
    engine = OnnxRuntimeCpu(seal(model, manifest), threads=1)
    with pytest.raises(ExportError, match="randomness"):
        verify(source, engine, manifest, IMAGES)


@pytest.mark.parametrize("count", [1, 65])
def test_any_number_of_images(exported: Exported, count: int) -> None:
    source, model, manifest = exported
    engine = OnnxRuntimeCpu(seal(model, manifest), threads=1)
    assert verify(source, engine, manifest, IMAGES[:count]).images == count
