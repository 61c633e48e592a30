"""``python -m train``: what it prints and leaves, and one line for everything that is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.commands import failure
from tests.train.sets import CLASSES, coloured, colours, noise, write_folder, write_tar
from train import checkpoint
from train.__main__ import main
from train.methods.logitnorm import LogitNorm

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.tar and the folders val and many, whose images have several labels."""
    path = tmp_path_factory.mktemp("sources")
    write_tar(path / "train.tar", colours(35))
    write_folder(path / "val", colours(12, seed=1))
    write_folder(path / "many", coloured(30))
    return path


def arguments(sources: Path, out: Path, **changes: object) -> list[str]:
    """A run of one second; `changes` are options, with underscores."""
    options = {
        "method": "cross-entropy",
        "arch": "resnet20",
        "data": sources / "train.tar",
        "val": sources / "val",
        "epochs": 2,
        "out": out,
        "size": 8,
        "batch_size": 8,
        "precision": "fp32",
        **changes,
    }
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def test_trains_and_says_what_is_next(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(sources, tmp_path / "run", method="logitnorm", seed=3), "--set", "tau=0.1"]) == 0
    path = tmp_path / "run" / "checkpoint.safetensors"
    loaded = checkpoint.load(path)
    assert loaded.header.labels == CLASSES
    assert loaded.header.step == 8
    assert loaded.header.hyperparameters["method_options"] == {"tau": 0.1}
    assert loaded.header.hyperparameters["seed"] == 3
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines[:2]] == [str(sources / "train.tar"), str(sources / "val")]
    assert [line[:9] for line in lines[2:4]] == ["epoch 1/2", "epoch 2/2"]
    assert lines[-2] == f"{path}: validation accuracy {loaded.header.metrics['val_accuracy']:.4f}"
    assert lines[-1].startswith(f"next: python -m export --checkpoint {path} --calibration {sources / 'val'}")


def test_the_models_input_is_normalised_by_the_training_images(sources: Path, tmp_path: Path) -> None:
    main(arguments(sources, tmp_path, epochs=1))
    spec = checkpoint.load(tmp_path / "checkpoint.safetensors").header.input
    scaled = colours(35).images / 255.0
    assert (spec.height, spec.width) == (8, 8)
    assert spec.mean == pytest.approx(scaled.mean(axis=(0, 1, 2)).tolist())
    assert spec.std == pytest.approx(scaled.std(axis=(0, 1, 2)).tolist())


def test_a_validation_set_may_lack_classes(sources: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "val.npz", images=noise(2), labels=["red", "red"])
    assert main(arguments(sources, tmp_path / "run", epochs=1, val=tmp_path / "val.npz")) == 0


