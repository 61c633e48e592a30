"""What does a training step cost? Half precision against single, GReg against the energy loss, sampling within GReg+.

    python -m benchmarks.train_speed [--checkpoint CKPT [--images KNOWN AUX]] [--json FILE] [--markdown FILE]

Contestants run in one process, in turns; a figure is the median over rounds, a ratio the median of the rounds' ratios.
Each method is compared in the fastest of its configurations (precision and memory layout), and beside GReg's stands
how exact that configuration is: the cosine between the parameter gradient of its penalty and that of torch's own double
backward in float64, on the weights of --checkpoint (a network that was trained, where it matters) or new ones, and on
--images (two sources, the first images of a shuffle) or noise.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from runtime.manifest import InputSpec
from train import checkpoint, methods, models
from train.data import load
from train.methods import Batch
from train.methods.double_backward import twice_differentiable
from train.methods.energy import energy
from train.methods.greg import gradient_loss, gradient_norms
from train.methods.sampling import energy_based_sample
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


def step(model: nn.Module, method: str, options: Mapping[str, float], batch: Batch, how: Configuration) -> float:
    """Seconds of a forward and a backward pass."""
    model.zero_grad()
    start = time.perf_counter()
    with how.autocast():
        loss = methods.make(method, options).step(model, batch).loss
    loss.backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - start


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


def random_batch(count: int, outliers: int) -> Batch:
    generator = torch.Generator().manual_seed(0)

    def images(n: int) -> Tensor:
        return torch.randn(n, 3, 32, 32, generator=generator)

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


def precision_ratio(arch: str, batch: int, rounds: int) -> dict[str, Any]:
    """The cross-entropy step in every configuration, against the plain one in single precision."""
    contestants = {}
    for how in configurations():
        model = models.make(arch, 10).train().to(memory_format=how.memory_format)  # type: ignore[call-overload]
        data = laid_out(random_batch(batch, 0), how)
        contestants[str(how)] = lambda m=model, b=data, h=how: step(m, "cross-entropy", {}, b, h)
    times = compare(contestants, rounds, arch)
    return {
        "arch": arch,
        "batch": batch,
        "milliseconds": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "ratio": {name: ratio(times["fp32"], values) for name, values in times.items()},
    }


def greg_ratio(make: Callable[[], nn.Module], batch: Batch, rounds: int) -> dict[str, Any]:
    """The GReg step against the energy step on the same images, each in its fastest configuration."""
    # Margins at which every image counts as detected: the most that the penalty can cost.
    methods_of = {"energy": {}, "greg": {"m_in": 1e9, "m_aux": -1e9, "weight": 0.0}}
    contestants, cosines = {}, {}
    reference = penalty_gradient(make().double(), batch, Configuration(False, False), fast=False)
    for how in configurations():
        model = make().train().to(memory_format=how.memory_format)  # type: ignore[call-overload]
        data = laid_out(batch, how)
        for name, options in methods_of.items():
            contestants[f"{name}, {how}"] = lambda m=model, n=name, o=options, b=data, h=how: step(m, n, o, b, h)
        found = penalty_gradient(make(), batch, how, fast=True)
        cosines[f"greg, {how}"] = float(torch.nn.functional.cosine_similarity(found, reference, dim=0))
    times = compare(contestants, rounds, "greg")
    energy_best, greg_best = (best({k: v for k, v in times.items() if k.startswith(name)}) for name in methods_of)
    return {
        "batch": f"{len(batch.images)} + {len(batch.outliers)}",
        "milliseconds": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "fastest": [energy_best, greg_best],
        "ratio": ratio(times[greg_best], times[energy_best]),
        "cosine": cosines,
    }


def penalty_gradient(model: nn.Module, batch: Batch, how: Configuration, *, fast: bool) -> Tensor:
    """The gradient of the penalty with respect to all weights, float64."""
    model = model.train().to(memory_format=how.memory_format)  # type: ignore[call-overload]
    data = laid_out(batch, how)
    dtype = next(model.parameters()).dtype
    images = torch.cat([data.images, data.outliers]).to(dtype).requires_grad_()
    with how.autocast():
        if fast:
            logits, _ = twice_differentiable(model, images)
        else:
            logits, _ = model(images)
        score = energy(logits.to(torch.promote_types(logits.dtype, torch.float32)))
        norms = gradient_norms(score, images, torch.ones(len(images), dtype=torch.bool))
        loss = gradient_loss(*torch.split(norms, [len(data.images), len(data.outliers)]))
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.cat([g.double().flatten() for g in gradients if g is not None])


def sampling_share(make: Callable[[], nn.Module], batch: int, rounds: int) -> dict[str, Any]:
    """Energy-based sampling, the forward pass of the candidates excluded, as a share of GReg+'s step."""
    how = next(iter(configurations()))
    model = make().train().to(memory_format=how.memory_format)  # type: ignore[call-overload]
    data = laid_out(random_batch(batch, 4 * batch), how)
    with torch.no_grad(), how.autocast():
        logits, features = model(data.outliers)
    candidates, energies = features.float().numpy(), energy(logits.float()).numpy()

    def sample() -> float:
        start = time.perf_counter()
        energy_based_sample(candidates, energies, batch, seed=0)
        return time.perf_counter() - start

    options = {"m_in": 1e9, "m_aux": -1e9}
    times = compare({"greg+": lambda: step(model, "greg+", options, data, how), "sampling": sample}, rounds, "greg+")
    return {
        "candidates": 4 * batch,
        "milliseconds": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "share": ratio(times["sampling"], times["greg+"]),
    }


