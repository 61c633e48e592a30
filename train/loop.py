"""The training loop.

All randomness of a step (crop, flip, dropout) comes from (seed, step) and the order of an epoch from (seed, epoch), so
a run resumed at any step goes on exactly as if it had not been stopped.
"""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from runtime.manifest import InputSpec
from train import checkpoint, methods, models
from train.augment import crop_flip
from train.checkpoint import Checkpoint, Header
from train.config import Config
from train.data import ImageSet
from train.exceptions import CheckpointError, TrainingError
from train.normalize import Normalize

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
) -> Header:
    """Train a network and leave `out`/checkpoint.safetensors, written after every epoch, and TensorBoard scalars.

    Ctrl-C and SIGTERM save first and then end the loop.

    Args:
        config: the settings.
        spec: size and normalisation of the input.
        data, val: images to train on, and images for the accuracy reported after each epoch.
        out: directory of the checkpoint and the scalars.
        resume: the checkpoint of this very run, to go on from.
        outliers: auxiliary images, for methods that need them.
        init: a checkpoint whose weights to start from (fine-tuning).

    Returns:
        the header of the last checkpoint written; its `step` tells whether the run was completed.

    Raises:
        TrainingError: unusable settings, or a loss that is not finite (the message names the step).
        CheckpointError: `resume` is a checkpoint of other settings, or `init` of another network.
    """
    run = _Run(config, spec, data, outliers)
    if init:
        run.start_from(init)
    header = Header(
        arch=config.arch,
        task="multiclass",
        labels=data.classes,
        input=spec,
        method=config.method,
        hyperparameters=dataclasses.asdict(config),
    )
    if resume:
        run.restore(resume, header)
        header = resume.header

    def save(step: int, metrics: dict[str, float]) -> Header:
        saved = dataclasses.replace(header, step=step, metrics=metrics)
        checkpoint.save(out / CHECKPOINT, saved, run.model.state_dict(), run.momentum())
        return saved

    out.mkdir(parents=True, exist_ok=True)
    size, per_epoch = config.batch_size, run.steps_per_epoch
    bar = tqdm(total=per_epoch * config.epochs * size, initial=header.step * size, unit="image", disable=None)
    with SummaryWriter(str(out), purge_step=header.step) as board, _stop_signals() as stop, bar:
        for epoch in range(header.step // per_epoch, config.epochs):
            order = _order(len(data), config.seed, epoch)
            losses, accuracies = _Mean(), _Mean()
            end = (epoch + 1) * per_epoch
            for step in range(max(header.step, epoch * per_epoch), end):
                start = step % per_epoch * size
                loss, accuracy = run.step(step, order[start : start + size])
                losses.add(loss)
                accuracies.add(accuracy)
                bar.set_postfix(epoch=epoch + 1, loss=f"{losses.value:.3f}", accuracy=f"{accuracies.value:.3f}")
                bar.update(size)
                if stop.is_set() and step + 1 < end:
                    return save(step + 1, header.metrics)
            metrics = {
                "epoch": epoch + 1,
                "learning_rate": learning_rate(epoch + 1, config),
                "train_loss": losses.value,
                "train_accuracy": accuracies.value,
                "val_accuracy": run.accuracy(val),
            }
            for name, value in metrics.items():
                board.add_scalar(name, value, end)
            header = save(end, metrics)
            bar.write(
                f"epoch {epoch + 1}/{config.epochs}  loss {metrics['train_loss']:.4f}  "
                f"train {metrics['train_accuracy']:.4f}  val {metrics['val_accuracy']:.4f}"
            )
            if stop.is_set():
                break
    return header


class _Run:
    """What a step needs: network, optimizer, method and the images on their device."""

    def __init__(self, config: Config, spec: InputSpec, data: ImageSet, outliers: ImageSet | None) -> None:
        self.config = config
        self.steps_per_epoch = len(data) // config.batch_size
        for images in filter(None, (data, outliers)):
            if len(images) < config.batch_size:
                raise TrainingError(
                    f"{len(images)} images are fewer than a batch of {config.batch_size}; lower --batch-size"
                )
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.method = methods.make(config.method, config.method_options)
        torch.manual_seed(config.seed)
        self.model = models.make(config.arch, len(data.classes)).to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.normalize = Normalize(spec).to(self.device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=True,
        )
        self.classes = data.classes
        self.images = torch.from_numpy(data.images).to(self.device)
        self.labels = torch.from_numpy(data.labels).to(self.device)
        self.outliers = None if outliers is None else torch.from_numpy(outliers.images).to(self.device)
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=_bf16(config, self.device))

    def step(self, step: int, chosen: Tensor) -> tuple[float, float]:
        """One optimizer step on the images with the indices `chosen` (B,); its loss and accuracy."""
        torch.manual_seed(self.config.seed << 32 | step)
        self.model.train()
        with self.autocast:
            batch = methods.Batch(
                images=self._augmented(self.images[chosen]),
                labels=self.labels[chosen],
                outliers=None if self.outliers is None else self._augmented(self.outliers[self._outliers_of(step)]),
            )
            result = self.method.step(self.model, batch)
        loss = result.loss.item()
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {step}; lower --learning-rate")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step / self.steps_per_epoch, self.config)
        self.optimizer.zero_grad()
        result.loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss, (result.logits.argmax(1) == batch.labels).float().mean().item()

    def _augmented(self, images: Tensor) -> Tensor:
        normalized: Tensor = self.normalize(crop_flip(images, self.config.padding))
        return normalized

    def _outliers_of(self, step: int) -> Tensor:
        """Indices (B,) of a step's outliers: pass after pass over all of them, each in an order of its own."""
        assert self.outliers is not None
        size = self.config.batch_size
        number, position = divmod(step, len(self.outliers) // size)
        order = _order(len(self.outliers), self.config.seed, number, stream=1)
        return order[position * size : (position + 1) * size]

    @torch.inference_mode()
    def accuracy(self, data: ImageSet, batch_size: int = 512) -> float:
        """Share of images classified right, without augmentation."""
        self.model.eval()
        correct = 0
        for start in range(0, len(data), batch_size):
            images = torch.from_numpy(data.images[start : start + batch_size]).to(self.device)
            logits, _ = self.model(self.normalize(images))
            correct += int((logits.argmax(1).cpu().numpy() == data.labels[start : start + batch_size]).sum())
        return correct / len(data)

    def momentum(self) -> dict[str, Tensor]:
        """The optimizer's state by parameter name."""
        states = {name: self.optimizer.state[parameter] for name, parameter in self.model.named_parameters()}
        return {name: state["momentum_buffer"] for name, state in states.items() if "momentum_buffer" in state}

    def start_from(self, init: Checkpoint) -> None:
        """Take over the weights of another run.

        Raises:
            CheckpointError: of another architecture, or with other labels.
        """
        labels = init.header.labels
        if init.header.arch != self.config.arch or labels != self.classes:
            raise CheckpointError(
                f"can't start from a {init.header.arch} with labels {list(labels)}; "
                f"expected a {self.config.arch} with {list(self.classes)}"
            )
        init.load_into(self.model)

    def restore(self, resume: Checkpoint, expected: Header) -> None:
        """Weights and momentum of a checkpoint whose header says the same as `expected`.

        Raises:
            CheckpointError: naming the first difference.
        """
        ours, theirs = _plain(dataclasses.asdict(expected)), _plain(dataclasses.asdict(resume.header))
        for name in ("arch", "labels", "input", "method", "hyperparameters"):
            if ours[name] != theirs[name]:
                raise CheckpointError(
                    f"can't resume: {name} was {theirs[name]}, now {ours[name]}; train into another --out"
                )
        resume.load_into(self.model)
        for name, parameter in self.model.named_parameters():
            if name in resume.optimizer:
                self.optimizer.state[parameter]["momentum_buffer"] = resume.optimizer[name].to(parameter)


def learning_rate(epoch: float, config: Config) -> float:
    """The rate at a fractional epoch: a linear warm-up, times half a cosine or a tenth after each milestone."""
    progress = epoch / config.epochs
    if config.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * progress))
    else:
        factor = 0.1 ** sum(progress >= milestone for milestone in config.milestones)
    warmup = min(1.0, epoch / config.warmup) if config.warmup else 1.0
    return config.learning_rate * factor * warmup


class _Mean:
    """Running mean over an epoch."""

    def __init__(self) -> None:
        self.value, self.count = 0.0, 0

    def add(self, value: float) -> None:
        self.count += 1
        self.value += (value - self.value) / self.count


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int, stream: int = 0) -> Tensor:
    """A permutation of range(count), another one for each epoch and stream."""
    entropy = [seed, epoch, stream] if stream else [seed, epoch]
    return torch.from_numpy(np.random.default_rng(entropy).permutation(count))


def _bf16(config: Config, device: torch.device) -> bool:
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets, so that the loop can save and leave."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handler: Callable[..., None] = lambda *_: stop.set()  # noqa: E731
    previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
