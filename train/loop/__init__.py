"""The training loop.

What a step takes comes from (seed, step) alone, so a run resumed at any step goes on exactly as if it had not stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from runtime.manifest import InputSpec
from runtime.signals import asked_to_end
from train import checkpoint
from train.checkpoint import Checkpoint, Header
from train.config import Config, learning_rate
from train.data import ImageSet
from train.distributed import World
from train.exceptions import CheckpointError, TrainingError
from train.loop.header import begun, resumed, with_images
from train.loop.trainer import Trainer
from train.models import Origin, Start

CHECKPOINT = "checkpoint.safetensors"


def train(
    config: Config,
    spec: InputSpec,
    data: ImageSet,
    val: ImageSet,
    out: Path,
    resume: Checkpoint | None = None,
    *,
    outliers: ImageSet | None = None,
    init: Checkpoint | None = None,
    network: Start | Origin | None = None,
    world: World | None = None,
    sources: Mapping[str, Any] | None = None,
    cuda_graph: bool = False,
) -> Header:
    """Train a network and leave `out`/checkpoint.safetensors, written after every epoch, and TensorBoard scalars.

    Ctrl-C and SIGTERM save first and then end the loop.

    Args:
        config: the settings.
        spec: size and normalisation of the input.
        data, val: images to train on, and images for the figure reported after each epoch.
        out: directory of the checkpoint and the scalars.
        resume: the checkpoint of this very run, to go on from.
        outliers: auxiliary images, for methods that need them.
        init: a checkpoint whose weights to start from (fine-tuning).
        network: of others, as :func:`train.models.make` takes it.
        world: the processes that train together, of which the first one writes; this one alone if not given.
        sources: what the images are, for the checkpoint's header.
        cuda_graph: on a GPU, record the first step and replay it with the images of the others.

    Returns:
        the header of the last checkpoint written; its `step` tells whether the run was completed.

    Raises:
        TrainingError: unusable settings, or a loss that is not finite (the message names the step and the term).
        CheckpointError: `resume` is a checkpoint of other settings, images or another start, or `init` of another network.
    """
    world = world or World.alone()
    trainer = Trainer(config, spec, data, outliers, init, world, network, cuda_graph)
    if trainer.method.task != "unlabelled":
        _check_validation(val, data)
    header = begun(trainer, spec, data, network, world, sources or {})
    if resume:
        header = resumed(header, resume.header)
        trainer.restore(resume)
    if world.rank == 0 or resume:
        header = with_images(header, data, outliers, init)
    if world.mean([header.step]) != [header.step]:
        raise CheckpointError(
            "the processes would go on from different steps; give all of them the same --out directory"
        )
    log = _Log(out, trainer, header.step) if world.rank == 0 else None
    for line in trainer.told if log else ():
        print(line)
    per_epoch = trainer.feed.steps_per_epoch
    stopped = False
    with asked_to_end() as stop, closing(log) if log else nullcontext():
        for epoch in range(header.step // per_epoch, config.epochs):
            first, end = max(header.step, epoch * per_epoch), (epoch + 1) * per_epoch
            means = _Means(header.running, first - epoch * per_epoch)
            for step, fed in enumerate(trainer.feed.steps(first, end), first):
                figures, stopped = trainer.step(step, fed, stop.is_set)
                means.add(figures)
                if log:
                    log.step(epoch, means.values)
                if stopped and step + 1 < end:
                    break
            running = {} if step + 1 == end else means.values
            header = dataclasses.replace(header, step=step + 1, running=running, witness=())
            if header.step == end:
                trainer.settle()
                if log:
                    witness = trainer.testify() if header.origin else ()
                    header = dataclasses.replace(header, metrics=log.epoch(epoch, means.values, val), witness=witness)
            if log:
                checkpoint.save(out / CHECKPOINT, header, *trainer.tensors())
            if stopped:
                break
    return header


class _Log:
    """What a run tells as it goes: a progress bar, a line an epoch, TensorBoard's curves."""

    def __init__(self, out: Path, trainer: Trainer, step: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        config, per_epoch = trainer.config, trainer.feed.steps_per_epoch
        self._trainer = trainer
        self._board = SummaryWriter(str(out), purge_step=step + 1)  # the last complete epoch is drawn at `step`
        self._bar = tqdm(total=per_epoch * config.epochs, initial=step, unit="step", disable=None)

    def step(self, epoch: int, means: dict[str, float]) -> None:
        self._bar.set_postfix(epoch=epoch + 1, **{name: f"{value:.3f}" for name, value in means.items()})
        self._bar.update()

    def epoch(self, epoch: int, means: dict[str, float], val: ImageSet) -> dict[str, float]:
        """The figures of an epoch that is complete, as they were told."""
        config, figure = self._trainer.config, self._trainer.figure
        metrics = {
            "epoch": epoch + 1,
            "learning_rate": learning_rate(epoch + 1, config),
            **{f"train_{name}": value for name, value in means.items()},
            f"val_{figure}": self._trainer.evaluate(val),
        }
        for name, value in metrics.items():
            self._board.add_scalar(name, value, (epoch + 1) * self._trainer.feed.steps_per_epoch)
        told = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in list(metrics.items())[2:])
        self._bar.write(f"epoch {epoch + 1}/{config.epochs}  {told}")
        return metrics

    def close(self) -> None:
        self._bar.close()
        self._board.close()


class _Means:
    """Running means over an epoch.

    Args:
        values, count: those over so many steps of it.
    """

    def __init__(self, values: Mapping[str, float], count: int) -> None:
        self.values = dict(values)
        self._count = count

    def add(self, figures: dict[str, float]) -> None:
        self._count += 1
        for name, value in figures.items():
            mean = self.values.get(name, value)
            self.values[name] = mean + (value - mean) / self._count


def _check_validation(val: ImageSet, data: ImageSet) -> None:
    """Raises TrainingError where no figure could be made of the validation images."""
    if val.task != data.task:
        raise TrainingError(f"validation images must be {data.task} as the training images are, found {val.task} ones")
    if val.task == "multilabel" and not val.labels.any():
        raise TrainingError("no validation image has a label; mean average precision needs some that do")
