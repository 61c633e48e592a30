"""The options whose names are those of :class:`train.config.Config`, with its defaults, by what they set."""

from __future__ import annotations

import argparse
from typing import get_args

from train import augment
from train.config import ALL_BUT_HEAD, Config, Flip, Optimizer, Precision, Schedule

Group = argparse._ArgumentGroup  # argparse has no public name for it


def add_optimization_options(group: Group, defaults: Config) -> None:
    """How the weights descend, and how fast."""
    group.add_argument("--batch-size", type=int, default=defaults.batch_size, help="of a process; default: %(default)s")
    group.add_argument(
        "--optimizer", choices=get_args(Optimizer), default=defaults.optimizer, help="default: %(default)s"
    )
    group.add_argument("--learning-rate", type=float, default=defaults.learning_rate, help="default: %(default)s")
    group.add_argument("--momentum", type=float, default=defaults.momentum, help="default: %(default)s")
    group.add_argument(
        "--nesterov",
        action=argparse.BooleanOptionalAction,
        default=defaults.nesterov,
        help="of SGD's momentum; default: yes",
    )
    group.add_argument("--weight-decay", type=float, default=defaults.weight_decay, help="default: %(default)s")
    group.add_argument(
        "--warmup",
        metavar="EPOCHS",
        default=defaults.warmup,
        help="of linear increase, or a share of the run such as 23%%; default: %(default)s",
    )
    group.add_argument("--schedule", choices=get_args(Schedule), default=defaults.schedule, help="default: %(default)s")
    group.add_argument(
        "--milestones",
        type=float,
        nargs="+",
        default=defaults.milestones,
        metavar="SHARE",
        help="of the run, after each of which the multistep schedule divides the rate by 10; default: %(default)s",
    )
    group.add_argument(
        "--dropout", type=float, metavar="SHARE", help="of the dropout layers (default: the network's own)"
    )
    group.add_argument(
        "--ema",
        type=float,
        metavar="DECAY",
        default=defaults.ema,
        help="keep an exponential moving average of the weights, by which the network is evaluated and exported: 0.999 "
        "(default: off)",
    )
    group.add_argument(
        "--precision", choices=get_args(Precision), default=defaults.precision, help="default: %(default)s"
    )
    group.add_argument(
        "--cuda-graph",
        action="store_true",
        help="on a GPU, record the first step and replay it with the images of the others: faster where kernels are short, "
        "as those of a small network; not for greg+ and moco (default: off)",
    )
    group.add_argument("--seed", type=int, default=defaults.seed, help="default: %(default)s")


def add_image_options(group: Group, defaults: Config) -> None:
    """How images and labels are changed before they are learned."""
    group.add_argument(
        "--padding",
        type=int,
        default=defaults.padding,
        help="pixels around an image to crop it from; default: %(default)s",
    )
    group.add_argument(
        "--flip",
        choices=get_args(Flip),
        default=defaults.flip,
        help="alternating: every other epoch; default: %(default)s",
    )
    group.add_argument(
        "--augment", metavar="NAME", default=defaults.augment, help=f"{augment.CHOICES} (default: %(default)s)"
    )
    group.add_argument(
        "--mixup",
        type=float,
        metavar="ALPHA",
        default=defaults.mixup,
        help="images mixed in pairs by a share of Beta(ALPHA, ALPHA), their labels likewise: 0.2 is usual. Losses of labels, "
        "those of logitnorm and bce among them, learn the mixed ones; energy and gradient losses take mixed images for known "
        "ones (default: off)",
    )
    group.add_argument(
        "--label-smoothing",
        type=float,
        metavar="E",
        default=defaults.label_smoothing,
        help="(1 - E) y + E / K is learned in place of y; of several labels an image (1 - E) y + E / 2 (default: off)",
    )


def add_tuning_options(group: Group, defaults: Config) -> None:
    """What of a network that knows something already learns, and how fast."""
    group.add_argument(
        "--freeze",
        metavar=f"N|{ALL_BUT_HEAD}",
        default=defaults.freeze,
        help="leave the first N stages as they are, batch statistics included, or all but the last layer: stages are the "
        "blocks of the network in the order of the forward pass, and what stands in front of and behind them (default: none)",
    )
    group.add_argument(
        "--backbone-rate",
        type=float,
        metavar="FACTOR",
        default=defaults.backbone_rate,
        help="of the learning rate, for all but the last layer: 0.1 is usual (default: %(default)s)",
    )
    group.add_argument(
        "--layer-decay",
        type=float,
        metavar="FACTOR",
        default=defaults.layer_decay,
        help="by which the rate of each stage falls behind that of the next: 0.75 is usual (default: %(default)s)",
    )
