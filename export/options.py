"""The options that say which classifier to export, and what it was trained with where its files don't say it."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import get_args

from export.exceptions import ExportError, as_export_errors
from runtime.manifest import Channels, Task
from train.data.labels.class_names import read_class_names
from train.descriptions.description import Description
from train.descriptions.options import add_input_options, said_of_input

EXAMPLES = """\
Example: %(prog)s --checkpoint runs/first/checkpoint.safetensors --calibration val.tar@1/2 --out bundles/first

What says itself how it was trained needs nothing else:
  %(prog)s --checkpoint vit-finetuned/ --calibration photos/ --out bundles/vit         (transformers, or timm's hub)
  %(prog)s --checkpoint output/train/model_best.pth.tar --labels names.txt ...        (timm's train.py, torchvision's)
  %(prog)s --model torchvision:resnet50:IMAGENET1K_V2 --calibration photos/ --out bundles/resnet50
  %(prog)s --model timm:resnet18.a1_in1k --checkpoint tuned.pth --labels names.txt ...

A network of your own takes its weights from any checkpoint, Lightning's too, and says the rest by options:
  %(prog)s --model 'models.py:build(num_classes=10)' --checkpoint best.ckpt --labels names.txt --size 224 \\
      --resize-to 256 --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 --calibration photos/ --out bundles/mine
  (so do TorchScript's .pt and torch.export's .pt2, without --model)
"""


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what says where the classifier comes from, and what :func:`given` reads."""
    origin = parser.add_argument_group("the classifier")
    origin.add_argument(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="of python -m train; a directory of transformers or timm; TorchScript, .pt2; or weights, with --model",
    )
    origin.add_argument(
        "--model",
        metavar="HOW",
        help="builds the network: torchvision:NAME[:WEIGHTS], timm:NAME, package.module:factory or file.py:factory, the "
        "latter two with literal arguments if any: 'resnet18(num_classes=10)'",
    )
    origin.add_argument("--ema", action="store_true", help="of a checkpoint's weights those averaged over training")
    origin.add_argument("--key", metavar="NAME", help="of a checkpoint's entries or prefixes this one")
    origin.add_argument(
        "--trust",
        action="store_true",
        help="run code that is in the checkpoint: a pickled model, a directory's own classes",
    )

    trained = parser.add_argument_group("how it was trained, where its files don't say it, or say it wrong")
    trained.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names in the logits' order: a line each, JSON (id2label, a list) or index,name",
    )
    trained.add_argument("--task", choices=get_args(Task), help="default: what its files say, else multiclass")
    trained.add_argument("--size", metavar="SIDE|HxW", help="the input's size in pixels")
    add_input_options(trained)
    trained.add_argument(
        "--channels", choices=get_args(Channels), help="that the network takes (default: found by trying)"
    )


@as_export_errors()
def given(args: argparse.Namespace) -> Description:
    """What the user says of the classifier.

    Raises:
        ExportError: a size or label file that is none.
    """
    try:
        height, _, width = (args.size or "").partition("x")
        size = (int(height), int(width or height)) if args.size else None
    except ValueError as error:
        raise ExportError(f"the options of --model: {error}") from error
    return dataclasses.replace(
        said_of_input(args),
        labels=read_class_names(args.labels) if args.labels else None,
        task=args.task,
        size=size,
        channels=args.channels,
    )
