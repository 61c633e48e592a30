"""Is the loading of images hidden behind the training step, on photographs at 224 pixels?

    python -m benchmarks.loading DATA/coco18-train.tar

The same steps of a multi-label ResNet-20, which at this size costs what ResNet-18 does, with batches that the training
loop's feed decodes while the step before is computed, and with batches that lie in memory; in turns. What is printed is the
step's rate with the feed as a share of that without, medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterable

import torch
from torch import nn

from runtime.manifest import InputSpec
from train import methods, models
from train.config import Config
from train.data import load
from train.loop.feed import Fed, Feed
from train.methods import Batch
from train.normalize import Normalize

SPEC = InputSpec(224, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize="shortest", resize_to=256)


def seconds(model: nn.Module, normalize: Normalize, batches: Iterable[Fed]) -> float:
    """Of forward and backward passes over some batches, from the first of them on."""
    method, start = methods.make("bce", {}), 0.0
    for number, fed in enumerate(batches):
        if number == 1:  # the first is awaited by nothing
            start = time.perf_counter()
        model.zero_grad()
        images = normalize(fed.known.images).contiguous(memory_format=torch.channels_last)
        method.step(model, Batch(images, fed.known.labels, images[:0])).loss.backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__.partition("\n")[0])
    parser.add_argument("source", metavar="SOURCE", help="photographs with labels")
    parser.add_argument("--arch", default="resnet20", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4, help="timed in a round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    data = load(args.source, SPEC, in_memory=False)
    method = methods.make("bce", {})
    feed = Feed(Config("bce", args.arch, epochs=1, batch_size=args.batch, padding=0), method, data, None)
    model = models.make(args.arch, len(data.classes)).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    normalize, kept = Normalize(SPEC), list(feed.steps(0, args.steps + 1))
    loaded, ready = [], []
    for number in range(args.rounds):
        first = (number + 1) * (args.steps + 1)
        loaded.append(seconds(model, normalize, feed.steps(first, first + args.steps + 1)) / args.steps)
        ready.append(seconds(model, normalize, kept) / args.steps)
    share = statistics.median(a / b for a, b in zip(ready, loaded, strict=True))
    print(
        f"{args.arch}, {args.batch} photographs of 224 pixels, {torch.get_num_threads()} threads, load average "
        f"{os.getloadavg()[0]:.1f}: {statistics.median(loaded):.2f} s a step with the feed, "
        f"{statistics.median(ready):.2f} s from memory: {100 * share:.1f} % of the step's rate"
    )


if __name__ == "__main__":
    main()
