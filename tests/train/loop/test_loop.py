"""The loop: what decides the weights, how it stops and goes on, what it leaves behind."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from runtime.manifest import InputSpec
from tests.train.sets import CLASSES, SPEC, coloured, colours, noise
from train import checkpoint, methods, models
from train.checkpoint import Checkpoint, Header
from train.config import Config
from train.data import ImageSet
from train.distributed import World
from train.exceptions import CheckpointError, TrainingError
from train.loop import CHECKPOINT, train
from train.methods import Batch, CrossEntropy, Step
from train.models.wide_resnet import WideResNet
from train.normalize import Normalize

# Two epochs of four steps; dropout, crops and momentum make every step depend on the ones before.
CONFIG = Config(
    method="cross-entropy",
    arch="wrn-10-1",
    epochs=2,
    batch_size=8,
    learning_rate=0.05,
    warmup=0.5,
    padding=1,
    precision="fp32",
)
STEPS = 8
SMALL = replace(CONFIG, arch="resnet20", epochs=1)
OUTLIERS = ImageSet(noise(20, seed=2), np.zeros(20, np.int64), ("outlier",), ("",) * 20)
REGULARISED = {"m_in": -1.0, "m_aux": -1.2, "gradient_weight": 0.1}  # margins among which untrained networks are


@pytest.fixture(autouse=True, scope="module")
def small_wide_resnet() -> Iterator[None]:
    """WRN-40-2 with one block a stage, half as wide."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.ARCHITECTURES, "wrn-10-1", lambda classes: WideResNet(classes, 10, 1, 0.3))
        yield


def run(out: Path, config: Config = CONFIG, resume: Checkpoint | None = None) -> Header:
    return train(config, SPEC, colours(35), colours(12, seed=1), out, resume=resume)


def saved(out: Path) -> Checkpoint:
    return checkpoint.load(out / CHECKPOINT)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def interrupt(
    monkeypatch: pytest.MonkeyPatch, after: int, number: int = signal.SIGTERM, name: str = "cross-entropy"
) -> None:
    """Send this process a signal during its `after`-th step."""
    calls = []
    base: Any = methods.METHODS[name]

    class Interrupted(base):  # type: ignore[misc]
        def step(self, model: nn.Module, batch: Batch) -> Step:
            calls.append(None)
            if len(calls) == after:
                os.kill(os.getpid(), number)
            result: Step = super().step(model, batch)
            return result

    monkeypatch.setitem(methods.METHODS, name, Interrupted)


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "deep" / "completed"
    run(out)
    return out


# --- what decides the weights


def test_the_same_settings_give_the_same_weights(completed: Path, tmp_path: Path) -> None:
    torch.rand(100)  # whatever was drawn before does not matter
    run(tmp_path)
    assert equal(saved(tmp_path).weights, saved(completed).weights)
    assert equal(saved(tmp_path).optimizer, saved(completed).optimizer)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"learning_rate": 0.04}, {"weight_decay": 0.0}, {"momentum": 0.8}, {"padding": 0}, {"warmup": 1.0}],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_give_other_weights(completed: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    run(tmp_path, replace(CONFIG, **change))
    assert not torch.equal(saved(tmp_path).weights["fc.weight"], saved(completed).weights["fc.weight"])


def test_bf16_is_close_to_fp32(completed: Path, tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, precision="bf16"))
    bf16, fp32 = saved(tmp_path).weights["fc.weight"], saved(completed).weights["fc.weight"]
    assert bf16.dtype == torch.float32
    assert not torch.equal(bf16, fp32)
    assert (bf16 - fp32).abs().max() < 0.1


def test_every_epoch_sees_each_image_once_in_an_order_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Watching(CrossEntropy):
        def step(self, model: nn.Module, batch: Batch) -> Step:
            seen.extend(batch.labels.tolist())
            return super().step(model, batch)

    monkeypatch.setitem(methods.METHODS, "cross-entropy", Watching)
    data = replace(colours(32), labels=np.arange(32), classes=tuple(map(str, range(32))))  # a class for each image
    train(replace(CONFIG, arch="resnet20"), SPEC, data, data, tmp_path)
    first, second = seen[:32], seen[32:]
    assert sorted(first) == sorted(second) == list(range(32))
    assert len({tuple(first), tuple(second), tuple(range(32))}) == 3


