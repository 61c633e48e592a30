"""One optimizer step: network, optimizer, method and the images they are fed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from runtime.manifest import InputSpec
from train import methods, models
from train.augment import DEFAULT, parse, views
from train.checkpoint import Checkpoint, testify
from train.config import Config, learning_rate
from train.data import ImageSet
from train.distributed import World
from train.exceptions import CheckpointError, TrainingError
from train.loop import optimizer
from train.loop.averaging import Average
from train.loop.feed import Fed, Feed, Part, seed_of
from train.loop.groups import Groups
from train.loop.recorded import Recorded
from train.loop.targets import mixed, smoothed
from train.methods import Batch, Step
from train.metrics import mean_average_precision
from train.models import Origin, Start
from train.normalize import Normalize

_FITTED = 5000  # training images that a network may take statistics from


class Trainer:
    """What a step needs, on its device.

    Attributes:
        config: the settings.
        method: what the loss is.
        model: the network being trained.
        feed: the images of each step.

    Args:
        config, spec, data, outliers, init, world, network, cuda_graph: as :func:`train.loop.train` takes them.

    Raises:
        TrainingError: unusable settings.
        CheckpointError: `init` is another network.
    """

    def __init__(
        self,
        config: Config,
        spec: InputSpec,
        data: ImageSet,
        outliers: ImageSet | None,
        init: Checkpoint | None,
        world: World,
        network: Start | Origin | None = None,
        cuda_graph: bool = False,
    ) -> None:
        self.config, self._world = config, world
        self.method = methods.make(config.method, config.method_options)
        if self.method.task != "unlabelled" and data.task != self.method.task:
            raise TrainingError(
                f"method {config.method!r} is for {self.method.task} images, found {data.task} ones; "
                "several labels an image come from a labels.csv, one from a folder for each class"
            )
        self._check_labels()
        self.feed = Feed(config, self.method, data, outliers, world.rank, world.size)
        torch.manual_seed(config.seed)
        self.model = models.make(config.arch, 0 if self.method.task == "unlabelled" else len(data.classes), network)
        if init:
            _start_from(init, self.model, config.arch, () if self.method.task == "unlabelled" else data.classes)
        self._spec, self._normalize = spec, Normalize(spec).to(world.device)
        self._order = torch.channels_last  # of images and weights in memory
        if not init:
            models.fit(self.model, partial(self._some, data, _FITTED))
        if config.dropout is not None:
            models.set_dropout(self.model, config.dropout)
        self._groups = Groups.of(config, self.model, spec.height, spec.width)
        self._groups.freeze()
        self.method.prepare(self.model, (spec.height, spec.width))
        self.model.to(world.device, memory_format=self._order)  # type: ignore[call-overload]  # not in the stubs
        self._autocast = torch.autocast(world.device.type, torch.bfloat16, enabled=_bf16(config, world.device))
        self._check_size(data)
        some = self._some(data, 2)
        with self._autocast:
            self._notes = self.method.examine(self.model, some)
        self._optimizer = optimizer.make(config, self._groups.parameters(self.model), world.device)
        self._average = Average(self.model, config.ema) if config.ema else None
        self._augmentation, self._classes = parse(config.augment), len(data.classes)
        self._shared = world.share(self.model, some)
        self._passes = self._recorded() if cuda_graph else self._forward_and_backward

    def _recorded(self) -> Recorded:
        if self._world.size > 1 or not self.method.recordable:
            why = "several processes" if self._world.size > 1 else f"method {self.config.method!r}, whose steps draw"
            raise TrainingError(f"--cuda-graph can't record the steps of {why}; leave it out")
        return Recorded(self._forward_and_backward, self.model)

    def _forward_and_backward(self, batch: Batch) -> Step:
        """What the method makes of a batch; the weights' gradients are those of its loss."""
        with self._autocast:
            result = self.method.step(self._shared, batch)
        self._optimizer.zero_grad()
        result.loss.backward()  # type: ignore[no-untyped-call]
        terms, figures = (
            {name: value.detach() for name, value in own.items()} for own in (result.terms, result.figures)
        )
        return Step(terms, result.logits.detach(), figures)

    @torch.no_grad()
    def _check_size(self, data: ImageSet) -> None:
        """Find the order in memory that the network takes images in.

        Raises:
            TrainingError: it takes none of this size.
        """
        mode = self.model.training
        try:
            try:
                self.model.eval()(self._some(data, 2))
            except RuntimeError as error:
                if "view" not in str(error):
                    raise
                self._order = torch.contiguous_format  # it takes images apart by view
                self.model.to(memory_format=self._order)  # type: ignore[call-overload]  # not in the stubs
                self.model(self._some(data, 2))
        except (RuntimeError, ValueError) as error:
            size, why = "x".join(map(str, data.images.shape[1:3])), " ".join(str(error).split())[:200]
            raise TrainingError(f"--arch {self.config.arch} takes no images of {size} pixels: {why}; --size") from error
        self.model.train(mode)

    def _input(self, images: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) -> normalised (B, 3, H, W), on the device."""
        normalized: Tensor = self._normalize(images.to(self._world.device, non_blocking=True))
        return normalized.contiguous(memory_format=self._order)

    def _check_labels(self) -> None:
        """Raises TrainingError for what means nothing without labels."""
        if self.method.task != "unlabelled":
            return
        config = self.config
        for name, found, off in (
            ("label-smoothing", config.label_smoothing, 0),
            ("mixup", config.mixup, 0),
            ("augment", config.augment, DEFAULT),
            ("padding", config.padding, Config.padding),
            ("flip", config.flip, Config.flip),
        ):
            if found != off:
                changes_labels = name in ("label-smoothing", "mixup")
                reason = "has no labels, which it would change" if changes_labels else "makes views of its own"
                raise TrainingError(f"--{name} {found}: method {config.method!r} {reason}")

    def step(self, step: int, fed: Fed, stop: Callable[[], bool] = lambda: False) -> tuple[dict[str, float], bool]:
        """One optimizer step.

        Args:
            step: its number, from 0.
            fed: its images.
            stop: says whether this process wants to stop after it.

        Returns:
            loss, accuracy, the loss's terms where it has several, and the method's figures, each the mean over all
            processes; and whether any of these wants to stop.

        Raises:
            TrainingError: a term that is not finite; the weights are those before the step.
        """
        seed = seed_of(self.config.seed, step, self._world.rank)
        for draw in (torch.manual_seed, random.seed, np.random.seed):  # dropout, and what a network draws by itself
            draw(seed)
        self._shared.train()
        batch = self._batch(fed, seed)
        result = self._passes(batch)
        labels = batch.labels if self.method.task == "unlabelled" else fed.known.labels.to(self._world.device)
        correct = self._share_correct(result.logits, labels)
        told = torch.stack([value.float() for value in (*result.terms.values(), *result.figures.values())]).tolist()
        *values, correct, stopping = self._world.mean([*told, correct, float(stop())])
        terms = dict(zip(result.terms, values, strict=False))
        figures = dict(zip(result.figures, values[len(terms) :], strict=True))
        for name, value in terms.items():
            if not math.isfinite(value):
                raise TrainingError(f"the loss is not finite at step {step}: {name} is {value}; lower --learning-rate")
        for group in self._optimizer.param_groups:
            group["lr"] = group["factor"] * learning_rate(step / self.feed.steps_per_epoch, self.config)
        self._optimizer.step()
        if self._average:
            self._average.follow(self.model, step)
        shown = terms if len(terms) > 1 else {}
        return {"loss": sum(terms.values()), "accuracy": correct, **shown, **figures}, stopping > 0

    @property
    def figure(self) -> str:
        """What :meth:`evaluate` measures."""
        return {"multiclass": "accuracy", "multilabel": "map", "unlabelled": "match"}[self.method.task]

    @property
    def told(self) -> tuple[str, ...]:
        """What is frozen, how fast what else learns where that is not all alike, and what the method says of the network."""
        return *self._groups.told(self.model), *self._notes

    @property
    def evaluated(self) -> nn.Module:
        """The network, or the one of averaged weights."""
        return self._average.model if self._average else self.model

    def settle(self) -> None:
        """Bring what the method added up to date, before the network is evaluated and saved."""
        for model in dict.fromkeys((self.model, self.evaluated)):
            self.method.settle(model)

    @torch.inference_mode()
    def evaluate(self, data: ImageSet, batch_size: int = 512) -> float:
        """Accuracy, or for several labels an image mean average precision, in evaluation mode without augmentation.

        Without labels the share of images of which, among the second views of up to `batch_size` images, its own is nearest.
        """
        model = self.evaluated.eval()
        if self.method.task == "unlabelled":
            return self._match(data, batch_size)
        logits = [
            model(self._input(torch.from_numpy(images)))[0].float().cpu() for images, _ in data.batches(batch_size)
        ]
        found = torch.cat(logits).numpy()
        if self.method.task == "multiclass":
            return float((found.argmax(axis=1) == data.labels).mean())
        return mean_average_precision(found, data.labels)

    def testify(self) -> tuple[float, ...]:
        """By what a checkpoint's network is known again."""
        return testify(self.evaluated, self._spec)

    def _match(self, data: ImageSet, batch_size: int) -> float:
        right = 0
        for number, (images, _) in enumerate(data.batches(batch_size)):
            batch = self._views(torch.from_numpy(images), seed_of(self.config.seed, number))
            first, second = (self.evaluated(view)[0].float() for view in (batch.images, batch.views))
            right += int(((first @ second.T).argmax(dim=1).cpu() == torch.arange(len(images))).sum())
        return right / len(data)

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """What a checkpoint keeps: weights, the optimizer's state, and where the weights are averaged those that learn."""
        learning = self.model.state_dict() if self._average else {}
        return self.evaluated.state_dict(), optimizer.state_of(self._optimizer, self.model), learning

    def restore(self, resume: Checkpoint) -> None:
        """Go on with the weights and the optimizer's state of a checkpoint.

        Raises:
            CheckpointError: they don't fit.
        """
        resume.load_into(self.model, learning=True)
        if self._average:
            resume.load_into(self._average.model)
        resume.header.check(self.evaluated)
        optimizer.restore(self._optimizer, self.model, resume)

    def _batch(self, fed: Fed, seed: int) -> Batch:
        if self.method.task == "unlabelled":
            return self._views(fed.known.images, seed)
        images = self._images(fed.known, seed_of(seed, 1))
        outliers = self._images(fed.outliers, seed_of(seed, 2)) if fed.outliers else images[:0]
        labels = fed.known.labels.to(self._world.device)
        if self.config.label_smoothing or self.config.mixup:
            labels = smoothed(labels, self._classes, self.config.label_smoothing)
        if self.config.mixup:
            images, labels = mixed(images, labels, self.config.mixup, seed_of(seed, 3))
        return Batch(images, labels, outliers, seed)

    def _views(self, images: Tensor, seed: int) -> Batch:
        """Two views of each image, of which the second is the first one's label: it stands first among the logits."""
        generator, images = torch.Generator().manual_seed(seed), images.to(self._world.device, non_blocking=True)
        turned = bool(self.config.method_options.get("rotations", 0))
        first, second = (self._input(view) for view in views(images, generator, rotations=turned))
        labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        return Batch(first, labels, first[:0], seed, second)

    def _some(self, data: ImageSet, count: int) -> Tensor:
        """Images evenly apart, normalised."""
        chosen = np.linspace(0, len(data) - 1, min(count, len(data))).astype(np.intp)
        return self._input(torch.from_numpy(data.images[chosen]))

    def _images(self, part: Part, seed: int) -> Tensor:
        images = part.images.to(self._world.device, non_blocking=True)
        return self._input(self._augmentation.apply(images, part.crops, seed))

    def _share_correct(self, logits: Tensor, labels: Tensor) -> float:
        """Of the images, or for several labels an image of all labels, those predicted right."""
        right = (logits > 0) == (labels > 0) if self.method.task == "multilabel" else logits.argmax(1) == labels
        return right.float().mean().item()


def _start_from(init: Checkpoint, model: nn.Module, arch: str, classes: tuple[str, ...]) -> None:
    if init.header.arch != arch or init.header.labels != classes:
        raise CheckpointError(
            f"can't start from a {init.header.arch} with labels {list(init.header.labels)}; "
            f"expected a {arch} with {list(classes)}"
        )
    model.load_state_dict(init.model().state_dict())


def _bf16(config: Config, device: torch.device) -> bool:
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported
