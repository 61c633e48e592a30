"""What do fp16 and int8 cost and bring on ONNX Runtime's CPU engine? Images a second, accuracy, acceptance and flips.

    python -m benchmarks.precision bundles/cifar10 DATA/cifar10-val.tar

BUNDLE is an fp32 bundle, or a checkpoint of python -m train. Gates are calibrated on the first half of SOURCE, with the
bundle's own options, and int8 is quantised with it; everything is measured on the second half. Times are of the whole
graph in one process in turns, ratios medians over the rounds. A profile says where the time goes: the least time of each
node, which other processes disturb least. Writes docs/measured/precision_figures.md and docs/measured/precision_figures.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from benchmarks.detector_cost import contestant, in_turns
from benchmarks.machine import processor
from benchmarks.paths import MEASURED
from export.calibrate.gating import fit_gate
from export.calibrate.options import GateOptions
from export.classifier import assemble
from export.convert.conversion import convert
from export.convert.int8 import Int8Options
from export.from_torch.checkpoint import from_checkpoint
from export.graph.head import seal
from export.images.leakage import QUANTISATION
from export.parity.comparison import Artifact, compare_artifacts
from runtime import Bundle, bundle
from runtime.command import run
from runtime.gate import Gate
from runtime.manifest import Manifest, Precision
from train.data import check, load

BATCHES = (1, 32)
PRECISIONS: tuple[Precision, ...] = ("fp16", "int8")
_PROFILED = 20  # runs

Graph = tuple[onnx.ModelProto, Manifest]


def graphs(path: Path, calibration: str) -> dict[str, Graph]:
    """The graph in every precision, each calibrated; int8 once more with its quantisation images among the others."""
    if path.is_file():
        model, manifest = assemble(from_checkpoint(path), path.stem, {"energy": {"temperature": 1.0}})
    else:
        loaded = Bundle.load(path)
        model, manifest = onnx.load_from_string(loaded.model), dataclasses.replace(loaded.manifest, data={})
    options = GateOptions.of(manifest)
    manifest = fit_gate(model, manifest, calibration, options, threads=1).manifest
    found = {"fp32": (model, manifest)}
    for precision in PRECISIONS:
        made = convert(model, manifest, precision, calibration, options, Int8Options(), threads=1)
        found[precision] = (made.model, made.manifest)
    again = onnx.ModelProto()
    again.CopyFrom(found["int8"][0])
    others = {role: spec for role, spec in found["int8"][1].data.items() if role != QUANTISATION}
    forgetful = dataclasses.replace(found["int8"][1], data=others)
    found["int8, all images"] = (again, fit_gate(again, forgetful, calibration, options, threads=1).manifest)
    return found


def decisions(found: dict[str, Graph], source: str) -> dict[str, Any]:
    """Accuracy, acceptance and flips against fp32 on images that calibrated nothing."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        artifacts = {}
        for name, (model, manifest) in found.items():
            path = Path(folder) / name
            bundle.write(path, manifest, {bundle.MODEL: seal(model, manifest)}, {})
            gate = Gate.load(path, threads=1)
            artifacts[name] = Artifact(name, gate.engine, gate.manifest)
        for name, artifact in artifacts.items():
            figures[name] = compare_artifacts(artifacts["fp32"], artifact, source, {}).figures.to_dict()
    return figures


def speed(found: dict[str, Graph], images: npt.NDArray[np.uint8], rounds: int) -> list[dict[str, Any]]:
    """Images a second of each precision, and the median ratio to fp32, by threads and batch size."""
    rows = []
    for threads in (1, 0):
        for batch in BATCHES:
            feeds = {"images": images[:batch]}
            contestants = {name: contestant(found[name][0], feeds, threads) for name in ("fp32", *PRECISIONS)}
            times = in_turns(contestants, rounds, f"batch {batch}")
            rows += [
                {
                    "precision": name,
                    "threads": threads,
                    "batch": batch,
                    "images_per_second": batch / statistics.median(seconds),
                    "ratio": statistics.median(a / b for a, b in zip(times["fp32"], seconds, strict=True)),
                }
                for name, seconds in times.items()
            ]
    return rows