# --- what it leaves behind


def test_header_says_what_export_needs(completed: Path) -> None:
    header = saved(completed).header
    assert (header.arch, header.method, header.task) == ("wrn-10-1", "cross-entropy", "multiclass")
    assert header.labels == CLASSES
    assert header.input == SPEC
    assert header.step == STEPS
    assert header.hyperparameters["learning_rate"] == 0.05
    assert header.metrics["epoch"] == 2


def test_the_directory_holds_checkpoint_and_curves_only(completed: Path) -> None:
    names = sorted(file.name for file in completed.iterdir())
    assert names[0] == CHECKPOINT
    assert len(names) == 2
    assert names[1].startswith("events.out.tfevents.")


def test_curves_end_with_the_figures_of_the_header(completed: Path) -> None:
    curves = EventAccumulator(str(completed)).Reload()
    metrics = saved(completed).header.metrics
    for name in ("train_loss", "train_accuracy", "val_accuracy"):
        events = curves.Scalars(name)
        assert [event.step for event in events] == [4, 8]
        assert events[-1].value == pytest.approx(metrics[name], rel=1e-6)


def test_going_on_keeps_the_curves_of_complete_epochs(completed: Path, tmp_path: Path) -> None:
    again = shutil.copytree(completed, tmp_path / "again")
    run(again, resume=saved(again))
    curves, before = (EventAccumulator(str(folder)).Reload().Scalars("train_loss") for folder in (again, completed))
    assert [event.step for event in curves] == [4, 8]
    assert [event.value for event in curves] == [event.value for event in before]


def test_validation_accuracy_is_that_of_the_saved_model(completed: Path) -> None:
    val = colours(12, seed=1)
    images = torch.from_numpy(val.images / np.float32(255)).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits, _ = saved(completed).model()(images)
    accuracy = np.mean(logits.argmax(dim=1).numpy() == val.labels)
    assert saved(completed).header.metrics["val_accuracy"] == pytest.approx(accuracy)


def test_curves_have_the_terms_of_the_loss(tmp_path: Path) -> None:
    config = replace(CONFIG, arch="resnet20", method="greg", method_options=REGULARISED)
    header = train(config, SPEC, colours(35), colours(12, seed=1), tmp_path, outliers=OUTLIERS)
    curves = EventAccumulator(str(tmp_path)).Reload()
    terms = [curves.Scalars(f"train_{name}")[-1].value for name in ("cross_entropy", "energy", "gradient")]
    assert all(term > 0 for term in terms)
    assert sum(terms) == pytest.approx(curves.Scalars("train_loss")[-1].value, rel=1e-6)
    assert terms[2] == pytest.approx(header.metrics["train_gradient"], rel=1e-6)


def test_several_labels_an_image_are_judged_by_mean_average_precision(tmp_path: Path) -> None:
    config = replace(CONFIG, arch="resnet20", method="bce", learning_rate=0.02)
    val = coloured(60, seed=1)
    header = train(config, SPEC, coloured(240), val, tmp_path)
    with torch.no_grad():
        logits, _ = saved(tmp_path).model()(Normalize(SPEC)(torch.from_numpy(val.images)))
    expected = average_precision_score(val.labels, logits.numpy())
    assert header.task == "multilabel"
    assert expected > 0.9
    assert header.metrics["val_map"] == pytest.approx(expected)
    assert header.metrics["train_accuracy"] > 0.8  # of all labels of all images
    assert "val_accuracy" not in header.metrics
    assert EventAccumulator(str(tmp_path)).Reload().Scalars("val_map")[-1].value == pytest.approx(expected)


def test_learns_colours(tmp_path: Path) -> None:
    config = replace(CONFIG, arch="resnet20", learning_rate=0.02)
    header = train(config, SPEC, colours(240), colours(60, seed=1), tmp_path)
    assert header.metrics["val_accuracy"] > 0.9
    assert header.metrics["train_accuracy"] > 0.8  # the mean over the last epoch


