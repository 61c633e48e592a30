"""The training loop.

All randomness of a step (crop, flip, dropout) comes from (seed, step) and the order of an epoch from (seed, epoch), so
a run resumed at any step goes on exactly as if it had not been stopped.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
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

Triple = tuple[float, float, float]


def train(
    config: Config, spec: InputSpec, data: ImageSet, val: ImageSet, out: Path, resume: Checkpoint | None = None
) -> Header:
    """Train a network and leave `out`/checkpoint.safetensors, written after every epoch, and TensorBoard scalars.

    Ctrl-C and SIGTERM save first and then end the loop.

    Returns:
        the header of the last checkpoint written; its `step` tells whether the run was completed.

    Raises:
        TrainingError: unusable settings, or a loss that is not finite (the message names the step).
        CheckpointError: `resume` is a checkpoint of other settings.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    method = methods.make(config.method, config.method_options)
    torch.manual_seed(config.seed)
    model = models.make(config.arch, len(data.classes)).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    normalize = Normalize(spec).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=True,
    )
    steps_per_epoch = len(data) // config.batch_size
    if not steps_per_epoch:
        raise TrainingError(f"{len(data)} images are fewer than one batch of {config.batch_size}; lower --batch-size")
    total = steps_per_epoch * config.epochs
    header = Header(
        arch=config.arch,
        task="multiclass",
        labels=data.classes,
        input=spec,
        method=config.method,
        hyperparameters=dataclasses.asdict(config),
    )
    if resume:
        _restore(resume, header, model, optimizer)
        header = resume.header
    images, labels = torch.from_numpy(data.images).to(device), torch.from_numpy(data.labels).to(device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=_bf16(config, device))

    def save(step: int, metrics: dict[str, float]) -> Header:
        saved = dataclasses.replace(header, step=step, metrics=metrics)
        checkpoint.save(out / CHECKPOINT, saved, model.state_dict(), _momentum(model, optimizer))
        return saved

    out.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=total * config.batch_size, initial=header.step * config.batch_size, unit="image", disable=None)
    with SummaryWriter(str(out), purge_step=header.step) as board, _stop_signals() as stop, bar:
        for epoch in range(header.step // steps_per_epoch, config.epochs):
            order = _order(len(data), config.seed, epoch).to(device)
            loss_mean, accuracy_mean = _Mean(), _Mean()
            model.train()
            end = (epoch + 1) * steps_per_epoch
            for step in range(max(header.step, epoch * steps_per_epoch), end):
                torch.manual_seed(config.seed << 32 | step)
                start = step % steps_per_epoch * config.batch_size
                chosen = order[start : start + config.batch_size]
                with autocast:
                    batch = methods.Batch(normalize(crop_flip(images[chosen], config.padding)), labels[chosen])
                    result = method.step(model, batch)
                loss = result.loss.item()
                if not math.isfinite(loss):
                    raise TrainingError(f"the loss is {loss} at step {step} (epoch {epoch + 1}); lower --learning-rate")
                rate = learning_rate(step / steps_per_epoch, config)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
                result.loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

                loss_mean.add(loss)
                accuracy_mean.add((result.logits.argmax(1) == batch.labels).float().mean().item())
                bar.set_postfix(epoch=epoch + 1, loss=f"{loss_mean.value:.3f}", accuracy=f"{accuracy_mean.value:.3f}")
                bar.update(config.batch_size)
                if stop.is_set() and step + 1 < end:
                    return save(step + 1, header.metrics)
            metrics = {
                "epoch": epoch + 1,
                "train_loss": loss_mean.value,
                "train_accuracy": accuracy_mean.value,
                "val_accuracy": _accuracy(model, normalize, val),
            }
            for name, value in metrics.items():
                board.add_scalar(name, value, end)
            board.add_scalar("learning_rate", rate, end)
            header = save(end, metrics)
            bar.write(
                f"epoch {epoch + 1}/{config.epochs}  loss {metrics['train_loss']:.4f}  "
                f"train {metrics['train_accuracy']:.4f}  val {metrics['val_accuracy']:.4f}"
            )
            if stop.is_set():
                break
    return header


def learning_rate(epoch: float, config: Config) -> float:
    """The rate at a fractional epoch: a linear warm-up, times half a cosine or a tenth after each milestone."""
    progress = epoch / config.epochs
    if config.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * progress))
    else:
        factor = 0.1 ** sum(progress >= milestone for milestone in config.milestones)
    warmup = min(1.0, epoch / config.warmup) if config.warmup else 1.0
    return config.learning_rate * factor * warmup


def channel_statistics(images: npt.NDArray[np.uint8]) -> tuple[Triple, Triple]:
    """Mean and standard deviation of each RGB channel, of pixels scaled to [0, 1], from uint8 [N, H, W, 3]."""
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(3):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        means.append(float((counts * values).sum() / counts.sum()))
        deviations.append(math.sqrt((counts * (values - means[-1]) ** 2).sum() / counts.sum()))
    return (means[0], means[1], means[2]), (deviations[0], deviations[1], deviations[2])


class _Mean:
    """Running mean over an epoch."""

    def __init__(self) -> None:
        self.value, self.count = 0.0, 0

    def add(self, value: float) -> None:
        self.count += 1
        self.value += (value - self.value) / self.count


def _order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(count))


@torch.inference_mode()
def _accuracy(model: nn.Module, normalize: Normalize, data: ImageSet, batch_size: int = 512) -> float:
    model.eval()
    device = normalize.scale.device
    correct = 0
    for start in range(0, len(data), batch_size):
        images = torch.from_numpy(data.images[start : start + batch_size]).to(device)
        logits, _ = model(normalize(images))
        correct += int((logits.argmax(1).cpu().numpy() == data.labels[start : start + batch_size]).sum())
    return correct / len(data)


def _bf16(config: Config, device: torch.device) -> bool:
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported


def _momentum(model: nn.Module, optimizer: torch.optim.SGD) -> dict[str, Tensor]:
    named = {name: optimizer.state[parameter] for name, parameter in model.named_parameters()}
    return {name: state["momentum_buffer"] for name, state in named.items() if "momentum_buffer" in state}


def _restore(resume: Checkpoint, header: Header, model: nn.Module, optimizer: torch.optim.SGD) -> None:
    found = resume.header
    for name in ("arch", "labels", "input", "method", "hyperparameters"):
        ours, theirs = (dataclasses.asdict(h)[name] for h in (header, found))
        if _plain(ours) != _plain(theirs):
            raise CheckpointError(f"can't resume: {name} was {theirs}, now {ours}; train into another --out")
    model.load_state_dict(resume.weights)
    for name, parameter in model.named_parameters():
        if name in resume.optimizer:
            optimizer.state[parameter]["momentum_buffer"] = resume.optimizer[name].to(parameter)


def _plain(value: object) -> object:
    """Tuples as lists, as JSON has it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


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
