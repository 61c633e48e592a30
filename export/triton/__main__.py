"""``python -m export.triton BUNDLE REPOSITORY``: a bundle as models of Triton Inference Server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from export.exceptions import ExportError
from export.triton import repository
from export.triton.config import Config, Kind, Scheduling
from runtime.bundle import Bundle
from runtime.command import prog, run
from runtime.gate import load_engine

_EPILOG = """\
Example: %(prog)s bundles/cifar10 models; tritonserver --model-repository=models

The models are NAME, which answers as /v2/models/NAME of oodgate serve does; NAME_threshold, with the thresholds as optional
inputs; NAME_tensorrt, where the bundle has an engine of TensorRT; and with --python-frontend NAME_files, which takes image
files. All take pixels at the model's size but the last. docs/triton.md has a client."""


def _parser() -> argparse.ArgumentParser:
    default = Scheduling()
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Write a bundle into a model repository of Triton Inference Server.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="directory of a calibrated bundle")
    parser.add_argument("repository", type=Path, metavar="REPOSITORY", help="directory for models; others there stay")
    parser.add_argument(
        "--max-batch", type=int, default=default.batch, metavar="IMAGES", help="of a batch (default: %(default)s)"
    )
    parser.add_argument(
        "--queue-delay",
        type=int,
        default=default.delay,
        metavar="MICROSECONDS",
        help="that a batch waits for more images; 0 takes what is waiting (default: %(default)s)",
    )
    parser.add_argument(
        "--instances", type=int, default=default.instances, help="of each model, on each GPU (default: %(default)s)"
    )
    parser.add_argument(
        "--kind",
        choices=get_args(Kind),
        default=default.kind,
        help="where ONNX Runtime's instances are (default: on GPUs where there are any)",
    )
    parser.add_argument(
        "--python-frontend",
        action="store_true",
        help="also a model that takes image files; Triton's Python needs oodgate",
    )
    return parser


def _scheduling(args: argparse.Namespace) -> Scheduling:
    for option, value, least in (
        ("--max-batch", args.max_batch, 1),
        ("--queue-delay", args.queue_delay, 0),
        ("--instances", args.instances, 1),
    ):
        if value < least:
            raise ExportError(f"{option}: expected at least {least}, found {value}")
    return Scheduling(args.max_batch, args.queue_delay, args.instances, args.kind)


def _describe(repository: Path, config: Config) -> str:
    batch = config.scheduling.batch
    takes = f"batches of up to {batch}" if batch else "each request by itself"
    optional = [tensor.name for tensor in config.inputs if tensor.optional]
    return f"{repository / config.name}: {config.backend}, {takes}" + (
        f", optional inputs {', '.join(optional)}" if optional else ""
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    scheduling = _scheduling(args)
    bundle = Bundle.load(args.bundle)
    bundle.check_graph(load_engine(bundle, threads=1).signature)
    models = repository.models(bundle, scheduling, files=args.python_frontend)
    repository.write(models, args.repository)
    for model in models:
        print(_describe(args.repository, model.config))
    for name, spec in bundle.manifest.engines.items():
        if reason := repository.unusable(spec):
            print(f"note: {name} is left out: {reason}")
    return 0


if __name__ == "__main__":
    run(main)