def test_learns_colours_with_logitnorm(tmp_path: Path) -> None:
    config = replace(CONFIG, arch="resnet20", method="logitnorm", learning_rate=0.02)
    header = train(config, SPEC, colours(240), colours(60, seed=1), tmp_path)
    assert header.metrics["val_accuracy"] > 0.9


# --- stopping, and going on


@pytest.mark.parametrize(
    ("after", "number"), [(1, signal.SIGTERM), (3, signal.SIGINT), (4, signal.SIGTERM), (6, signal.SIGINT)]
)
def test_a_run_that_is_interrupted_and_resumed_ends_the_same(
    completed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, number: signal.Signals
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, after, number)
        assert run(tmp_path).step == after
    assert (
        run(tmp_path, resume=saved(tmp_path)) == saved(completed).header
    )  # the means over whole epochs among its figures
    assert equal(saved(tmp_path).weights, saved(completed).weights)
    assert equal(saved(tmp_path).optimizer, saved(completed).optimizer)


def test_a_run_that_is_interrupted_at_every_step_ends_the_same(
    completed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = None
    for step in range(1, STEPS + 1):
        with monkeypatch.context() as patch:
            interrupt(patch, after=1)
            assert run(tmp_path, resume=resume).step == step
        resume = saved(tmp_path)
    assert saved(tmp_path).header == saved(completed).header
    assert equal(saved(tmp_path).weights, saved(completed).weights)


def test_the_last_figures_are_kept_when_an_epoch_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, after=6)
    assert run(tmp_path).metrics["epoch"] == 1


def test_signal_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run(tmp_path, replace(CONFIG, epochs=1))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_trains_in_another_thread_too(completed: Path, tmp_path: Path) -> None:
    thread = threading.Thread(target=run, args=(tmp_path,))
    thread.start()
    thread.join()
    assert equal(saved(tmp_path).weights, saved(completed).weights)


def test_resuming_a_complete_run_changes_nothing(completed: Path, tmp_path: Path) -> None:
    assert run(tmp_path, resume=saved(completed)) == saved(completed).header


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "energy", "arch": "wrn-10-1"},
        {"method": "greg", "method_options": REGULARISED},
        {"method": "greg+", "method_options": REGULARISED},
        {"method": "snojoe"},
        {"optimizer": "adam", "learning_rate": 1e-3},
    ],
    ids=lambda changes: changes.get("method", "adam"),
)
def test_every_kind_of_run_that_is_interrupted_and_resumed_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    config = replace(CONFIG, **{"arch": "resnet20", **changes})
    method = methods.METHODS[config.method]
    data = colours(35) if method.task == "multiclass" else coloured(35)
    outliers = OUTLIERS if method.needs_outliers else None

    def run(out: Path, resume: Checkpoint | None = None) -> Checkpoint:
        train(config, SPEC, data, data, out, outliers=outliers, resume=resume)
        return saved(out)

    with monkeypatch.context() as patch:
        interrupt(patch, after=3, name=config.method)
        cut = run(tmp_path / "cut")
    assert cut.header.step == 3
    resumed, whole = run(tmp_path / "cut", resume=cut), run(tmp_path / "whole")
    assert resumed.header.step == whole.header.step == STEPS
    assert equal(resumed.weights, whole.weights)
    assert equal(resumed.optimizer, whole.optimizer)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochs": 3}, "epochs"),
        ({"learning_rate": 0.01}, "learning_rate"),
        ({"seed": 1}, "seed"),
        ({"arch": "resnet20"}, "arch"),
        ({"method": "logitnorm"}, "method"),
    ],
)
def test_resume_with_other_settings_is_refused(completed: Path, change: dict[str, Any], named: str) -> None:
    before = (completed / CHECKPOINT).read_bytes()
    with pytest.raises(
        CheckpointError, match=f"can't resume: {named} was .*; give it as before, or train into another --out"
    ):
        run(completed, replace(CONFIG, **change), resume=saved(completed))
    assert (completed / CHECKPOINT).read_bytes() == before


def test_resume_on_other_classes_is_refused(completed: Path, tmp_path: Path) -> None:
    data = replace(colours(35), classes=("blue", "green", "yellow"))
    with pytest.raises(CheckpointError, match="labels was"):
        train(CONFIG, SPEC, data, data, tmp_path, resume=saved(completed))


