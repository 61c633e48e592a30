"""What does each detector cost? Its own nodes, alone, against the backbone that they are added to.

    python -m benchmarks.detector_cost

ResNet-18 at batch 32 on ONNX Runtime. Everything is timed in one process in turns: after a warm-up, each of many rounds
times the backbone once and each score for as long as it takes to time it well; ratios are medians over the rounds. All
closed forms are also timed within the whole graph. Then how the cost grows: of the closed forms with the number of
classes, of KNN with its bank. Writes docs/measured/detector_cost.md and docs/measured/detector_cost.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from tqdm import tqdm

from benchmarks.gate_overhead import SPEC, session
from benchmarks.paths import MEASURED
from export.detectors import DETECTORS
from export.detectors.base import BASE, base_scores
from export.detectors.columns import attach
from export.detectors.distances.features import unit
from export.detectors.distances.knn import Knn
from export.detectors.distances.nnguide import Nnguide
from export.detectors.interface import Detector, Fitted, Observed, Training
from export.detectors.logits.kl_uniform import KlUniform
from export.detectors.weights.gradnorm import GradNorm
from export.detectors.weights.hidden_confidence import HiddenConfidence
from export.from_torch.network.backbone import Backbone, to_onnx
from export.graph import head
from export.graph.building import LOGITS, PENULTIMATE, prune
from export.graph.last_layers import LastLayers
from train import models

ARCHITECTURE, CLASSES, FEATURES, BATCH = "resnet18", 10, 512, 32
BANK, FITTED_ON = 50_000, 5_000
ALL_CLASSES = (10, 100, 1_000, 5_000, 21_000)
BANKS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
_BLOCK = 0.02  # seconds that one timing takes at least

Feeds = dict[str, npt.NDArray[Any]]
Contestant = tuple[ort.InferenceSession, list[str], Feeds]
Clock = Callable[[], float]


def alone(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A graph that makes these tensors, and nothing else, of logits and penultimate activations."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    given = {output.name: output for output in model.graph.output if output.name in (LOGITS, PENULTIMATE)}
    nodes = [node for node in copy.graph.node if not set(given) & set(node.output)]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    prune(copy)
    needed = {name for node in copy.graph.node for name in node.input}
    inputs = [item for item in (*copy.graph.input, *given.values()) if item.name in needed]
    del copy.graph.input[:]
    copy.graph.input.extend(inputs)
    return copy


def contestant(model: onnx.ModelProto, feeds: Feeds, threads: int) -> Contestant:
    """A graph with all its outputs and those of the feeds that it takes."""
    run = session(model, threads)
    taken = {item.name for item in run.get_inputs()}
    return run, [item.name for item in run.get_outputs()], {k: v for k, v in feeds.items() if k in taken}


def in_turns(
    contestants: Mapping[str, Contestant], rounds: int, title: str, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds a call of each, in each round."""
    calls = {}
    for name, (run, outputs, feeds) in contestants.items():
        run.run(outputs, feeds)
        calls[name] = max(1, round(_BLOCK / _seconds(run, outputs, feeds, 1, clock)))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for index in tqdm(range(rounds), desc=title, disable=None, leave=False):
        for name in list(contestants)[:: 1 if index % 2 else -1]:  # none always goes first
            times[name].append(_seconds(*contestants[name], calls[name], clock))
    return times


def clock_for(threads: int) -> Clock:
    """Of one thread its processor time, which is none of another process; of several the wall's."""
    return time.thread_time if threads == 1 else time.perf_counter


def _seconds(run: ort.InferenceSession, outputs: list[str], feeds: Feeds, calls: int, clock: Clock) -> float:
    start = clock()
    for _ in range(calls):
        run.run(outputs, feeds)
    return (clock() - start) / calls


