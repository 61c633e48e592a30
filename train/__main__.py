"""``python -m train``: train a classifier and leave a checkpoint that ``python -m export`` takes."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.command import prog, run
from train import checkpoint, methods, models
from train.beginning import Beginning, begin
from train.checkpoint import Checkpoint, Header
from train.config import Config
from train.data import Reading, add_reading_options, check, concatenate, load, read, short_name
from train.data.loading import renamed
from train.descriptions.options import add_input_options
from train.distributed import World, join
from train.exceptions import TrainingError
from train.loop import CHECKPOINT, train
from train.options import add_image_options, add_optimization_options, add_tuning_options
from train.recipes import RECIPES


def _parser() -> argparse.ArgumentParser:
    defaults = Config(method="", arch="", epochs=1)
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Train an image classifier, or with --method moco an extractor of features that needs no labels. "
        "SOURCE is labelled images, for moco any: one folder a class, a labels.csv where images have several labels, and all "
        "that is said below. SOURCE@1/2 is a random half of each class, always the same, SOURCE@2/2 the rest.",
        epilog="Example: %(prog)s --method logitnorm --arch resnet20 --data train.tar --val val.tar@1/2 "
        "--epochs 30 --out runs/first    Curves: tensorboard --logdir runs",
    )
    parser.add_argument("--recipe", help="a paper's settings, for every option not given: " + ", ".join(RECIPES))
    parser.add_argument("--method", help="one of: " + ", ".join(methods.METHODS))
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a hyperparameter of the method, such as tau=0.04; repeatable",
    )
    parser.add_argument("--arch", help=f"one of: {models.CHOICES}")
    parser.add_argument("--data", required=True, metavar="SOURCE", help="training images")
    parser.add_argument(
        "--val",
        required=True,
        metavar="SOURCE",
        help="images for the figure of each epoch: accuracy, mAP, or of moco how often views of an image find each other",
    )
    parser.add_argument("--aux", metavar="SOURCE", action="append", default=[], help="auxiliary outliers; repeatable")
    parser.add_argument(
        "--init",
        metavar="WEIGHTS",
        help="what to start from (fine-tuning): another run's checkpoint; for a network that timm, torchvision, hf or your "
        "code builds, a .pth, .pt or .safetensors file of its weights; or pretrained, for those that timm or torchvision has",
    )
    parser.add_argument("--key", metavar="NAME", help="of the entries or prefixes of --init's file this one")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="directory for checkpoint and curves")
    parser.add_argument(
        "--size", type=int, help="side of the input in pixels (default: as --init, or its library, has it, else 32)"
    )
    wanted = "how images become the input (default: as it was for the weights to start from, else own statistics)"
    add_input_options(parser.add_argument_group(wanted))
    add_optimization_options(parser.add_argument_group("optimization"), defaults)
    add_image_options(parser.add_argument_group("augmentation and labels"), defaults)
    add_tuning_options(parser.add_argument_group("fine-tuning"), defaults)
    add_reading_options(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    return parser


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, dict[str, float | str]]:
    """The options, those not given from the recipe, and the method's hyperparameters likewise."""
    parser = _parser()
    recipe = parser.parse_known_args(argv)[0].recipe
    if recipe is not None and recipe not in RECIPES:
        raise TrainingError(f"unknown recipe {recipe!r}; choose one of {', '.join(RECIPES)}")
    settings = dict(RECIPES[recipe]) if recipe else {}
    hyperparameters, init = settings.pop("set", {}), settings.pop("init", None)
    method = settings.get("method")
    parser.set_defaults(**settings)
    args = parser.parse_args(argv)
    for option in ("method", "arch", "epochs"):
        if getattr(args, option) is None:
            raise TrainingError(f"--{option} is missing; see python -m train --help")
    if args.init is None and args.arch == settings.get("arch"):  # the recipe's weights are of its own architecture
        args.init = init
    own = settings_of(args.set)
    return args, {**hyperparameters, **own} if args.method == method else own


