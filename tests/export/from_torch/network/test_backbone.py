"""Tracing, and the exported file of every architecture: what it computes, and that ONNX Runtime alone can use it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from scipy.special import logsumexp, softmax
from torch import nn

from export.classifier import assemble
from export.exceptions import ExportError
from export.from_torch.classifier import TorchClassifier
from export.from_torch.network.backbone import Backbone, to_onnx
from export.graph.building import OPSET
from export.graph.head import seal
from runtime.manifest import Calibration, GateSpec, Manifest
from tests.export.factories import Branching, Pair
from tests.small import LABELS, SPEC, calibration_images
from train import models
from train.models.densenet import DenseNet
from train.models.wide_resnet import WideResNet


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


# --- the file

SCORES = ("msp", "max_logit", "energy", "joint_energy", "nan", "feature_norm")


@dataclass(frozen=True)
class Artifact:
    """A network as torch, as a graph, and as an ONNX Runtime session of the sealed graph."""

    backbone: Backbone
    model: onnx.ModelProto
    manifest: Manifest
    session: ort.InferenceSession

    def run(self, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        names = [item.name for item in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, {"images": images}), strict=True))

    def torch(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        with torch.no_grad():
            logits, penultimate = self.backbone(torch.from_numpy(images))
        return logits.numpy(), penultimate.numpy()


# All that the deep ones are made of, in some ten layers: the export of a hundred takes longer than this whole file.
NETWORKS = {
    **models.ARCHITECTURES,
    "densenet-bc-100": lambda classes: DenseNet(classes, depth=16, growth=12, reduction=0.5),
    "wrn-40-2": lambda classes: WideResNet(classes, depth=10, widen=2, dropout=0.3),
}


@pytest.fixture(scope="module", params=NETWORKS)
def artifact(request: pytest.FixtureRequest) -> Artifact:
    torch.manual_seed(0)
    module = NETWORKS[request.param](len(LABELS)).train()
    with torch.no_grad():
        module(torch.randn(64, 3, SPEC.height, SPEC.width) * 2)  # statistics that are not the initial zero and one
    classifier = TorchClassifier(request.param, "none", "multiclass", LABELS, SPEC, module.eval())
    model, manifest = assemble(classifier, "mine", {"energy": {"temperature": 0.5}})
    session = ort.InferenceSession(seal(model, manifest), providers=["CPUExecutionProvider"])
    return Artifact(Backbone(module, SPEC), model, manifest, session)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_computes_what_torch_does_for_any_number_of_images(artifact: Artifact, count: int) -> None:
    images = calibration_images(count)
    logits, penultimate = artifact.torch(images)
    outputs = artifact.run(images)
    assert np.abs(outputs["logits"] - logits).max() <= 1e-5 * max(10, np.abs(logits).max())
    np.testing.assert_allclose(outputs["penultimate"], penultimate, rtol=1e-3, atol=1e-5)


def test_inputs(artifact: Artifact) -> None:
    (images,) = artifact.session.get_inputs()
    assert (images.name, images.type) == ("images", "tensor(uint8)")
    assert images.shape[1:] == [SPEC.height, SPEC.width, 3]
    (threshold,) = artifact.session.get_overridable_initializers()
    assert (threshold.name, threshold.type, threshold.shape) == ("threshold", "tensor(float)", [])


def test_outputs(artifact: Artifact) -> None:
    features = artifact.manifest.model.features
    found = {item.name: (item.type, *item.shape[1:]) for item in artifact.session.get_outputs()}
    assert found == {
        "logits": ("tensor(float)", 3),
        "penultimate": ("tensor(float)", features),
        "scores": ("tensor(float)", 6),
        "accept": ("tensor(bool)",),
    }


def test_the_batch_dimension_is_one_symbol(artifact: Artifact) -> None:
    items = [*artifact.session.get_inputs(), *artifact.session.get_outputs()]
    assert len({item.shape[0] for item in items}) == 1
    assert isinstance(items[0].shape[0], str)


def test_standard_operators_of_one_opset_without_functions(artifact: Artifact) -> None:
    assert not artifact.model.functions
    assert {node.domain for node in artifact.model.graph.node} <= {"", "ai.onnx"}
    assert [(item.domain, item.version) for item in artifact.model.opset_import if item.domain in ("", "ai.onnx")] == [
        ("", OPSET)
    ]
    onnx.checker.check_model(artifact.model, full_check=True)


def test_the_manifest_in_the_metadata(artifact: Artifact) -> None:
    text = artifact.session.get_modelmeta().custom_metadata_map["oodgate"]
    assert Manifest.from_json(text) == artifact.manifest


def test_the_manifest_describes_the_network(artifact: Artifact) -> None:
    manifest = artifact.manifest
    module = artifact.backbone.classifier
    assert manifest.model.name == "mine"
    assert manifest.model.parameters == sum(np.prod(p.shape, dtype=int) for p in module.parameters())
    assert manifest.model.features == module.fc.in_features
    assert manifest.labels == LABELS
    assert manifest.input == SPEC
    assert manifest.scores == SCORES
    assert manifest.score_parameters == {"energy": {"temperature": 0.5}}
    assert manifest.gate is None


def test_scores_are_those_of_its_own_logits(artifact: Artifact) -> None:
    outputs = artifact.run(calibration_images(20))
    logits = outputs["logits"].astype(np.float64)
    columns = dict(zip(SCORES, outputs["scores"].T, strict=True))
    np.testing.assert_allclose(columns["msp"], softmax(logits, axis=1).max(1), rtol=1e-5)
    np.testing.assert_allclose(columns["energy"], 0.5 * logsumexp(2 * logits, axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(columns["feature_norm"], outputs["penultimate"].sum(axis=1), rtol=1e-5)


def test_rejects_everything_until_it_is_calibrated(artifact: Artifact) -> None:
    assert not artifact.run(calibration_images(20))["accept"].any()


def test_sealing_sets_the_gate(artifact: Artifact) -> None:
    scores = artifact.run(calibration_images(20))["scores"]
    threshold = float(np.sort(scores[:, 5])[8])
    calibration = Calibration(1, (1,), dict.fromkeys(SCORES, (0.0,)))
    gate = GateSpec("feature_norm", threshold, 0.1, 0.9, 1, (0.8, 0.95), 0.25, calibration)
    model = onnx.ModelProto()
    model.CopyFrom(artifact.model)
    manifest = replace(artifact.manifest, gate=gate)
    session = ort.InferenceSession(seal(model, manifest), providers=["CPUExecutionProvider"])
    (accept,) = session.run(["accept"], {"images": calibration_images(20)})
    np.testing.assert_array_equal(accept, scores[:, 5] >= np.float32(threshold))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert (stored["threshold"], stored["gate_column"]) == (np.float32(threshold), 5)


def test_pooling_to_one_pixel_is_a_mean() -> None:
    """Not a gathering by indices that are computed from the batch's size: a GPU's provider leaves those to the CPU."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
    backbone = Backbone(module, SPEC)
    model = to_onnx(backbone, SPEC)
    found = {node.op_type for node in model.graph.node}
    assert "ReduceMean" in found
    assert not found & {"Shape", "Range", "Gather"}
    images = calibration_images(5)
    logits, penultimate = ort.InferenceSession(model.SerializeToString()).run(None, {"images": images})
    with torch.no_grad():
        expected = module[1](module[0](backbone.face(torch.from_numpy(images)))).double().mean(dim=(2, 3))
        np.testing.assert_allclose(logits, backbone(torch.from_numpy(images)).numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(penultimate, expected.numpy(), rtol=1e-5, atol=1e-6)
