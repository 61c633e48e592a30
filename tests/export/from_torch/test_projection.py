"""A network with NAN's projection head, from training to the exported file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export.checks.verification import verify
from export.classifier import assemble
from export.detectors.base import Nan
from export.exceptions import ExportError, NotApplicable
from export.from_torch.checkpoint import from_checkpoint
from export.graph.head import seal
from export.graph.last_layers import LastLayers
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from tests.train.sets import SPEC, colours, noise
from train import checkpoint, models
from train.config import Config
from train.loop import CHECKPOINT, train
from train.normalize import Normalize


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of such a network."""
    out = tmp_path_factory.mktemp("nan")
    config = Config(method="cross-entropy", arch="resnet20+nan", epochs=1, batch_size=8, padding=0, precision="fp32")
    train(config, SPEC, colours(40), colours(12), out)
    return out / CHECKPOINT


def test_the_head_s_hidden_layer_is_the_penultimate(trained: Path) -> None:
    classifier = from_checkpoint(trained)
    model, manifest = assemble(classifier, "nan", {"energy": {"temperature": 1.0}})
    engine = OnnxRuntimeCpu(seal(model, manifest), threads=1)
    images = noise(5)
    verify(classifier, engine, manifest, images)
    outputs = engine.run(images, penultimate=True)
    assert outputs.penultimate is not None
    _, hidden = classifier.run(images)
    np.testing.assert_allclose(outputs.penultimate, hidden, rtol=1e-4, atol=1e-5)
    expected = Nan().reference(outputs.logits, hidden)
    np.testing.assert_allclose(outputs.scores[:, manifest.scores.index("nan")], expected, rtol=1e-4)
    assert manifest.model.arch == "resnet20+nan"
    assert manifest.model.features == 512


def test_the_features_that_the_head_reads_may_be_the_penultimate(trained: Path) -> None:
    classifier, images = from_checkpoint(trained, "backbone"), noise(5)
    model, manifest = assemble(classifier, "backbone", {"energy": {"temperature": 1.0}})
    engine = OnnxRuntimeCpu(seal(model, manifest), threads=1)
    verify(classifier, engine, manifest, images)
    outputs = engine.run(images, penultimate=True)
    logits, _ = from_checkpoint(trained).run(images)
    network = checkpoint.load(trained).model()
    with torch.no_grad():
        _, features = network.backbone(Normalize(SPEC)(torch.from_numpy(images)))
    assert manifest.model.features == features.shape[1] == 64
    np.testing.assert_allclose(outputs.penultimate, features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-4, atol=1e-5)
    layers = LastLayers(model)  # the whole head, whose hidden layer is among them
    np.testing.assert_allclose(layers(features.numpy()), logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(NotApplicable):
        layers.composed()


@pytest.mark.parametrize("word", ["hidden", "Backbone", "features"])
def test_activations_that_there_are_not(trained: Path, word: str) -> None:
    with pytest.raises(ExportError, match=rf"--penultimate {word}: .* may be `backbone`"):
        from_checkpoint(trained, word)


def test_a_network_without_a_head_has_no_choice(tmp_path: Path) -> None:
    network = models.make("resnet20", 2)
    header = checkpoint.Header("resnet20", "multiclass", ("a", "b"), SPEC, "cross-entropy")
    checkpoint.save(tmp_path / "c.safetensors", header, network.state_dict(), {})
    with pytest.raises(ExportError, match="this one is a resnet20"):
        from_checkpoint(tmp_path / "c.safetensors", "backbone")
