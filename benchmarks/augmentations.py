"""What augmentations cost, against the training step that they feed: seconds a batch, and shares of the step, in one run."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from runtime.command import run
from train import models
from train.augment import GEOMETRY, MIXING, Crops, parse
from train.methods import Batch, CrossEntropy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet20", help="whose step is compared with (default: %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="side of the images (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts (default: %(default)s)")
    args = parser.parse_args()
    images = torch.randint(0, 256, (args.batch_size, args.size, args.size, 3), dtype=torch.uint8)
    step = _seconds(_step(args.arch, args.size, args.batch_size), args.rounds)
    print(f"{args.arch}, {args.batch_size} images of {args.size} x {args.size}, {torch.get_num_threads()} threads")
    print(f"| | seconds | of the step |\n| --- | --- | --- |\n| step: forward, backward | {step:.3f} | |")
    for name in (*GEOMETRY, *MIXING):
        augmentation = parse(name)
        crops = Crops.draw(args.batch_size, 4, torch.Generator().manual_seed(0))
        cost = _seconds(
            lambda augmentation=augmentation, crops=crops: augmentation.apply(images, crops, 0), args.rounds
        )
        print(f"| {name} | {cost:.3f} | {cost / step:.1%} |")
    return 0


def _step(arch: str, size: int, count: int) -> Callable[[], object]:
    model = models.make(arch, 10).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(count, 3, size, size).contiguous(memory_format=torch.channels_last)
    batch = Batch(images, torch.arange(count) % 10, images[:0])
    return lambda: CrossEntropy().step(model, batch).loss.backward()  # type: ignore[no-untyped-call]


def _seconds(work: Callable[[], object], rounds: int) -> float:
    work()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    run(main)