def _features(count: int, features: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.maximum(np.random.default_rng(seed).normal(0.3, 1, (count, features)), 0).astype(np.float32)


def _backbone() -> onnx.ModelProto:
    return to_onnx(Backbone(models.make(ARCHITECTURE, CLASSES), SPEC), SPEC)


def _with_all(bare: onnx.ModelProto, fitted: Sequence[str]) -> onnx.ModelProto:
    """The backbone with base scores, gate and detectors."""
    model = onnx.ModelProto()
    model.CopyFrom(bare)
    attach(model, base_scores())
    with_detectors(model, fitted)
    return model


def with_detectors(model: onnx.ModelProto, fitted: Sequence[str]) -> None:
    """Add detectors to a graph with base scores, in place; banks have :data:`BANK` rows, and settings are any."""
    layers, penultimate = LastLayers(model), _features(BANK, FEATURES)
    labels, logits = np.arange(BANK) % CLASSES, layers(penultimate[:FITTED_ON]).astype(np.float32)
    outliers = {"themselves": Observed(logits, penultimate[:FITTED_ON])}
    few = Training(logits, penultimate[:FITTED_ON], labels[:FITTED_ON], layers, outliers=outliers)
    many = Training(np.zeros((BANK, CLASSES), np.float32), penultimate, labels, layers)
    kinds = {name: DETECTORS[name] for name in fitted}
    attach(model, {name: (many if banks(kind) else few).fit(kind) for name, kind in kinds.items()}, tuple(BASE))


def banks(kind: type[Fitted]) -> bool:
    """Whether a detector carries a bank of training features."""
    return not {Knn, Nnguide}.isdisjoint((kind, *kind.parts))


def _head_alone(classes: int, features: int, detectors: Mapping[str, Detector]) -> onnx.ModelProto:
    """A graph whose inputs are logits and penultimate activations."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", size))
        for name, size in ((LOGITS, classes), (PENULTIMATE, features))
    ]
    graph = helper.make_graph([], "head", inputs, [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    names = attach(model, base_scores())
    attach(model, detectors, names)
    return model


def of_each(rounds: int, threads: int) -> dict[str, Any]:
    """The backbone, the backbone with all closed forms, and every score alone."""
    bare = _backbone()
    closed = _with_all(bare, [name for name, kind in DETECTORS.items() if kind.needs == "nothing"])
    everything = _with_all(bare, list(DETECTORS))
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SPEC.height, SPEC.width, 3), dtype=np.uint8)
    penultimate = _features(BATCH, FEATURES, seed=1)
    feeds = {"images": images, "penultimate": penultimate, "logits": LastLayers(bare)(penultimate).astype(np.float32)}
    columns = dict(zip((*BASE, *DETECTORS), head.columns(everything), strict=True))
    contestants = {
        "backbone": contestant(bare, feeds, threads),
        "with closed forms": contestant(closed, feeds, threads),
        "all closed forms": contestant(alone(closed, [*head.columns(closed), "accept"]), feeds, threads),
        **{name: contestant(alone(everything, [tensor]), feeds, threads) for name, tensor in columns.items()},
    }
    times = in_turns(contestants, rounds, "detectors", clock_for(threads))
    base = times["backbone"]
    return {
        "backbone_ms": 1e3 * statistics.median(base),
        "with_closed_forms": statistics.median(t / b for t, b in zip(times["with closed forms"], base, strict=True)),
        "scores": {
            name: {
                "microseconds": 1e6 * statistics.median(times[name]) / BATCH,
                "ratio": statistics.median(t / b for t, b in zip(times[name], base, strict=True)),
            }
            for name in ("all closed forms", *columns)
        },
    }


def by_classes(rounds: int, threads: int) -> dict[int, float]:
    """Microseconds an image of all closed forms and the gate, for each number of classes."""
    contestants = {}
    for classes in ALL_CLASSES:
        rng = np.random.default_rng(classes)
        signs = rng.choice([-1.0, 1.0], (classes, FEATURES))
        detectors = {
            "kl_uniform": KlUniform(classes),
            "gradnorm": GradNorm(classes),
            "hidden_confidence": HiddenConfidence(signs),
        }
        feeds: Feeds = {
            "logits": rng.normal(0, 3, (BATCH, classes)).astype(np.float32),
            "penultimate": _features(BATCH, FEATURES),
        }
        contestants[str(classes)] = contestant(_head_alone(classes, FEATURES, detectors), feeds, threads)
    times = in_turns(contestants, rounds, "classes", clock_for(threads))
    return {int(name): 1e6 * statistics.median(values) / BATCH for name, values in times.items()}


def by_bank(rounds: int, threads: int) -> dict[int, float]:
    """Microseconds an image of KNN, for each size of its bank."""
    bank = unit(_features(BANK, FEATURES)).astype(np.float32)
    contestants = {}
    for size in BANKS:
        model = _head_alone(CLASSES, FEATURES, {"knn": Knn(bank[:size], Knn.settings.k)})
        column = alone(model, head.columns(model)[-1:])
        contestants[str(size)] = contestant(column, {"penultimate": _features(BATCH, FEATURES, seed=1)}, threads)
    times = in_turns(contestants, rounds, "bank", clock_for(threads))
    return {int(name): 1e6 * statistics.median(values) / BATCH for name, values in times.items()}


def growth(costs: Mapping[int, float]) -> str:
    """The straight line through the costs, by least squares, and how much of their variance it explains."""
    sizes, values = np.array(list(costs)), np.array(list(costs.values()))
    slope, offset = np.polyfit(sizes, values, 1)
    explained = 1 - np.square(values - offset - slope * sizes).sum() / np.square(values - values.mean()).sum()
    return f"{offset:.1f} + {1e3 * slope:.2f} n / 1000, R^2 = {explained:.4f}"


def _time(threads: int) -> str:
    return "processor time of one thread" if threads == 1 else f"{threads or 'all'} threads"


def report(figures: Mapping[str, Any]) -> str:
    """docs/measured/detector_cost.md."""
    each = figures["each"]
    rows = [
        f"| `{name}` | {cost['microseconds']:.2f} | {100 * cost['ratio']:.3f} % |"
        for name, cost in each["scores"].items()
        if name in (*BASE, *DETECTORS)
    ]
    closed = each["scores"]["all closed forms"]
    classes = [f"| {size:,} | {cost:.1f} |" for size, cost in figures["classes"].items()]
    banks = [f"| {size:,} | {cost:.1f} |" for size, cost in figures["banks"].items()]
    return "\n".join(
        [
            "# What each detector costs",
            "",
            "Regenerated by `python -m benchmarks.detector_cost`.",
            f"ResNet-18 (D = {FEATURES}, {CLASSES} classes, 32 x 32 images) at batch {BATCH}, ONNX Runtime "
            f"{figures['onnxruntime']}, {_time(figures['threads'])}; medians of {figures['rounds']} rounds in turns "
            "in one process.",
            "",
            f"The backbone takes {each['backbone_ms']:.0f} ms a batch, {1e3 * each['backbone_ms'] / BATCH:.0f} us an image.",
            f"All closed forms and the gate together: {closed['microseconds']:.1f} us an image, "
            f"**{100 * closed['ratio']:.2f} %** of the backbone; the whole graph with them took "
            f"{each['with_closed_forms']:.3f} times the backbone's time; a few percent there are the machine's noise.",
            "",
            "Each score alone, from the logits and activations on. What two scores share is computed once in a bundle, and "
            f"counted for both here. Banks are of {BANK:,} x {FEATURES}, with k = {Knn.settings.k}, and {Nnguide.settings.k} "
            "for `nnguide`.",
            "",
            "| score | us an image | of the backbone |",
            "|---|---|---|",
            *rows,
            "",
            "## Growth",
            "",
            f"All closed forms and the gate by number of classes n: {growth(figures['classes'])}.",
            "",
            "| classes | us an image |",
            "|---|---|",
            *classes,
            "",
            f"KNN by size of the bank n, k = {Knn.settings.k}: {growth(figures['banks'])}.",
            "",
            "| bank | us an image |",
            "|---|---|",
            *banks,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1, help="0 takes one for each physical core")
    args = parser.parse_args()
    figures = {
        "onnxruntime": ort.__version__,
        "threads": args.threads,
        "rounds": args.rounds,
        "each": of_each(args.rounds, args.threads),
        "classes": by_classes(args.rounds, args.threads),
        "banks": by_bank(args.rounds, args.threads),
    }
    (MEASURED / "detector_cost.json").write_text(json.dumps(figures, indent=1) + "\n")
    (MEASURED / "detector_cost.md").write_text(report(figures))
    print(report(figures))


if __name__ == "__main__":
    main()
