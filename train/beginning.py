"""What a run starts from: nothing, a checkpoint of ours, or a network of others with its weights; and its input."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from runtime.manifest import InputSpec
from train import checkpoint, models, preprocessing
from train.checkpoint import KEY, Checkpoint, Header
from train.config import Config
from train.data import Images
from train.descriptions.description import Description
from train.descriptions.options import said_of_input
from train.exceptions import TrainingError
from train.models import Origin, Start
from train.models.foreign import PRETRAINED
from train.weights import files


@dataclass(frozen=True)
class Beginning:
    """What a run starts from.

    Attributes:
        size: how images are brought to the input's size; normalised where `own` is not set.
        own: whether the training images' statistics normalise, as far as `given` does not.
        given: what the options say of the input.
        init: a checkpoint of ours.
        network: of others, or what builds it again.
        source: what it is, for the checkpoint's header.
        projected: whether it gets a projection head.
    """

    size: InputSpec
    own: bool
    given: Description
    init: Checkpoint | None = None
    network: Start | Origin | None = None
    source: dict[str, Any] | None = None
    projected: bool = False

    def input(self, images: Images, source: str) -> InputSpec:
        """The input, by the training images where nothing else says how they are normalised.

        Raises:
            DataError: they can't be normalised.
        """
        return preprocessing.normalised(self.size, self.given, images, source) if self.own else self.size

    def told(self, spec: InputSpec, num_classes: int) -> tuple[str, ...]:
        """Lines on a network of others and its input; none for our own."""
        if not isinstance(self.network, Start):
            return ()
        told = self.network.told(num_classes, projected=self.projected)
        return (*told, f"input: {preprocessing.describe(spec)}")


def begin(config: Config, args: argparse.Namespace, resume: Checkpoint | None) -> Beginning:
    """What the options say that a run starts from; weights are not read again by one that is resumed.

    Raises:
        TrainingError: options that don't go together.
        CheckpointError, ModelError: what is to start from can't be read, or does not fit.
    """
    if args.size is not None and args.size < 1:
        raise TrainingError(f"--size must be at least 1, found {args.size}")
    given, foreign = said_of_input(args), models.is_foreign(config.arch)
    ours = bool(args.init) and _is_ours(Path(args.init))
    if args.init and not ours and not foreign and (args.init == PRETRAINED or Path(args.init).is_file()):
        raise TrainingError(
            f"--init {args.init}: --arch {config.arch} starts from a checkpoint of `train`; weights of others go with what "
            "builds their network, as timm:NAME, torchvision:NAME or file.py:factory"
        )
    init = checkpoint.load(Path(args.init)) if args.init and (ours or not foreign) else None
    if args.key and (init or not args.init):
        raise TrainingError(f"--key {args.key} goes with a file of weights of others: --init FILE")
    if init:
        size = preprocessing.of_checkpoint(init, given, args.size)
        return Beginning(size, False, given, init, init.header.origin, _source(Path(args.init), init.header))
    if resume and (resume.header.origin or "init" in resume.header.sources):
        before = preprocessing.scaled(Description.of_input(resume.header.input), args.size)
        size = preprocessing.whole(given.over(before))
        named = _of_file(Path(args.init)) if args.init and args.init != PRETRAINED else None
        return Beginning(size, False, given, None, resume.header.origin, named)
    if not foreign:
        return Beginning(preprocessing.of_images(given, args.size), True, given)
    torch.manual_seed(config.seed)  # of weights that are drawn
    size = preprocessing.of_images(given, args.size)
    wanted = (args.size, args.size) if args.size else None
    start = models.start(config.arch, args.init, args.key, wanted, (size.height, size.width))
    known = preprocessing.of_network(start, given, args.size)
    source = {"weights": start.built.pretrained} if start.built.pretrained else None
    if args.init and args.init != PRETRAINED:
        source = _of_file(Path(args.init))
    return Beginning(known or size, known is None, given, None, start, source, models.split(config.arch)[1])


def _of_file(path: Path) -> dict[str, Any]:
    """Weights of others by the name of their file, and its bytes where it is one."""
    file = files.chosen(path)
    named = {"weights": file.name}
    return named | {"sha256": _digest(file)} if file.is_file() else named


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _source(path: Path, before: Header) -> dict[str, Any]:
    return {
        "sha256": _digest(path),
        "method": before.method,
        "epochs": before.metrics.get("epoch", 0),
        "sources": before.sources,
    }


def _is_ours(path: Path) -> bool:
    """Whether a file is a checkpoint of ``python -m train``."""
    try:
        with safe_open(path, framework="pt") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False
