"""What do the scores and the decision cost? The exported graph against the same backbone without them.

    python -m benchmarks.gate_overhead

Both files come from the same weights and run in the same process, in turns: after a warm-up, each of many rounds times
one block of each, and the median of the rounds' ratios is printed. One thread and all threads; batch 1 and 32.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from tqdm import tqdm

from export.detectors.base import base_scores
from export.detectors.columns import attach
from export.from_torch.network.backbone import Backbone, to_onnx
from export.graph import head
from runtime.manifest import InputSpec
from train import models

ARCHITECTURES = ("resnet20", "wrn-40-2")
BATCHES = (1, 32)
SPEC = InputSpec(32, 32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def session(model: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def block(run: ort.InferenceSession, images: npt.NDArray[np.uint8], outputs: list[str], calls: int) -> float:
    """Seconds a call, over `calls` calls in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        run.run(outputs, {"images": images})
    return (time.perf_counter() - start) / calls


def compare(arch: str, batch: int, threads: int, rounds: int) -> tuple[float, float, float]:
    """Median seconds of the bare backbone, median seconds with the gate, median of the rounds' ratios."""
    bare = to_onnx(Backbone(models.make(arch, 10), SPEC), SPEC)
    gated = onnx.ModelProto()
    gated.CopyFrom(bare)
    attach(gated, base_scores())
    head.set_gate(gated, column=0, threshold=0.5)
    images = np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3), dtype=np.uint8)
    contestants = [(session(bare, threads), ["logits"]), (session(gated, threads), ["logits", "scores", "accept"])]
    calls = max(1, round(0.02 / block(*contestants[0][:1], images, contestants[0][1], 5)))
    times: list[list[float]] = [[], []]
    for index in tqdm(range(rounds), desc=f"{arch}, batch {batch}", disable=None, leave=False):
        for which in (0, 1) if index % 2 else (1, 0):  # neither always goes first
            run, outputs = contestants[which]
            times[which].append(block(run, images, outputs, calls))
    ratio = statistics.median(g / b for b, g in zip(*times, strict=True))
    return statistics.median(times[0]), statistics.median(times[1]), ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 0], help="0 takes one for each physical core")
    args = parser.parse_args()
    print("| architecture | batch | threads | backbone, ms | with gate, ms | ratio |")
    print("|---|---|---|---|---|---|")
    for arch in ARCHITECTURES:
        for batch in BATCHES:
            for threads in args.threads:
                bare, gated, ratio = compare(arch, batch, threads, args.rounds)
                print(f"| {arch} | {batch} | {threads or 'all'} | {1e3 * bare:.3f} | {1e3 * gated:.3f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
