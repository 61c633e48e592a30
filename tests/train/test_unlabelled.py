"""Training without labels by the command: any folder, resumed exactly, exported without another word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from export.__main__ import main as export
from export.evaluate.__main__ import main as evaluate
from runtime import Gate
from runtime.bundle import Bundle
from tests.commands import failure
from tests.export.conftest import call
from tests.small import encode
from tests.train.sets import SPEC, colours
from train import checkpoint
from train.__main__ import main as train
from train.config import Config
from train.data import ImageSet
from train.loop import CHECKPOINT
from train.loop import train as run
from train.models.projection import WithProjection

OPTIONS = ("--method", "moco", "--arch", "resnet20+nan:32", "--size", 8, "--epochs", 2, "--batch-size", 16)
SETTINGS = ("--set", "queue=32", "--set", "splits=2", "--learning-rate", 0.02, "--precision", "fp32")
CONFIG = Config(
    "moco", "resnet20+nan:8", 2, {"queue": 16, "splits": 2}, batch_size=8, learning_rate=0.02, precision="fp32"
)


def plain(count: int, seed: int) -> npt.NDArray[np.uint8]:
    """One kind of image: noise in which red is bright."""
    images = np.asarray(colours(3 * count, seed).images)
    return images[2 * count :]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and nothing that labels them; others beside the folder."""
    path = tmp_path_factory.mktemp("images")
    (path / "good").mkdir()
    for i, image in enumerate(plain(120, seed=0)):
        (path / "good" / f"{i:03}.png").write_bytes(encode(image))
    np.savez(path / "calibration.npz", images=plain(150, seed=1))
    np.savez(path / "held.npz", images=plain(150, seed=2))
    np.savez(path / "blue.npz", images=np.asarray(colours(90, seed=3).images)[:30])
    return path


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    output = call(train, *OPTIONS, *SETTINGS, "--data", folder / "good", "--val", folder / "held.npz", "--out", out)
    assert "validation match" in output
    return out / CHECKPOINT


def test_the_checkpoint_says_what_it_is(trained: Path) -> None:
    loaded = checkpoint.load(trained)
    assert (loaded.header.task, loaded.header.labels, loaded.header.method) == ("unlabelled", (), "moco")
    assert {"train_loss", "train_accuracy", "val_match"} <= loaded.header.metrics.keys()
    assert any(name.startswith("moco.network.") for name in loaded.weights)
    model = loaded.model()
    assert isinstance(model, WithProjection)
    assert not hasattr(model, "moco")


def test_one_folder_to_a_gate(trained: Path, folder: Path, tmp_path: Path) -> None:
    """Exported without options, calibrated, evaluated inside the promised interval; its scores are the network's own."""
    out, blue = tmp_path / "gate", folder / "blue.npz"
    call(
        export,
        "--checkpoint",
        trained,
        "--calibration",
        folder / "calibration.npz",
        "--fit",
        folder / "good",
        "--out",
        out,
    )
    bundle = Bundle.load(out)
    assert bundle.manifest.task == "unlabelled"
    assert bundle.manifest.model.features == 32
    own = sum(value.numel() for value in checkpoint.load(trained).model().parameters())
    assert bundle.manifest.model.parameters == own
    with torch.inference_mode():
        images = plain(5, seed=4)
        mean, std = (torch.tensor(each) for each in (bundle.manifest.input.mean, bundle.manifest.input.std))
        x = ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2)
        hidden = checkpoint.load(trained).model()(x)[1]
    gate = Gate.load(out, engine="onnxruntime-cpu", threads=1)
    norms = [decision.scores["feature_norm"] for decision in gate.decide(images)]
    assert norms == pytest.approx(hidden.sum(dim=1).tolist(), rel=1e-4)
    output = call(evaluate, out, "--id", folder / "held.npz", "--ood", f"blue={blue}")
    accepted, low, high = figures(output)
    assert low <= accepted <= high


def figures(output: str) -> tuple[float, float, float]:
    """Accepted, and the interval that is promised, in percent."""
    (line,) = (line for line in output.splitlines() if line.startswith("ID held.npz"))
    accepted = float(line.partition("images, ")[2].split(" ")[0])
    low, high = line.partition("promises ")[2].rstrip(")").split(" to ")
    return accepted, float(low), float(high)


def test_resumed_it_ends_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    """The key encoder, the queue and its place are in the checkpoint, and views follow from the step."""
    data = colours(24)
    half = Config(**{**vars(CONFIG), "epochs": 1})
    whole = run(CONFIG, SPEC, data, data, tmp_path / "whole")
    run(CONFIG, SPEC, data, data, tmp_path / "again")
    a, b = (checkpoint.load(tmp_path / name / CHECKPOINT).weights for name in ("whole", "again"))
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert int(a["moco.place"]) == 48 % 16
    assert whole.labels == ()
    run(half, SPEC, data, data, tmp_path / "half")
    stopped = checkpoint.load(tmp_path / "half" / CHECKPOINT)
    assert int(stopped.weights["moco.place"]) == 24 % 16


def test_labels_do_not_matter(tmp_path: Path) -> None:
    """The same images, of three classes, of none and of several an image, give the same weights."""
    data = colours(16)
    bare = ImageSet(data.images, np.zeros(16, np.int64), (), data.names)
    several = ImageSet(data.images, np.eye(3, dtype=bool)[data.labels], data.classes, data.names)
    found = []
    for name, images in {"three": data, "none": bare, "several": several}.items():
        run(Config(**{**vars(CONFIG), "epochs": 1}), SPEC, images, images, tmp_path / name)
        found.append(checkpoint.load(tmp_path / name / CHECKPOINT).weights)
    assert all(torch.equal(value, other[name]) for other in found[1:] for name, value in found[0].items())


def test_a_network_without_a_projection_head(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--method",
        "moco",
        "--arch",
        "resnet20",
        "--epochs",
        1,
        "--data",
        folder / "good",
        "--val",
        folder / "held.npz",
    )
    assert "take --arch resnet20+nan" in failure(capsys, train, *arguments, "--out", tmp_path)