def profile(model: onnx.ModelProto, images: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Microseconds of a run by operator, one thread: of each node the least of several runs."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for _ in range(_PROFILED):
            session.run(None, {"images": images})
        events = json.loads(Path(session.end_profiling()).read_text())
    least: dict[tuple[str, str], float] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            key = (event["args"]["op_name"], event["name"])
            least[key] = min(event["dur"], least.get(key, event["dur"]))
    total: Counter[str] = Counter()
    for (operator, _), duration in least.items():
        total[operator] += duration
    return dict(total.most_common())


def report(figures: dict[str, Any]) -> str:
    """docs/measured/precision_figures.md."""
    lines = [
        "# Precisions, measured",
        "",
        f"Regenerated by `python -m benchmarks.precision {figures['arguments']}` ({figures['arch']}): {figures['machine']}, "
        f"ONNX Runtime {figures['onnxruntime']}. What the columns mean is in [precision.md](../precision.md).",
        "",
        "## Decisions",
        "",
        f"{figures['decisions']['fp32']['known']['images']} images that calibrated nothing. Flips are against fp32, each at "
        "its own threshold, and beside it at fp32's.",
        "",
        "| graph | bytes | threshold from | accuracy | accepted | promised | same label | flips | at fp32's threshold |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in figures["decisions"].items():
        known, other = found["evaluations"][1]["id"], found["known"]
        low, high = (100 * bound for bound in known["acceptance_expected"])
        counts = [sum(each.values()) for each in (other["flips"], other["flips_with_a_threshold"])]
        flips = " | ".join(f"{count} ({100 * count / known['images']:.2f} %)" for count in counts)
        lines.append(
            f"| {name} | {figures['bytes'][name]:,} | {figures['calibrated_on'][name]:,} images | "
            f"{100 * known['accuracy']:.2f} % | {100 * known['acceptance']:.2f} % | {low:.2f} to {high:.2f} % | "
            f"{100 * other['label_agreement']:.2f} % | {flips} |"
        )
    lines += [
        "",
        "`int8, all images` also sets its threshold by the images that its ranges were learned from.",
        "",
        "## Speed",
        "",
        f"Medians of {figures['rounds']} rounds; a ratio above 1 is faster than fp32.",
        "",
        "| threads | batch | fp32, images/s | fp16, images/s | ratio | int8, images/s | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    cells = {(row["threads"], row["batch"], row["precision"]): row for row in figures["speed"]}
    for threads, batch in dict.fromkeys((row["threads"], row["batch"]) for row in figures["speed"]):
        base, *others = (cells[threads, batch, name] for name in ("fp32", *PRECISIONS))
        rest = " | ".join(f"{row['images_per_second']:.0f} | {row['ratio']:.2f}" for row in others)
        lines.append(f"| {threads or 'all'} | {batch} | {base['images_per_second']:.0f} | {rest} |")
    lines += [
        "",
        f"## Where the time goes at batch {BATCHES[-1]}, one thread",
        "",
        "| graph | ms | of which |",
        "|---|---|---|",
    ]
    for name, operators in figures["profile"].items():
        largest = ", ".join(f"{kind} {1e-3 * value:.2f}" for kind, value in list(operators.items())[:6])
        lines.append(f"| {name} | {1e-3 * sum(operators.values()):.2f} | {largest} |")
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="of fp32; or a checkpoint")
    parser.add_argument(
        "source", metavar="SOURCE", help="in-distribution images that were not trained on; it is halved"
    )
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--out", type=Path, default=MEASURED, help="directory to write to (default: docs/measured)")
    args = parser.parse_args()
    halves = [f"{args.source}@{half}/2" for half in (1, 2)]
    check(halves[0])
    found = graphs(args.bundle, halves[0])
    images = load(halves[1], found["fp32"][1].input).images[: BATCHES[-1]]
    compared = decisions(found, halves[1])
    figures = {
        "arguments": f"{args.bundle} {Path(args.source).name}",
        "arch": found["fp32"][1].model.arch,
        "machine": processor(),
        "onnxruntime": ort.__version__,
        "rounds": args.rounds,
        "bytes": {name: len(seal(*graph)) for name, graph in found.items()},
        "calibrated_on": {name: gate.n_calibration for name, (_, each) in found.items() if (gate := each.gate)},
        "quantisation": found["int8"][1].provenance[QUANTISATION],
        "decisions": compared,
        "speed": speed(found, images, args.rounds),
        "profile": {name: profile(found[name][0], images) for name in ("fp32", *PRECISIONS)},
    }
    text = report(figures)
    (args.out / "precision_figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    (args.out / "precision_figures.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    run(main)