def settings_of(pairs: Sequence[str]) -> dict[str, float | str]:
    """Of ``NAME=VALUE``, numbers where they are.

    Raises:
        TrainingError: another form.
    """
    options: dict[str, float | str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if not name or not value:
            raise TrainingError(f"--set {pair}: expected NAME=VALUE, such as tau=0.04")
        try:
            options[name] = float(value)
        except ValueError:
            options[name] = value
    return options


def main(argv: Sequence[str] | None = None) -> int:
    args, hyperparameters = _parse(argv)
    config = _config(args, hyperparameters)
    method = methods.make(config.method, config.method_options)  # a wrong name fails before the data are read
    if method.needs_outliers and not args.aux:
        raise TrainingError(f"method {args.method!r} learns from auxiliary outliers; give them by --aux SOURCE")
    if args.aux and not method.needs_outliers:
        raise TrainingError(f"method {args.method!r} makes no use of --aux")
    if not models.is_foreign(config.arch):
        models.make(config.arch, num_classes=0 if method.task == "unlabelled" else 2)
    path = args.out / CHECKPOINT
    resume = checkpoint.load(path) if args.resume and path.exists() else None
    beginning = begin(config, args, resume)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"--out {args.out}: can't be made a directory ({error.strerror})") from error
    with join() as world:
        return _train(args, config, beginning, resume, world)


def _config(args: argparse.Namespace, hyperparameters: dict[str, float | str]) -> Config:
    """The run's settings: each option that is one of them, and the method's own."""
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(Config) if field.name in args}
    given |= {"milestones": tuple(args.milestones), "warmup": _warmup(str(args.warmup), args.epochs)}
    return Config(**{**given, "method_options": hyperparameters})


def _warmup(text: str, epochs: int) -> float:
    """In epochs."""
    try:
        value = float(text.removesuffix("%"))
    except ValueError as error:
        raise TrainingError(f"--warmup {text}: expected epochs, or a share of the run such as 23%") from error
    return value * epochs / 100 if text.endswith("%") else value


def _train(
    args: argparse.Namespace, config: Config, beginning: Beginning, resume: Checkpoint | None, world: World
) -> int:
    for source in (args.data, args.val, *args.aux):
        check(source)
    reading, own = Reading.of(args), read if world.rank == 0 else load  # one process says what was read
    size, unlabelled = beginning.size, methods.METHODS[config.method].task == "unlabelled"
    data = own(args.data, size, reading=reading)
    if unlabelled:
        val = own(args.val, size, reading=reading)
    else:
        data.check_trainable(args.data)
        data = renamed(data, reading)
        val = own(args.val, size, reading=reading, labels=data.classes).with_classes(data.classes, args.val)
    outliers = concatenate([own(source, size, reading=reading.unlabelled) for source in args.aux]) if args.aux else None
    spec = beginning.input(data.images, args.data)
    if world.rank == 0:
        for line in beginning.told(spec, 0 if unlabelled else len(data.classes)):
            print(line)
    header = train(
        config,
        spec,
        data,
        val,
        args.out,
        outliers=outliers,
        init=beginning.init,
        resume=resume,
        network=beginning.network,
        world=world,
        sources=_sources(args, beginning),
        cuda_graph=args.cuda_graph,
    )
    steps = len(data) // (config.batch_size * world.size) * config.epochs
    return 0 if world.rank else _report(header, steps, args)


def _report(header: Header, steps: int, args: argparse.Namespace) -> int:
    """Say how far the run came, how well it does, and what comes next."""
    path = args.out / CHECKPOINT
    if header.step < steps:
        print(f"stopped at step {header.step} of {steps}, saved {path}; add --resume to go on")
        return 130
    figure = next(name for name in header.metrics if name.startswith("val_"))
    print(f"{path}: validation {figure.removeprefix('val_')} {header.metrics[figure]:.4f}")
    print(f"next: python -m export --checkpoint {path} --calibration {args.val} --out bundles/NAME")
    return 0


def _sources(args: argparse.Namespace, beginning: Beginning) -> dict[str, Any]:
    """What the run learns from, by name."""
    sources: dict[str, Any] = {"data": short_name(args.data), "val": short_name(args.val)}
    if args.aux:
        sources["aux"] = [short_name(source) for source in args.aux]
    return sources | ({"init": beginning.source} if beginning.source else {})


if __name__ == "__main__":
    run(main)