def markdown(results: Mapping[str, Any]) -> str:
    precision, greg, sampling = results["precision"], results["greg"], results["sampling"]
    lines = [
        "# The cost of a training step",
        "Made by `python -m benchmarks.train_speed`. Times are medians, ratios medians of the rounds' ratios.",
        f"{results['machine']}, torch {results['torch']}, {results['threads']} threads.",
        f"## Precision: {precision['arch']}, {precision['batch']} images, cross-entropy",
        "| configuration | ms a step | times faster than fp32 |\n|---|---|---|\n"
        + "\n".join(
            f"| {name} | {value:.0f} | {precision['ratio'][name]:.2f} |"
            for name, value in precision["milliseconds"].items()
        ),
        f"## Gradient regularisation: {greg['arch']}, {greg['batch']} {'images' if greg['images'] else 'images of noise'}",
        "| step | ms | cosine of the penalty's gradient with float64 |\n|---|---|---|\n"
        + "\n".join(
            f"| {name} | {value:.0f} | {greg['cosine'].get(name, ''):{'.6f' if name in greg['cosine'] else ''}} |"
            for name, value in greg["milliseconds"].items()
        ),
        f"GReg's fastest ({greg['fastest'][1]}) takes {greg['ratio']:.2f} times the energy loss's fastest "
        f"({greg['fastest'][0]}).",
        "## Energy-based sampling",
        f"Choosing among {sampling['candidates']} candidates takes {sampling['milliseconds']['sampling']:.1f} ms, "
        f"{100 * sampling['share']:.1f} % of GReg+'s step.",
    ]
    return "\n\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="a trained network for the gradient's exactness")
    parser.add_argument("--images", nargs=2, metavar=("KNOWN", "AUX"), help="sources for it; with --checkpoint")
    parser.add_argument("--arch", default="resnet20", help="of the new network otherwise; default: %(default)s")
    parser.add_argument("--precision-arch", default="wrn-40-2", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    if args.images and not args.checkpoint:
        parser.error("--images needs --checkpoint, which says how images are made its input")
    torch.manual_seed(0)
    np.random.seed(0)
    initial = models.make(args.arch, 10).state_dict()

    def make() -> nn.Module:
        if args.checkpoint:
            return checkpoint.load(args.checkpoint).model()
        model = models.make(args.arch, 10)
        model.load_state_dict(initial)
        return model

    header = checkpoint.load(args.checkpoint).header if args.checkpoint else None
    if args.images and header:
        batch = image_batch(header.input, args.images, args.batch)
    else:
        batch = random_batch(args.batch, args.batch)
    arch = header.arch if header else args.arch
    results = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "precision": precision_ratio(args.precision_arch, args.batch, args.rounds),
        "greg": {"arch": arch, "images": args.images is not None, **greg_ratio(make, batch, args.rounds)},
        "sampling": sampling_share(make, args.batch, args.rounds),
    }
    text = markdown(results)
    print(text)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    if args.markdown:
        args.markdown.write_text(text)


if __name__ == "__main__":
    main()
