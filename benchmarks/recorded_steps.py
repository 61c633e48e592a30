"""How long is a step on a GPU, as it is and recorded as a CUDA graph?

    python -m benchmarks.recorded_steps [--write]

The project's own training steps on images of noise: what is copied to the GPU, augmented, passed forward and backward, and
the optimizer's update. Medians of blocks of ten steps, those of both kinds in turns. --write makes
docs/measured/recorded_steps.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.paths import MEASURED
from export.report.table import layout
from runtime.command import run
from runtime.manifest import InputSpec
from train.config import Config
from train.data import ImageSet
from train.distributed import World
from train.exceptions import TrainingError
from train.loop.trainer import Trainer

_SIDE, _CLASSES, _IMAGES = 32, 10, 2048
_BLOCKS, _STEPS = 3, 10
_SETTINGS = {
    "cross-entropy, 128 images": Config("cross-entropy", "", 1),
    "energy, 64 and 64": Config("energy", "", 1, batch_size=64),
    "greg, 64 and 64": Config("greg", "", 1, batch_size=64),
    "greg in fp32, 64 and 64": Config("greg", "", 1, batch_size=64, precision="fp32"),
}


def noise(seed: int) -> ImageSet:
    """Images that are to be of ten classes."""
    images = np.random.default_rng(seed).integers(0, 256, (_IMAGES, _SIDE, _SIDE, 3), dtype=np.uint8)
    names = tuple(str(i) for i in range(_IMAGES))
    return ImageSet(images, np.arange(_IMAGES) % _CLASSES, tuple(str(i) for i in range(_CLASSES)), names)


def compare(config: Config) -> tuple[float, float]:
    """Milliseconds of a step as it is, and recorded."""
    spec = InputSpec(_SIDE, _SIDE, mean=(0.5,) * 3, std=(0.25,) * 3)
    outliers = noise(1) if config.method != "cross-entropy" else None
    made = [Trainer(config, spec, noise(0), outliers, None, World.alone(), cuda_graph=graph) for graph in (False, True)]
    found: list[list[float]] = [[], []]
    for block in range(_BLOCKS + 1):
        for trainer, times in zip(made, found, strict=True):
            first = block * _STEPS % (trainer.feed.steps_per_epoch - _STEPS)
            fed = list(trainer.feed.steps(first, first + _STEPS))
            torch.cuda.synchronize()
            began = time.perf_counter()
            for step, one in enumerate(fed, first):
                trainer.step(step, one)
            torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - began) / _STEPS)
    plain, recorded = (statistics.median(times[1:]) for times in found)  # the first block warms up, and records
    return plain, recorded


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recorded_steps", description=__doc__.splitlines()[0])
    parser.add_argument("--arch", nargs="+", default=["resnet20", "wrn-40-2"], help="default: %(default)s")
    parser.add_argument("--write", action="store_true", help="docs/measured/recorded_steps.md")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        raise TrainingError("no GPU that torch can use")
    rows = [["network", "step", "as it is, ms", "recorded, ms", "ratio"]]
    for arch in args.arch:
        for name, config in _SETTINGS.items():
            plain, recorded = compare(Config(**{**vars(config), "arch": arch}))
            rows.append([arch, name, f"{plain:.1f}", f"{recorded:.1f}", f"{plain / recorded:.1f}"])
            print("  ".join(rows[-1]), flush=True)
    text = (
        "# Steps recorded as a CUDA graph\n\nBy `python -m benchmarks.recorded_steps --write`: "
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, images of {_SIDE} pixels, medians of {_BLOCKS} blocks "
        f"of {_STEPS} steps, those of both kinds in turns.\n\n"
    )
    text += layout(rows, markdown=True) + "\n"
    print(text)
    if args.write:
        (MEASURED / "recorded_steps.md").write_text(text)
    return 0


if __name__ == "__main__":
    run(main)
