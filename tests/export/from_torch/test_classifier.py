"""Where a classifier comes from: a checkpoint, or a factory with its weights; and all that can be wrong with either."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from export.exceptions import ExportError
from export.from_torch.checkpoint import from_checkpoint
from export.from_torch.classifier import TorchClassifier
from export.from_torch.origin import Request, read
from tests.export import factories
from tests.small import LABELS, SPEC
from train import checkpoint
from train.descriptions.description import Description
from train.exceptions import CheckpointError
from train.normalize import Normalize

HERE = "tests.export.factories"
GIVEN = Description(
    labels=LABELS, size=(SPEC.height, SPEC.width), mean=SPEC.mean, std=SPEC.std, resize="center", colour="ignore"
)


def take(name: str, weights: Path, labels: tuple[str, ...] = LABELS) -> TorchClassifier:
    return of_target(f"{HERE}:{name}", weights, labels)


def of_target(target: str, weights: Path | None, labels: tuple[str, ...] = LABELS) -> TorchClassifier:
    return read(Request(weights, target), replace(GIVEN, labels=labels))


def save(path: Path, factory: Callable[[], nn.Module]) -> Path:
    torch.save(factory().state_dict(), path)
    return path


def pixels(count: int = 5) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (count, SPEC.height, SPEC.width, 3), dtype=np.uint8)


def images(count: int = 5) -> Tensor:
    """The pixels as a network gets them."""
    normalised: Tensor = Normalize(SPEC)(torch.from_numpy(pixels(count)))
    return normalised.contiguous()


def outputs(classifier: TorchClassifier, count: int = 5) -> tuple[Tensor, Tensor]:
    logits, penultimate = classifier.run(pixels(count))
    return torch.from_numpy(logits), torch.from_numpy(penultimate)


# --- from a checkpoint


def test_from_a_checkpoint(checkpoint_file: Path) -> None:
    classifier = from_checkpoint(checkpoint_file)
    header = checkpoint.load(checkpoint_file).header
    assert (classifier.arch, classifier.method, classifier.task) == ("resnet20", "cross-entropy", "multiclass")
    assert (classifier.labels, classifier.input) == (header.labels, header.input)
    assert classifier.training == {
        "hyperparameters": header.hyperparameters,
        "sources": header.sources,
        "metrics": header.metrics,
    }
    assert not classifier.module.training


def test_from_a_file_that_is_no_checkpoint(weights: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.pth: not a readable"):
        from_checkpoint(weights)


# --- from a factory


def test_logits_are_the_modules(weights: Path) -> None:
    logits, _ = outputs(take("plain", weights))
    with torch.no_grad():
        assert torch.equal(logits, factories.trained()(images()))


def test_penultimate_is_the_input_of_the_last_layer(weights: Path) -> None:
    logits, penultimate = outputs(take("plain", weights))
    with torch.no_grad():
        assert torch.equal(penultimate, factories.trained()[:-1](images()))
        assert torch.equal(logits, factories.trained()[-1](penultimate))


def test_the_last_layer_is_the_one_called_last(tmp_path: Path) -> None:
    classifier = take("Reordered", save(tmp_path / "w.pth", factories.Reordered))
    logits, penultimate = outputs(classifier)
    with torch.no_grad():
        assert torch.equal(penultimate, factories.Reordered().hidden(images()))
        assert torch.equal(logits, factories.Reordered()(images()))


def test_a_pair_is_taken_as_it_is(tmp_path: Path) -> None:
    logits, penultimate = outputs(take("Pair", save(tmp_path / "w.pth", factories.Pair)))
    with torch.no_grad():
        assert torch.equal(penultimate, factories.Pair().features(images()))
        assert torch.equal(logits, factories.Pair()(images())[0])


def test_a_layer_called_by_keyword(tmp_path: Path) -> None:
    _, penultimate = outputs(take("Keyword", save(tmp_path / "w.pth", factories.Keyword)))
    with torch.no_grad():
        assert torch.equal(penultimate, factories.Keyword().features(images()))


def test_activations_are_of_their_own_batch(weights: Path) -> None:
    classifier = take("plain", weights)
    first = outputs(classifier)
    outputs(classifier, 3)
    again = outputs(classifier)
    assert torch.equal(first[1], again[1])


def test_what_the_manifest_will_say(weights: Path) -> None:
    classifier = take("plain", weights)
    assert (classifier.arch, classifier.method, classifier.task) == (f"{HERE}:plain", "unknown", "multiclass")
    assert (classifier.labels, classifier.input) == (LABELS, SPEC)
    assert classifier.training == {}


def test_the_model_is_in_evaluation_mode(tmp_path: Path) -> None:
    classifier = take("Dropout", save(tmp_path / "w.pth", factories.Dropout))
    assert torch.equal(outputs(classifier)[0], outputs(classifier)[0])


# --- weights


def _safetensors(path: Path) -> Path:
    save_file(factories.trained().state_dict(), path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def _under_a_key(path: Path) -> Path:
    torch.save({"state_dict": factories.trained().state_dict(), "epoch": 90, "best": 0.9}, path)
    return path


def _of_data_parallel(path: Path) -> Path:
    state = {f"module.{name}": tensor for name, tensor in factories.trained().state_dict().items()}
    torch.save({"state_dict": state}, path)
    return path


def _legacy(path: Path) -> Path:
    torch.save(factories.trained().state_dict(), path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("write", [_safetensors, _under_a_key, _of_data_parallel, _legacy])
def test_forms_of_weights(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    logits, _ = outputs(take("plain", write(tmp_path / "w.pth")))
    with torch.no_grad():
        assert torch.equal(logits, factories.trained()(images()))


def test_a_model_with_a_child_named_module(tmp_path: Path) -> None:
    """The prefix that DataParallel adds is its own here."""
    logits, _ = outputs(take("Wrapper", save(tmp_path / "w.pth", factories.Wrapper)))
    with torch.no_grad():
        assert torch.equal(logits, factories.Wrapper()(images()))


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"w\.pth: no such file"):
        take("plain", tmp_path / "w.pth")


def test_a_whole_model_is_refused_with_two_ways_out(tmp_path: Path) -> None:
    torch.save(factories.Pair(), tmp_path / "w.pth")
    with pytest.raises(
        ExportError, match=r"w\.pth: a whole model.*factories\.Pair: --model tells.*run any code.*--trust"
    ):
        read(Request(tmp_path / "w.pth"), GIVEN)


def test_a_whole_models_weights_are_taken_without_running_it(tmp_path: Path) -> None:
    torch.save(factories.trained(), tmp_path / "w.pth")
    logits, _ = outputs(take("plain", tmp_path / "w.pth"))
    with torch.no_grad():
        assert torch.equal(logits, factories.trained()(images()))


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: {"epoch": 3, "model": model}])
def test_a_whole_model_that_is_trusted(tmp_path: Path, wrap: Callable[[nn.Module], object]) -> None:
    torch.save(wrap(factories.trained()), tmp_path / "w.pth")
    classifier = read(Request(tmp_path / "w.pth", trust=True), GIVEN)
    logits, penultimate = outputs(classifier)
    with torch.no_grad():
        assert torch.equal(logits, factories.trained()(images()))
        assert torch.equal(penultimate, factories.trained()[:-1](images()))
    assert any("--trust" in remark for remark in classifier.remarks)


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"fc.weight": Touch()}, tmp_path / "w.pth")
    with pytest.raises(ExportError):
        take("plain", tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html>", b"{}", b".", bytes(200)],
    ids=["empty", "text", "git-lfs", "html", "json", "dot", "zeros"],
)
def test_file_that_holds_no_weights(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportError, match=name.replace(".", r"\.")):
        take("plain", tmp_path / name)


def test_truncated_weights(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", factories.plain)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ExportError, match=r"w\.pth: not readable as weights"):
        take("plain", path)


def test_weights_that_are_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not readable as weights"):
        take("plain", tmp_path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], torch.zeros(3), 7])
def test_weights_that_are_no_dictionary(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ExportError, match=f"expected a state_dict, found {type(content).__name__}"):
        take("plain", tmp_path / "w.pth")


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("4.bias"),
        lambda state: state.update({"4.bias": torch.zeros(10)}),
        lambda state: state.update({"5.weight": torch.zeros(1)}),
        lambda state: state.update({"4.bias": "text"}),
        lambda state: state.update({7: torch.zeros(1)}),
        lambda state: state.clear(),
    ],
    ids=["missing", "another shape", "too many", "no tensor", "no name", "nothing"],
)
def test_weights_that_do_not_fit(tmp_path: Path, damage: Callable[[dict[Any, Any]], Any]) -> None:
    state = dict(factories.plain().state_dict())
    damage(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ExportError, match=r"w\.pth: the weights don't fit the model"):
        take("plain", tmp_path / "w.pth")


# --- factories


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "no_such_package.models:make",
            "expected package.module:factory or file.py:factory that can be imported.*no_such_package",
        ),
        (f"{HERE}:resnet", "expected package.module:factory.*no attribute 'resnet'"),
        (HERE, "expected package.module:factory"),
        (f"{HERE}:", "expected package.module:factory"),
        (":plain", "expected package.module:factory"),
        ("", "expected package.module:factory"),
        (".factories:plain", "expected package.module:factory"),
        (f"{HERE}:needs_an_argument", "fails when called without arguments: .*depth"),
        (f"{HERE}:fails", "fails when called without arguments: no network today"),
        (f"{HERE}:not_callable", "fails when called"),
        (f"{HERE}:not_a_module", r"expected a torch\.nn\.Module, found str"),
    ],
)
def test_target_that_makes_no_model(weights: Path, target: str, message: str) -> None:
    with pytest.raises(ExportError, match=f"--model {target}: .*{message}" if target else message):
        of_target(target, weights)


def test_a_module_of_the_folder_where_the_command_is_typed(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models_of_mine.py").write_text("from tests.export.factories import plain\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert of_target("models_of_mine:plain", weights).arch == "models_of_mine:plain"


@pytest.mark.parametrize("source", ["def make(:", "1 / 0", "raise RuntimeError('no licence')"])
def test_module_that_fails_when_it_is_imported(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "broken_models.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ExportError, match="--model broken_models:make: "):
        of_target("broken_models:make", weights)


# --- the module


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Distances",
            r"Distances has no linear layer before its logits.*let its forward return \(logits, penultimate\)",
        ),
        ("Triple", r"forward must return logits, or \(logits, penultimate\); found tuple"),
        ("OnePair", r"forward must return logits, or \(logits, penultimate\); found list"),
        ("Square", r"fails on an input of shape \[2, 3, 16, 16\]: .*48"),
    ],
)
def test_module_of_another_kind(tmp_path: Path, name: str, message: str) -> None:
    path = save(tmp_path / "w.pth", getattr(factories, name))
    with pytest.raises(ExportError, match=message):
        take(name, path)


@pytest.mark.parametrize("labels", [("cat", "dog"), ("cat", "dog", "ship", "")])
def test_another_number_of_labels(weights: Path, labels: tuple[str, ...]) -> None:
    count = len(labels)
    with pytest.raises(ExportError, match=rf"expected logits \[N, {count}\] for {count} labels, found \[2, 3\]"):
        take("plain", weights, labels)


def test_labels_that_are_not_distinct(weights: Path) -> None:
    with pytest.raises(ExportError, match="cat"):
        take("plain", weights, ("cat", "dog", "cat"))
