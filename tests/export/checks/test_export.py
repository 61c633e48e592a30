"""What the command makes of it: a network of torch whose outputs are no logits, or not each image's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from export.__main__ import main
from export.checks.batches import check_batches
from export.exceptions import ExportError
from export.from_torch.classifier import TorchClassifier
from export.from_torch.origin import Request, read
from runtime import Gate
from runtime.bundle import Bundle
from tests.commands import failure
from tests.export import factories
from tests.export.checks.networks import graph, node
from tests.export.conftest import call
from tests.export.test_main import foreign, session
from tests.small import LABELS, SPEC, calibration_images
from train.descriptions.description import Description

IMAGES = calibration_images(150)


def of_factory(target: str, weights: Path, labels: tuple[str, ...]) -> TorchClassifier:
    size = (SPEC.height, SPEC.width)
    return read(
        Request(weights, target), Description(labels, None, size, SPEC.mean, SPEC.std, "center", colour="ignore")
    )


def predicted() -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The classes that the network of :class:`factories.LogSoftmax` gives."""
    x = torch.from_numpy((IMAGES / 255 - np.array(SPEC.mean)) / np.array(SPEC.std)).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        return np.asarray(factories.LogSoftmax()(x).argmax(dim=1).numpy())


def saved(name: str, path: Path) -> Path:
    torch.save(getattr(factories, name)().state_dict(), path / "w.pth")
    return path / "w.pth"


def test_a_log_softmax_is_taken_off_and_accuracy_shown(labels: Path, tmp_path: Path) -> None:
    """The labels file has the names in reverse: the energy is that of the logits, and the order is found to be wrong."""
    names = np.array(LABELS)[predicted()]
    np.savez(tmp_path / "c.npz", images=IMAGES, labels=names)
    labels.write_text("\n".join(LABELS[::-1]))
    changes = {"model": "tests.export.factories:LogSoftmax", "calibration": tmp_path / "c.npz", "alpha": 0.1}
    output = call(main, *foreign(saved("LogSoftmax", tmp_path), labels, tmp_path / "bundle", **changes))
    right = int((predicted() == 1).sum())  # the one name that keeps its place
    assert f"accuracy {100 * right / 150:.1f} % (" in output
    assert "on 150 labelled calibration images of " in output
    assert "note: the model's outputs are logarithms of probabilities, of which the energy is always 0" in output
    assert "warning: --labels " in output
    assert "would be right on 100.0 % of 150 labelled images" in output

    loaded = Bundle.load(tmp_path / "bundle")
    checks = loaded.manifest.provenance["checks"]
    assert checks["undone"] == ["log_softmax"]
    assert checks["accuracy"]["value"] == right / 150
    card = (tmp_path / "bundle" / "card.md").read_text()
    assert "## Found by the export\n\n- log_softmax taken off the model's outputs, to have logits\n- accuracy " in card
    assert loaded.manifest.gate is not None
    logits, scores, accept = session(tmp_path / "bundle").run(["logits", "scores", "accept"], {"images": IMAGES})
    energies = np.log(np.exp(logits.astype(np.float64)).sum(axis=1))
    np.testing.assert_allclose(scores[:, 2], energies, rtol=1e-4)
    assert energies.std() > 0.01
    assert accept.sum() == 150 - 14  # floor(0.1 * 151) = 15: the 15th smallest is accepted
    assert [
        decision.class_index for decision in Gate.load(tmp_path / "bundle", threads=1).decide(IMAGES)
    ] == predicted().tolist()


def test_statistics_of_the_batch_are_refused(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"model": "tests.export.factories:BatchStatistics"}
    message = failure(
        capsys, main, *foreign(saved("BatchStatistics", tmp_path), labels, tmp_path / "bundle", **changes)
    )
    assert "its answer to an image depends on the other images of the batch" in message
    assert "batch normalisation without running statistics, or left in training, at bn" in message
    assert not (tmp_path / "bundle").exists()


def test_a_network_that_squeezes_its_batch_away_is_refused(tmp_path: Path) -> None:
    weights = saved("Squeezed", tmp_path)
    classifier = of_factory("tests.export.factories:Squeezed", weights, LABELS)
    with pytest.raises(ExportError, match=r"a batch of 1 image the logits have the shape \[3\]"):
        check_batches(classifier.run, IMAGES, "it", graph(node("Identity", "z", "logits")))


def test_behind_another_preprocessing_a_network_of_torch_is_itself(tmp_path: Path) -> None:
    """Its operations may have been traced behind the first one, which is another."""
    target, weights = "tests.export.factories:LogSoftmax", saved("LogSoftmax", tmp_path)
    other = dataclasses.replace(SPEC, mean=(0.0,) * 3, std=(1.0,) * 3)
    found = of_factory(target, weights, LABELS).behind(dataclasses.replace(other, channels="bgr"))
    x = torch.from_numpy(IMAGES[..., ::-1] / 255).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = factories.LogSoftmax()(x).numpy()
    np.testing.assert_allclose(found(IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_one_output_passes_for_two_labels(tmp_path: Path) -> None:
    weights = saved("OneOutput", tmp_path)
    target = "tests.export.factories:OneOutput"
    classifier = of_factory(target, weights, ("no", "yes"))
    assert classifier.run(IMAGES[:2])[0].shape == (2, 1)
    with pytest.raises(ExportError, match="for 3 labels"):
        of_factory(target, weights, LABELS)
