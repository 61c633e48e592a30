"""Images that a network learned from neither evaluate nor calibrate it: as they are, in part, or in another form."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from export.__main__ import main as export
from export.calibrate.__main__ import main as calibrate
from export.convert.__main__ import main as convert
from export.evaluate.__main__ import main as evaluate
from export.fit.__main__ import main as fit
from export.images.leakage import Fingerprints, leaks
from runtime import Gate
from runtime.bundle import Bundle
from runtime.manifest import Manifest
from tests.commands import failure
from tests.export.conftest import Exported, Sources, call
from tests.train.sets import CLASSES, colours, noise
from train import checkpoint
from train.__main__ import main as train
from train.data import ImageSet

Images = npt.NDArray[np.uint8]

OUTLIERS, FIRST = noise(40, seed=5), colours(48, seed=6)


def write(path: Path, images: Images, labels: npt.NDArray[np.int64] | None = None) -> Path:
    names = np.zeros(len(images), np.int64) if labels is None else np.array(CLASSES)[labels]
    np.savez(path, images=images, labels=names)
    return path


def write_set(path: Path, data: ImageSet) -> Path:
    return write(path, np.asarray(data.images), np.asarray(data.labels, dtype=np.int64))


@dataclass(frozen=True)
class Learned:
    """A bundle, the sources that its network learned from, and that of the run which it started from."""

    bundle: Path
    checkpoint: Path
    training: Path
    outliers: Path
    first: Path


@pytest.fixture(scope="module")
def learned(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    path = tmp_path_factory.mktemp("learned")
    outliers, first = write(path / "outliers.npz", OUTLIERS), write_set(path / "first.npz", FIRST)
    common = ("--arch", "resnet20", "--epochs", 1, "--batch-size", 16, "--precision", "fp32", "--val", sources.val)
    call(train, "--method", "cross-entropy", *common, "--size", 8, "--data", first, "--out", path / "a")
    file = path / "a" / "checkpoint.safetensors"
    call(
        train,
        "--method",
        "oe",
        *common,
        "--init",
        file,
        "--data",
        sources.train,
        "--aux",
        outliers,
        "--out",
        path / "b",
    )
    file = path / "b" / "checkpoint.safetensors"
    options = ("--calibration", f"{sources.val}@1/2", "--alpha", 0.1)
    call(export, "--checkpoint", file, "--out", path / "bundle", *options)
    return Learned(path / "bundle", file, sources.train, outliers, first)


def manifest_of(bundle: Path) -> Manifest:
    return Bundle.load(bundle).manifest


# --- what is kept


def test_a_checkpoint_and_its_bundle_say_what_was_learned_from(learned: Learned) -> None:
    header = checkpoint.load(learned.checkpoint).header
    assert {role: (spec.source, spec.images) for role, spec in header.data.items()} == {
        "training": ("train", 240),
        "auxiliary": ("outliers.npz", 40),
        "init, training": ("first.npz", 48),
    }
    kept = manifest_of(learned.bundle).data
    assert {role: kept[role] for role in header.data} == header.data
    assert header.data["training"] == Fingerprints.of(colours(240).images).describe(str(learned.training), exact=False)


def test_a_bundle_of_an_earlier_version_decides_as_before(exported: Exported) -> None:
    """Without looks and without what was learned from."""
    text = (exported.path / "manifest.json").read_text()
    now = Manifest.from_json(text)
    document = now.to_dict()
    document["data"] = {"calibration": {k: v for k, v in document["data"]["calibration"].items() if k != "looks"}}
    before = Manifest.from_json(json.dumps(document))
    assert before.gate == now.gate
    images = colours(120, seed=1).images
    found = Fingerprints.of(images)
    assert list(leaks(before, found.exact, found.looks)) == ["calibration"]
    mirrored = Fingerprints.of(images[:, :, ::-1])
    assert leaks(before, mirrored.exact, mirrored.looks) == {}


# --- evaluation


def evaluation(learned: Learned, known: Path | str, other: Path | str) -> tuple[object, ...]:
    return (learned.bundle, "--id", known, "--ood", f"other={other}")


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("training", "about 240 of 240 images are among those of the training of bundle (train)"),
        ("first", "about 48 of 48 images are among those of the init, training of bundle (first.npz)"),
    ],
)
def test_evaluation_on_training_images_is_refused(
    attribute: str, message: str, learned: Learned, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    source = getattr(learned, attribute)
    assert message in failure(capsys, evaluate, *evaluation(learned, source, sources.noise))
    assert "--allow-leakage" in failure(capsys, evaluate, *evaluation(learned, f"{sources.val}@2/2", source))


def test_evaluation_on_auxiliary_outliers_is_refused(
    learned: Learned, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, evaluate, *evaluation(learned, f"{sources.val}@2/2", learned.outliers))
    assert "about 40 of 40 images are among those of the auxiliary of bundle (outliers.npz)" in message


def test_evaluation_on_other_images_is_not(learned: Learned, tmp_path: Path) -> None:
    new = write_set(tmp_path / "new.npz", colours(600, seed=9))
    call(evaluate, *evaluation(learned, new, write(tmp_path / "other.npz", noise(600, seed=9))))


def changed_bit(images: Images) -> Images:
    changed = images.copy()
    changed[:, 2, 3, 1] ^= 1
    return changed


@pytest.mark.parametrize("change", [changed_bit, lambda images: images[:, :, ::-1]], ids=["a bit", "mirrored"])
def test_training_images_in_another_form_are_known(
    change: object, learned: Learned, sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(change)
    source = write(tmp_path / "changed.npz", change(colours(240).images), colours(240).labels)
    message = failure(capsys, evaluate, *evaluation(learned, source, sources.noise))
    assert "images are among those of the training of bundle" in message


def test_one_training_image_in_a_hundred_is_enough(
    learned: Learned, sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, old = colours(990, seed=9), colours(240)
    images, labels = np.concatenate([new.images, old.images[:10]]), np.concatenate([new.labels, old.labels[:10]])
    source = write(tmp_path / "mixed.npz", images, labels)
    message = failure(capsys, evaluate, *evaluation(learned, source, sources.noise))
    assert "mixed.npz: about 10 of 1,000 images are among those of the training" in message


# --- calibration


def test_calibration_on_training_images_is_refused_or_warned_of(
    learned: Learned, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    message = failure(capsys, calibrate, learned.bundle, learned.training)
    assert "about 240 of 240 images are among those of the training of bundle (train); calibrate on images" in message
    shutil.copytree(learned.bundle, tmp_path / "copy")
    output = call(calibrate, tmp_path / "copy", learned.training, "--allow-leakage")
    assert "warning: train: about 240 of 240 images are among those of the training of bundle" in output
    assert Gate.load(tmp_path / "copy").spec.n_calibration == 240


def test_every_command_that_calibrates_refuses(
    learned: Learned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "new", "--calibration", learned.training)
    for main, arguments in (
        (export, ("--checkpoint", learned.checkpoint)),
        (convert, (learned.bundle, "--precision", "fp16")),
        (fit, (learned.bundle, learned.training, "--detectors", "react")),
    ):
        assert "calibrate on images that it did not learn from" in failure(capsys, main, *arguments, *out)
        assert not (tmp_path / "new").exists()


def test_calibration_on_the_images_of_a_fit_is_refused(
    exported_copy: Path, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the checkpoint does not say what was learned from."""
    call(fit, exported_copy, f"{sources.val}@2/2", "--detectors", "react")
    message = failure(capsys, calibrate, exported_copy, f"{sources.val}@2/2", "--alpha", 0.1)
    assert "those of the fit, react of colours" in message


def test_calibrating_again_on_the_same_images_is_fine(exported_copy: Path, sources: Sources) -> None:
    before = manifest_of(exported_copy)
    call(calibrate, exported_copy, f"{sources.val}@1/2", "--alpha", 0.1)
    assert replace(manifest_of(exported_copy), files={}) == replace(before, files={})
