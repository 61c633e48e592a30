"""Training steps to be timed in turns: how they compute, and the images that they take."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from runtime.manifest import InputSpec
from train import methods
from train.data import load
from train.methods import Batch
from train.normalize import Normalize


@dataclass(frozen=True)
class Configuration:
    """How a step computes."""

    bf16: bool
    channels_last: bool

    def __str__(self) -> str:
        return ("bf16" if self.bf16 else "fp32") + (", channels-last" if self.channels_last else "")

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)


def configurations() -> list[Configuration]:
    """Those that this machine has kernels for."""
    halves = [True, False] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else [False]
    return [Configuration(bf16, layout) for bf16 in halves for layout in (True, False)]


Clock = Callable[[], float]  # seconds: of the wall, or of this process, which others that run beside it don't lengthen


def step(
    model: nn.Module, method: str, options: Mapping[str, float], batch: Batch, how: Configuration, clock: Clock
) -> float:
    """Seconds of a forward and a backward pass."""
    model.zero_grad()
    start = clock()
    with how.autocast():
        loss = methods.make(method, options).step(model, batch).loss
    loss.backward()  # type: ignore[no-untyped-call]
    return clock() - start


def add_options(parser: argparse.ArgumentParser) -> None:
    """How often, by which clock, and whether the page is written."""
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu-time", action="store_true", help="of this process, where others run; on one thread")
    parser.add_argument("--write", action="store_true", help="the page in docs/measured, which is printed otherwise")


def clock_of(args: argparse.Namespace) -> Clock:
    """By --cpu-time, for which torch computes on one thread."""
    if args.cpu_time:
        torch.set_num_threads(1)
    return time.process_time if args.cpu_time else time.perf_counter


def conditions(args: argparse.Namespace) -> str:
    """What was measured with, and by which clock, in words."""
    threads = torch.get_num_threads()
    clock = "CPU time of the process, beside others" if args.cpu_time else "by the clock"
    return f"torch {torch.__version__}, {threads} thread{'s' * (threads > 1)}; {clock}."


def compare(contestants: Mapping[str, Callable[[], float]], rounds: int, title: str) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; they take turns, and neither always goes first."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    for i in tqdm(range(rounds), desc=title, disable=None, leave=False):
        for name in list(contestants)[:: 1 if i % 2 else -1]:
            times[name].append(contestants[name]())
    return times


def best(times: Mapping[str, list[float]]) -> str:
    return min(times, key=lambda name: statistics.median(times[name]))


def ratio(slow: list[float], fast: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def random_batch(count: int, outliers: int, side: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(0)

    def images(n: int) -> Tensor:
        return torch.randn(n, 3, side, side, generator=generator)

    return Batch(images(count), torch.randint(10, (count,), generator=generator), images(outliers))


def image_batch(spec: InputSpec, sources: Sequence[str], count: int) -> Batch:
    """As many known images and auxiliary ones."""

    def images(source: str) -> tuple[Tensor, Tensor]:
        data = load(source, spec)
        chosen = np.random.default_rng(0).permutation(len(data.labels))[:count]
        pixels = torch.from_numpy(data.images[chosen])
        return Normalize(spec)(pixels), torch.from_numpy(data.labels[chosen])

    (known, labels), (outliers, _) = map(images, sources)
    return Batch(known, labels, outliers)


def laid_out(batch: Batch, how: Configuration) -> Batch:
    """A batch in the memory format of a configuration."""
    images, outliers = (part.contiguous(memory_format=how.memory_format) for part in (batch.images, batch.outliers))
    return replace(batch, images=images, outliers=outliers)