def test_sigterm_saves_and_resume_goes_on(sources: Path, tmp_path: Path) -> None:
    """The command as a process, stopped from outside in the middle of a long run."""
    options = arguments(sources, tmp_path, epochs=5000)
    process = subprocess.Popen(
        [sys.executable, "-m", "train", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        file = tmp_path / "checkpoint.safetensors"
        while not file.exists() and process.poll() is None:
            time.sleep(0.05)
        process.terminate()
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors
    step = checkpoint.load(file).header.step
    assert 4 <= step < 20_000
    assert output.splitlines()[-1] == f"stopped at step {step} of 20000, saved {file}; add --resume to go on"


def test_resume_of_a_complete_run(sources: Path, tmp_path: Path) -> None:
    options = arguments(sources, tmp_path, epochs=1)
    main(options)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    assert main([*options, "--resume"]) == 0
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_resume_without_init_keeps_the_input_of_the_start(sources: Path, tmp_path: Path) -> None:
    """Which is not that of the images, whose statistics are others."""
    np.savez(tmp_path / "dim.npz", images=colours(35).images // 2, labels=np.array(CLASSES)[colours(35).labels])
    main(arguments(sources, tmp_path / "start", epochs=1))
    options = arguments(sources, tmp_path / "run", epochs=1, data=tmp_path / "dim.npz")
    main([*options, f"--init={tmp_path / 'start' / 'checkpoint.safetensors'}"])
    before = checkpoint.load(tmp_path / "run" / "checkpoint.safetensors").header
    assert before.input == checkpoint.load(tmp_path / "start" / "checkpoint.safetensors").header.input
    assert main([*options, "--resume"]) == 0
    assert checkpoint.load(tmp_path / "run" / "checkpoint.safetensors").header == before


def test_resume_where_there_is_nothing_yet_starts(sources: Path, tmp_path: Path) -> None:
    assert main([*arguments(sources, tmp_path, epochs=1), "--resume"]) == 0


def test_resume_with_other_settings(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments(sources, tmp_path, epochs=1))
    message = failure(capsys, main, *arguments(sources, tmp_path, epochs=2), "--resume")
    assert "can't resume: epochs was 1, now 2; give it as before, or train into another --out" in message


def test_resume_with_a_hyperparameter_at_its_default(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given or not, it is the same; another value is not."""
    options = arguments(sources, tmp_path, epochs=1, method="logitnorm")
    main(options)
    assert main([*options, "--set", f"tau={LogitNorm().tau}", "--resume"]) == 0
    message = failure(capsys, main, *options, "--set", "tau=0.2", "--resume")
    assert f"can't resume: --set tau was {LogitNorm().tau}, now 0.2; give it as before" in message


@pytest.mark.parametrize("init", ["pretrained", "weights.pth"])
def test_weights_of_others_for_a_network_of_ours(
    init: str, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({}, "weights.pth")
    message = failure(capsys, main, *arguments(sources, tmp_path, epochs=1), "--init", init)
    assert f"--init {init}: --arch resnet20 starts from a checkpoint of `train`; weights of others go with" in message


def test_resume_of_a_file_that_is_no_checkpoint(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint.safetensors").write_text("text")
    assert "not a readable" in failure(capsys, main, *arguments(sources, tmp_path), "--resume")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic'; choose one of cross-entropy, logitnorm"),
        ({"arch": "vgg"}, "unknown architecture 'vgg'; choose one of resnet20, resnet18, wrn-40-2"),
        ({"set": "tau=1"}, "'cross-entropy' has no hyperparameter 'tau'"),
        ({"set": "tau"}, "--set tau: expected NAME=VALUE"),
        ({"method": "logitnorm", "set": "tau=low"}, "tau of method 'logitnorm' must be a number, found 'low'"),
        ({"method": "greg", "set": "reduction=1"}, "reduction of method 'greg' must be a word, found 1.0"),
        ({"method": "greg", "set": "reduction=sum"}, "reduction must be sample or batch, found 'sum'"),
        ({"method": "energy", "set": "m_in=-inf"}, "m_in of method 'energy' must be finite, found -inf"),
        ({"method": "snojoe", "set": "layers=nan"}, "layers of method 'snojoe' must be finite, found nan"),
        ({"method": "snojoe", "set": "layers=8.5"}, "layers of method 'snojoe' must be a whole number, found 8.5"),
        ({"recipe": "magic"}, "unknown recipe 'magic'; choose one of logitnorm-cifar"),
    ],
)
def test_wrong_names_are_found_before_the_data_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], message: str
) -> None:
    assert message in failure(capsys, main, *arguments(tmp_path / "nowhere", tmp_path, **changes))


def test_a_size_that_the_network_does_not_take(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, main, *arguments(sources, tmp_path, arch="airbench-half", size=8))
    assert message.startswith("--arch airbench-half takes no images of 8x8 pixels: ")


@pytest.mark.parametrize("value", ['"high"', "null", "[1]"])
def test_hyperparameter_that_is_no_number(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    options = arguments(sources, tmp_path, method="logitnorm", set=f"tau={value}")
    assert "tau" in failure(capsys, main, *options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("size", 0),
        ("size", -8),
        ("batch_size", 0),
        ("batch_size", -8),
        ("learning_rate", -0.1),
        ("learning_rate", "nan"),
        ("weight_decay", -1),
        ("warmup", -1),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_number_that_makes_no_sense(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: object
) -> None:
    failure(capsys, main, *arguments(sources, tmp_path, **{option: value}))


def test_fine_tuning_from_a_missing_checkpoint(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(capsys, main, *arguments(sources, tmp_path, init=tmp_path / "nowhere.safetensors"))
    assert "nowhere.safetensors: no such file" in message


@pytest.mark.parametrize("option", ["data", "val"])
def test_missing_source(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    message = failure(capsys, main, *arguments(sources, tmp_path, **{option: tmp_path / "nowhere"}))
    assert "nowhere: no such directory, tar or .npz file" in message


def test_validation_image_of_an_unknown_class(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "val.npz", images=noise(2), labels=["red", "pink"])
    message = failure(capsys, main, *arguments(sources, tmp_path, val=tmp_path / "val.npz"))
    assert "val.npz: class 'pink' is not one of the model's" in message


def test_one_class_is_nothing_to_learn(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_folder(tmp_path / "red", colours(36))
    for other in ("blue", "green"):
        shutil.rmtree(data / other)
    message = failure(capsys, main, *arguments(sources, tmp_path / "run", data=data, val=data))
    assert "expected at least 2 classes to learn, found ['red']" in message


@pytest.mark.parametrize("name", ["bce", "cross-entropy"])
def test_images_labelled_for_another_kind_of_method(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    wanted, found = ("multilabel", "multiclass") if name == "bce" else ("multiclass", "multilabel")
    source = sources / ("train.tar" if name == "bce" else "many")
    message = failure(capsys, main, *arguments(sources, tmp_path, method=name, data=source, val=source))
    assert message.startswith(f"method '{name}' is for {wanted} images, found {found} ones; several labels an image")


@pytest.mark.parametrize("name", ["bce", "cross-entropy"])
def test_validation_images_labelled_in_another_way(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Found before the first step: the figures of the first epoch would be too late."""
    data, val = (sources / source for source in (("many", "val") if name == "bce" else ("train.tar", "many")))
    message = failure(capsys, main, *arguments(sources, tmp_path, method=name, data=data, val=val))
    assert message.startswith("validation images must be multi")
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_several_labels_an_image(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(sources, tmp_path, method="bce", data=sources / "many", val=sources / "many", epochs=1)) == 0
    header = checkpoint.load(tmp_path / "checkpoint.safetensors").header
    assert header.task == "multilabel"
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].endswith(f"validation map {header.metrics['val_map']:.4f}")
    assert lines[2].endswith(f"val map {header.metrics['val_map']:.4f}")


def test_too_few_images(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, main, *arguments(sources, tmp_path, batch_size=64))
    assert message.startswith("35 images are fewer than")
    assert message.endswith("lower --batch-size")


def test_images_with_a_constant_channel(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their standard deviation, zero, is no divisor."""
    np.savez(tmp_path / "red.npz", images=noise(16) * np.array([1, 0, 0], np.uint8), labels=list(CLASSES) * 5 + ["red"])
    failure(capsys, main, *arguments(sources, tmp_path / "run", data=tmp_path / "red.npz"))


def test_output_that_is_a_file(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").write_text("notes")
    assert str(tmp_path / "run") in failure(capsys, main, *arguments(sources, tmp_path / "run"))
    assert (tmp_path / "run").read_text() == "notes"


@pytest.mark.parametrize("option", ["method", "arch", "data", "val", "epochs", "out"])
def test_required_options(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    options = [item for item in arguments(sources, tmp_path) if not item.startswith(f"--{option}=")]
    assert f"--{option}" in failure(capsys, main, *options)


@pytest.mark.parametrize("option", ["schedule", "precision"])
def test_choices(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert "invalid choice: 'other'" in failure(capsys, main, *arguments(sources, tmp_path, **{option: "other"}))