def test_resume_on_images_of_other_statistics_is_refused(completed: Path, tmp_path: Path) -> None:
    spec = InputSpec(8, 8, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))
    with pytest.raises(CheckpointError, match=r"input\.mean was"):
        train(CONFIG, spec, colours(35), colours(12), tmp_path, resume=saved(completed))


def others(change: str) -> ImageSet:
    data = colours(34 if change == "fewer" else 35, seed=7 if change == "others" else 0)
    if change == "labels":
        return replace(data, labels=data.labels[::-1].copy())
    return replace(data, images=data.images[::-1], labels=data.labels[::-1]) if change == "order" else data


@pytest.mark.parametrize("change", ["others", "fewer", "labels", "order"])
def test_resume_on_other_images_labels_or_order_is_refused(completed: Path, tmp_path: Path, change: str) -> None:
    """Of the same classes and the same input: a bundle would take other images for unseen."""
    count = 34 if change == "fewer" else 35
    message = f"can't resume: the {count} training images of .*, their labels or their order are not those of the 35 of"
    with pytest.raises(CheckpointError, match=message):
        train(CONFIG, SPEC, others(change), colours(12), tmp_path, resume=saved(completed))


def test_resume_without_a_record_of_the_images_is_refused(completed: Path, tmp_path: Path) -> None:
    """As of a run of an earlier version."""
    before = saved(completed)
    before = replace(before, header=replace(before.header, digests={}))
    with pytest.raises(CheckpointError, match="an earlier version made it, without a digest of its training images"):
        train(CONFIG, SPEC, colours(35), colours(12), tmp_path, resume=before)


def test_a_run_that_goes_on_keeps_its_start(tmp_path: Path) -> None:
    started = {"sha256": "ab", "method": "cross-entropy", "epochs": 2, "sources": {"data": "d", "val": "v"}}

    def resumed(out: Path, init: dict[str, Any] | None) -> dict[str, Any]:
        sources = {"data": "d"} | ({"init": init} if init else {})
        resume = saved(out) if (out / CHECKPOINT).exists() else None
        return train(SMALL, SPEC, colours(35), colours(12), out, resume, sources=sources).sources

    begun = {"data": "d", "init": started}
    assert resumed(tmp_path / "started", started) == begun
    assert resumed(tmp_path / "started", None) == resumed(tmp_path / "started", started) == begun
    with pytest.raises(CheckpointError, match="can't resume: it started from other weights than those of --init"):
        resumed(tmp_path / "started", {**started, "sha256": "cd"})
    assert resumed(tmp_path / "plain", None) == {"data": "d"}
    with pytest.raises(CheckpointError, match="can't resume: it started from no weights; leave --init out"):
        resumed(tmp_path / "plain", started)


def test_processes_that_would_go_on_from_different_steps(completed: Path, tmp_path: Path) -> None:
    """As on two machines, of which one does not see the other's directory."""

    class OtherAtZero(World):
        def mean(self, values: list[float]) -> list[float]:
            return [value / 2 for value in values]

    world = OtherAtZero(0, 1, torch.device("cpu"))
    with pytest.raises(CheckpointError, match="different steps; give all of them the same --out directory"):
        train(CONFIG, SPEC, colours(35), colours(12), tmp_path, saved(completed), world=world)


