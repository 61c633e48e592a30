"""The settings of one training run, and the learning rate that they make."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from train.augment import DEFAULT, parse
from train.exceptions import TrainingError

Optimizer = Literal["sgd", "adam"]
Schedule = Literal["cosine", "multistep", "onecycle"]
Flip = Literal["random", "alternating"]
Precision = Literal["auto", "bf16", "fp32"]

ALL_BUT_HEAD = "all-but-head"


@dataclass(frozen=True)
class Config:
    """What decides the weights: the same settings, data and machine give the same run.

    The optimizer's defaults are those of the papers' CIFAR experiments (logitnorm, section 4.1).
    """

    method: str
    arch: str
    epochs: int
    method_options: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 128  # of one process
    optimizer: Optimizer = "sgd"  # or Adam with betas (momentum, 0.999)
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True  # of SGD; ours, and that of the code of OE, Energy and GReg
    weight_decay: float = 5e-4
    warmup: float = 1.0  # epochs of linear increase; LogitNorm's 1 / tau makes the first full steps destructive
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = (0.4, 0.7)  # of the run: epochs 80 and 140 of 200, each divides the rate by 10
    dropout: float | None = None  # of every dropout layer; None for what the architecture has, 0.3 for wrn-40-2
    padding: int = 4  # pixels of zeros around an image, out of which it is cropped
    flip: Flip = "random"  # or each image mirrored every other epoch
    precision: Precision = "auto"
    augment: str = DEFAULT
    label_smoothing: float = 0.0
    mixup: float = 0.0  # alpha of Beta(alpha, alpha); 0.2 is usual on photographs
    ema: float = 0.0  # decay of the weights' average; 0 for none, 0.999 for a run of some thousand steps
    freeze: str = ""  # how many stages, from the first, or "all-but-head"
    backbone_rate: float = 1.0  # of the head's learning rate
    layer_decay: float = 1.0  # by which the rate falls from stage to stage towards the input; 0.75 is BEiT's
    seed: int = 0

    def __post_init__(self) -> None:
        for holds, problem in (
            (self.epochs >= 1, f"epochs must be at least 1, found {self.epochs}"),
            (self.batch_size >= 1, f"batch size must be at least 1, found {self.batch_size}"),
            (self.learning_rate > 0, f"learning rate must be positive, found {self.learning_rate}"),
            (
                self.momentum > 0 or not self.nesterov or self.optimizer != "sgd",
                "Nesterov's momentum needs some; give --no-nesterov with --momentum 0",
            ),
            (
                self.dropout is None or 0 <= self.dropout < 1,
                f"dropout must be in [0, 1), found {self.dropout}",
            ),
            (self.weight_decay >= 0, f"weight decay must not be negative, found {self.weight_decay}"),
            (self.warmup >= 0, f"warmup must not be negative, found {self.warmup}"),
            (0 <= self.momentum < 1, f"momentum must be in [0, 1), found {self.momentum}"),
            (self.padding >= 0, f"padding must not be negative, found {self.padding}"),
            (all(0 < share < 1 for share in self.milestones), f"milestones must be in (0, 1), found {self.milestones}"),
            (math.isfinite(self.learning_rate + self.weight_decay + self.warmup), "rates must be finite"),
            (0 <= self.label_smoothing < 1, f"label smoothing must be in [0, 1), found {self.label_smoothing}"),
            (0 <= self.mixup < math.inf, f"mixup's alpha must not be negative, found {self.mixup}"),
            (0 <= self.ema < 1, f"ema must be in [0, 1), found {self.ema}"),
            (_freezes(self.freeze), f"freeze must be a number of stages or {ALL_BUT_HEAD}, found {self.freeze!r}"),
            (0 < self.backbone_rate <= 1, f"backbone rate must be in (0, 1], found {self.backbone_rate}"),
            (0 < self.layer_decay <= 1, f"layer decay must be in (0, 1], found {self.layer_decay}"),
            (0 <= self.seed < 2**31, f"seed must be from 0 to {2**31 - 1}, found {self.seed}"),
        ):
            if not holds:
                raise TrainingError(problem)
        if not parse(self.augment).crops and (self.padding, self.flip) != (Config.padding, Config.flip):
            raise TrainingError(
                f"--padding {self.padding} and --flip {self.flip} are of crop-flip, which --augment {self.augment} takes the "
                f"place of; give --padding {Config.padding} --flip {Config.flip}"
            )


def _freezes(freeze: str) -> bool:
    return freeze in ("", ALL_BUT_HEAD) or (freeze.isascii() and freeze.isdecimal())


def learning_rate(epoch: float, config: Config) -> float:
    """The rate at a fractional epoch: a linear warm-up, times half a cosine or a tenth after each milestone; in one cycle
    a line down to zero after it."""
    progress = epoch / config.epochs
    if config.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * progress))
    elif config.schedule == "onecycle":
        factor = min(1.0, (config.epochs - epoch) / max(config.epochs - config.warmup, 1e-9))
    else:
        factor = 0.1 ** sum(progress >= milestone for milestone in config.milestones)
    warmup = min(1.0, epoch / config.warmup) if config.warmup else 1.0
    return config.learning_rate * factor * warmup
