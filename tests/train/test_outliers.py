"""Training with auxiliary outliers, and fine-tuning from another run's weights."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.detectors.base import Energy
from tests.commands import failure
from tests.train.sets import SPEC, colours, write_folder, write_tar
from train import checkpoint, methods
from train.__main__ import main
from train.config import Config
from train.data import ImageSet, concatenate
from train.exceptions import CheckpointError, TrainingError
from train.loop import CHECKPOINT, train
from train.methods import Batch, OutlierExposure, Step
from train.normalize import Normalize

CONFIG = Config(method="oe", arch="resnet20", epochs=2, batch_size=8, padding=0, precision="fp32")


def greys(count: int) -> ImageSet:
    """Outliers: no channel is brighter than another. The value of every pixel of image i is i."""
    levels = np.arange(count, dtype=np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (count, 8, 8, 3)).copy()
    return ImageSet(images, np.zeros(count, np.int64), ("grey",), tuple(f"grey/{i:04}.png" for i in range(count)))


def test_every_outlier_is_seen_once_a_pass_in_another_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    class Watched(OutlierExposure):
        def step(self, model: nn.Module, batch: Batch) -> Step:
            assert batch.outliers is not None
            seen.append(batch.outliers[:, 0, 0, 0].mul(255).round().int().tolist())
            return super().step(model, batch)

    monkeypatch.setitem(methods.METHODS, "oe", Watched)
    train(CONFIG, SPEC, colours(40), colours(12, seed=1), tmp_path, outliers=greys(24))
    assert len(seen) == 10  # an epoch of 5 steps of 8: a pass over 24 outliers, and 16 of the next
    passes = np.array(seen).reshape(2, 40)
    assert (np.sort(passes[:, :24], axis=1) == np.arange(24)).all()
    assert all(len(set(rest)) == 16 for rest in passes[:, 24:].tolist())
    assert len(np.unique(passes[:, :24], axis=0)) == 2


def test_outliers_end_with_less_energy_than_known_images(tmp_path: Path) -> None:
    config = Config(
        method="energy",
        arch="resnet20",
        epochs=6,
        batch_size=16,
        padding=0,
        precision="fp32",
        method_options={"m_in": -8.0, "m_aux": -2.0},
    )
    train(config, SPEC, colours(96), colours(12, seed=1), tmp_path, outliers=greys(64))
    model = checkpoint.load(tmp_path / CHECKPOINT).model()

    def energy(data: ImageSet) -> float:
        with torch.no_grad():
            logits, penultimate = model(Normalize(SPEC)(torch.from_numpy(data.images)))
        return float(Energy().reference(logits.numpy(), penultimate.numpy()).mean())

    assert energy(colours(48, seed=7)) > energy(greys(48)) + 2


def test_fewer_outliers_than_a_batch(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="5 auxiliary images are fewer than the 8 of a step"):
        train(CONFIG, SPEC, colours(40), colours(12), tmp_path, outliers=greys(5))


def test_init_starts_from_the_other_run_s_weights(tmp_path: Path) -> None:
    first = Config(method="cross-entropy", arch="resnet20", epochs=1, batch_size=8, padding=0, precision="fp32")
    train(first, SPEC, colours(40), colours(12), tmp_path / "first")
    init = checkpoint.load(tmp_path / "first" / CHECKPOINT)
    frozen = Config(**{**vars(first), "learning_rate": 1e-30, "seed": 5})
    train(frozen, SPEC, colours(40), colours(12), tmp_path / "second", init=init)
    tuned = checkpoint.load(tmp_path / "second" / CHECKPOINT).weights
    learned = {name for name, _ in init.model().named_parameters()}
    assert all(torch.equal(tuned[name], init.weights[name]) for name in learned)


@pytest.mark.parametrize("change", ["arch", "labels"])
def test_init_from_another_network_is_refused(tmp_path: Path, change: str) -> None:
    first = Config(method="cross-entropy", arch="resnet20", epochs=1, batch_size=8, padding=0, precision="fp32")
    train(first, SPEC, colours(40), colours(12), tmp_path / "first")
    init = checkpoint.load(tmp_path / "first" / CHECKPOINT)
    config = Config(**{**vars(first), "arch": "wrn-40-2"}) if change == "arch" else first
    data = colours(40) if change == "arch" else colours(40).with_classes(("blue", "green", "red", "pink"), "data")
    with pytest.raises(CheckpointError, match="can't start from a resnet20 with labels"):
        train(config, SPEC, data, data, tmp_path / "second", init=init)


def test_concatenate() -> None:
    both = concatenate([greys(3), colours(6)])
    assert len(both) == 9
    np.testing.assert_array_equal(both.images[3:], colours(6).images)
    assert both.labels.tolist() == [0] * 9


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sources")
    write_tar(path / "train.tar", colours(35))
    write_folder(path / "val", colours(12, seed=1))
    write_tar(path / "aux.tar", greys(20))
    return path


def command(sources: Path, out: Path, *more: object) -> list[str]:
    size = ["--size=8", "--batch-size=8", "--epochs=1", "--arch=resnet20", "--precision=fp32"]
    return [f"--data={sources / 'train.tar'}", f"--val={sources / 'val'}", f"--out={out}", *size, *map(str, more)]


def test_fine_tuning_keeps_the_first_run_s_normalisation(sources: Path, tmp_path: Path) -> None:
    main(command(sources, tmp_path / "first", "--method=cross-entropy"))
    first = tmp_path / "first" / CHECKPOINT
    other = write_tar(tmp_path / "other.tar", colours(48, seed=9))
    arguments = ["--method=energy", f"--aux={sources / 'aux.tar'}", f"--init={first}", f"--data={other}"]
    assert main(command(sources, tmp_path / "second", *arguments)) == 0
    tuned = checkpoint.load(tmp_path / "second" / CHECKPOINT)
    before = checkpoint.load(first).header
    assert tuned.header.input == before.input
    assert before.sources == {"data": "train.tar", "val": "val"}
    assert tuned.header.sources == {
        "data": "other.tar",
        "val": "val",
        "aux": ["aux.tar"],
        "init": {
            "sha256": hashlib.sha256(first.read_bytes()).hexdigest(),
            "method": "cross-entropy",
            "epochs": 1.0,
            "sources": before.sources,
        },
    }


def test_fine_tuning_at_another_size(sources: Path, tmp_path: Path) -> None:
    main(command(sources, tmp_path / "first", "--method=cross-entropy"))
    first = tmp_path / "first" / CHECKPOINT
    assert main([*command(sources, tmp_path / "second", "--method=logitnorm", f"--init={first}"), "--size=12"]) == 0
    spec = checkpoint.load(tmp_path / "second" / CHECKPOINT).header.input
    assert spec == dataclasses.replace(checkpoint.load(first).header.input, height=12, width=12)


def test_a_method_without_its_outliers_fails_before_the_data_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, main, *command(tmp_path / "missing", tmp_path / "run", "--method=energy"))
    assert message == "method 'energy' learns from auxiliary outliers; give them by --aux SOURCE"


def test_outliers_that_the_method_does_not_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = command(tmp_path / "missing", tmp_path / "run", "--method=logitnorm", "--aux=aux.tar")
    assert failure(capsys, main, *arguments) == "method 'logitnorm' makes no use of --aux"


def test_batch_normalisation_sees_images_and_outliers_together() -> None:
    """One forward pass over both, as the energy and outlier-exposure codes do it."""
    shapes = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            shapes.append(tuple(images.shape))
            return images.mean(dim=(2, 3)) * self.weight, images.mean(dim=(2, 3))

    batch = Batch(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]), outliers=torch.randn(6, 3, 8, 8))
    methods.make("energy", {}).step(Watched(), batch)
    assert shapes == [(10, 3, 8, 8)]