def test_resume_of_a_checkpoint_whose_weights_do_not_fit(completed: Path, tmp_path: Path) -> None:
    resume = replace(saved(completed), weights={"fc.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match="weights"):
        run(tmp_path, resume=resume)


def test_start_from_weights_that_do_not_fit(completed: Path, tmp_path: Path) -> None:
    init = replace(saved(completed), weights={"fc.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match="weights"):
        train(CONFIG, SPEC, colours(35), colours(12), tmp_path, init=init)


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, parametrizations.weight_norm])
def test_start_from_weights_with_parametrisations_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, norm: Callable[[nn.Module], nn.Module]
) -> None:
    class Parametrised(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.conv, self.fc = norm(nn.Conv2d(3, 4, 3)), nn.Linear(4, classes)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            features = self.conv(x).relu().mean(dim=(2, 3))
            return self.fc(features), features

    monkeypatch.setitem(models.ARCHITECTURES, "parametrised", Parametrised)
    config = replace(CONFIG, arch="parametrised", epochs=1)
    run(tmp_path / "first", config)
    first = saved(tmp_path / "first")
    train(
        replace(config, batch_size=35, warmup=1.0),  # one step, at a rate of zero
        SPEC,
        colours(35),
        colours(12),
        tmp_path / "second",
        init=first,
    )
    started = saved(tmp_path / "second").model()
    parameters = dict(started.named_parameters())
    assert any("parametrizations" in name for name in parameters)
    assert all(torch.equal(value, first.weights[name]) for name, value in parameters.items())


# --- what can't be trained


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    calls = []

    class Diverging(CrossEntropy):
        def step(self, model: nn.Module, batch: Batch) -> Step:
            calls.append(None)
            step = super().step(model, batch)
            return Step({"broken": step.loss * value}, step.logits) if len(calls) == 6 else step

    monkeypatch.setitem(methods.METHODS, "cross-entropy", Diverging)
    with pytest.raises(TrainingError, match=f"not finite at step 5: broken is {value}; lower --learning-rate"):
        run(tmp_path)
    assert saved(tmp_path).header.step == 4
    assert all(tensor.isfinite().all() for tensor in saved(tmp_path).weights.values())


def test_a_term_that_is_not_finite_is_named(tmp_path: Path) -> None:
    config = replace(CONFIG, arch="resnet20", method="energy", method_options={"m_aux": 1e30})
    with pytest.raises(TrainingError, match="not finite at step 0: energy is inf"):
        train(config, SPEC, colours(35), colours(12), tmp_path, outliers=OUTLIERS)


def test_validation_images_without_any_label(tmp_path: Path) -> None:
    val = coloured(12)
    val = replace(val, labels=np.zeros_like(val.labels))
    with pytest.raises(TrainingError, match="no validation image has a label"):
        train(replace(CONFIG, arch="resnet20", method="bce"), SPEC, coloured(24), val, tmp_path)


class Viewed(nn.Module):
    """Takes what a convolution makes apart by view, which says nothing of channels that lie last."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.conv(x).relu()
        penultimate = features.view(features.size(0), -1)
        return self.fc(penultimate), penultimate


def test_a_network_that_views_its_images_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.ARCHITECTURES, "viewed", Viewed)
    header = run(tmp_path, replace(CONFIG, arch="viewed", epochs=20))
    assert header.metrics["val_accuracy"] == 1.0


class Random(WideResNet):
    """Turns its images' signs now and then, as Python's and numpy's generators have it."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, 10, 1, 0.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and (random.random() < 0.5 or np.random.rand() < 0.5):
            x = -x
        return super().forward(x)


def test_what_a_network_draws_by_python_s_generators_is_of_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(models.ARCHITECTURES, "random", Random)
    config = replace(CONFIG, arch="random")
    for name in ("a", "b"):
        random.seed(name)
        run(tmp_path / name, config)
    assert equal(saved(tmp_path / "a").weights, saved(tmp_path / "b").weights)


def test_fewer_images_than_a_batch(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"35 images are fewer than .* batch of 36; lower --batch-size"):
        run(tmp_path, replace(CONFIG, batch_size=36))


@pytest.mark.parametrize(("field", "value"), [("method", "magic"), ("arch", "resnet19")])
def test_unknown_names(tmp_path: Path, field: str, value: str) -> None:
    with pytest.raises(TrainingError, match=f"unknown .*'{value}'"):
        run(tmp_path, replace(CONFIG, **{field: value}))


# --- the schedule


def test_the_rate_in_the_curves_is_that_of_the_epochs_end(completed: Path) -> None:
    curves = EventAccumulator(str(completed)).Reload()
    assert [event.value for event in curves.Scalars("learning_rate")] == pytest.approx([0.025, 0])


def test_the_first_step_of_a_warmup_has_the_rate_zero(tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, epochs=1, batch_size=35, warmup=1.0))
    torch.manual_seed(CONFIG.seed)
    initial = models.make(CONFIG.arch, len(CLASSES))
    assert all(torch.equal(saved(tmp_path).weights[name], value) for name, value in initial.named_parameters())
