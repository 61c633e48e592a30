"""A network with NAN's projection head, from training to the exported file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.checks.verification import verify
from export.classifier import assemble
from export.detectors.base import Nan
from export.from_torch.checkpoint import from_checkpoint
from export.graph.head import seal
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from tests.train.sets import SPEC, colours, noise
from train.config import Config
from train.loop import CHECKPOINT, train


def test_the_head_s_hidden_layer_is_the_penultimate(tmp_path: Path) -> None:
    config = Config(method="cross-entropy", arch="resnet20+nan", epochs=1, batch_size=8, padding=0, precision="fp32")
    train(config, SPEC, colours(40), colours(12), tmp_path)
    classifier = from_checkpoint(tmp_path / CHECKPOINT)
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
