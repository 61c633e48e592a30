"""The options of fine-tuning and augmentation."""

from __future__ import annotations

import argparse

from train import augment
from train.config import ALL_BUT_HEAD, Config


def add_tuning_options(parser: argparse.ArgumentParser, defaults: Config) -> None:
    """Add the options whose names are those of :class:`train.config.Config`, with its defaults."""
    images = parser.add_argument_group("augmentation and labels")
    images.add_argument(
        "--augment", metavar="NAME", default=defaults.augment, help=f"{augment.CHOICES} (default: %(default)s)"
    )
    images.add_argument(
        "--mixup",
        type=float,
        metavar="ALPHA",
        default=defaults.mixup,
        help="images mixed in pairs by a share of Beta(ALPHA, ALPHA), their labels likewise: 0.2 is usual. Losses of labels, "
        "those of logitnorm and bce among them, learn the mixed ones; energy and gradient losses take mixed images for known "
        "ones (default: off)",
    )
    images.add_argument(
        "--label-smoothing",
        type=float,
        metavar="E",
        default=defaults.label_smoothing,
        help="(1 - E) y + E / K is learned in place of y; of several labels an image (1 - E) y + E / 2 (default: off)",
    )
    tuning = parser.add_argument_group("fine-tuning")
    tuning.add_argument(
        "--freeze",
        metavar=f"N|{ALL_BUT_HEAD}",
        default=defaults.freeze,
        help="leave the first N stages as they are, batch statistics included, or all but the last layer: stages are the "
        "blocks of the network in the order of the forward pass, and what stands in front of and behind them (default: none)",
    )
    tuning.add_argument(
        "--backbone-rate",
        type=float,
        metavar="FACTOR",
        default=defaults.backbone_rate,
        help="of the learning rate, for all but the last layer: 0.1 is usual (default: %(default)s)",
    )
    tuning.add_argument(
        "--layer-decay",
        type=float,
        metavar="FACTOR",
        default=defaults.layer_decay,
        help="by which the rate of each stage falls behind that of the next: 0.75 is usual (default: %(default)s)",
    )
    tuning.add_argument(
        "--ema",
        type=float,
        metavar="DECAY",
        default=defaults.ema,
        help="keep an exponential moving average of the weights, by which the network is evaluated and exported: 0.999 "
        "(default: off)",
    )
