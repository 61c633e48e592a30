"""docs/measured/engines.md and .json, with the figures of this machine beside those of others."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines.graphs import SHIPPED
from benchmarks.machine import beside
from export.calibrate.calibration import calibrate
from export.metrics.evaluation import expected_acceptance
from export.metrics.observation import gate_of
from export.parity.difference import compare
from export.report.table import layout
from runtime.engines.interface import Outputs
from runtime.manifest import Manifest
from runtime.rule import Rule

_COMMAND = "python -m benchmarks.engines"
_BASE = "onnxruntime-cpu-fp32"
# Whose outputs the gate of a bundle of each precision is calibrated on.
_CALIBRATOR = {
    _BASE: _BASE,
    "openvino-fp32": _BASE,
    "onnxruntime-cpu-int8": "onnxruntime-cpu-int8",
    "openvino-int8": "onnxruntime-cpu-int8",
    "openvino-bf16": "openvino-bf16",
}


def report(work: Path, results: Path, out: Path, note: str = "") -> str:
    """Add what the step `time` left in `results` to the document in `out`, and write the page."""
    figures = json.loads((results / "engines.json").read_text())
    if (results / f"{_BASE}.npz").exists():
        figures["decisions"] = decisions(work, results)
    figures["machine"]["note"] = note
    figures["shipped"] = Manifest.from_json((work / SHIPPED / "manifest.json").read_text()).model.arch
    machine = figures["machine"]
    text = page(beside(out / "engines.json", f"{machine['processor']}, {machine['cores']} cores", figures))
    (out / "engines.md").write_text(text)
    return text


def decisions(work: Path, results: Path) -> dict[str, dict[str, Any]]:
    """Each engine's gate, calibrated on its own outputs, against ONNX Runtime's in fp32, on images that calibrated none."""
    manifest = Manifest.from_json((work / SHIPPED / "manifest.json").read_text())
    gate = manifest.gate
    if gate is None:
        raise ValueError(f"{work / SHIPPED / 'manifest.json'}: expected the manifest of a calibrated bundle")
    with np.load(work / "evaluation.npz") as stored:
        labels = np.array([manifest.labels.index(label) for label in stored["labels"]])
    gated: dict[str, tuple[Manifest, Outputs]] = {}
    for file in sorted(results.glob("*.npz")):
        with np.load(file) as arrays:
            scores = arrays["calibration_scores"]
            outputs = Outputs(arrays["evaluation_logits"], arrays["evaluation_scores"])
        bare = dataclasses.replace(manifest, gate=None, parity=None)
        gated[file.stem] = calibrate(bare, scores, gate.score, gate.alpha), outputs
    found = {}
    for name, (own, outputs) in gated.items():
        accepted = Rule.of(own).accepts(outputs.logits, outputs.scores)
        difference = compare("evaluation", *gated[_BASE], own, outputs)
        kept = compare("evaluation", *gated[_CALIBRATOR[name]], own, outputs).flips_with_a_threshold
        found[name] = {
            "calibrated_on": gate_of(own).n_calibration,
            "images": len(labels),
            "accuracy": float((outputs.logits.argmax(axis=1) == labels).mean()),
            "accepted": float(accepted.mean()),
            "promised": expected_acceptance(gate_of(own), len(labels)),
            "difference": dataclasses.asdict(difference),
            "flips_with_the_bundle_s_threshold": kept.total if kept else None,
        }
    return found


def page(known: dict[str, dict[str, Any]]) -> str:
    """The whole page."""
    parts = [
        "# Engines on the CPU, measured",
        f"By `{_COMMAND} --data DATA`. A ratio above 1 is faster than ONNX Runtime in fp32 in the same round of turns; "
        "medians. int8 is one QDQ graph on both engines. In bf16, OpenVINO computes the layers up to the penultimate "
        "activations in bf16 and the head in fp32. Weights of networks that are not shipped are untrained.",
    ]
    for name, figures in known.items():
        parts += [f"## {name}", _machine(figures)]
        if figures.get("decisions"):
            parts += ["### Decisions", *_decisions(figures)]
        if figures.get("speed"):
            parts += ["### Images a second", layout(_speed(figures["speed"]), True)]
        if figures.get("shapes"):
            parts += [
                "### How a batch is run, milliseconds",
                _SHAPES.format(figures["shipped"]),
                layout(_shapes(figures["shapes"]), True),
            ]
        if figures.get("lanes"):
            parts += ["### Two cores, images a second", layout(_lanes(figures["lanes"]), True)]
    return "\n\n".join(parts) + "\n"


_SHAPES = (
    "The bundle shipped then ({}), one thread. `prepared` is the engine; `whole` the graph in one piece for this size, in "
    "bf16 with its head; `dynamic` one model for any size, always asked for this one, and asked for another before each."
)


def _machine(figures: dict[str, Any]) -> str:
    machine = figures["machine"]
    text = (
        f"Flags {', '.join(machine['flags'])}; Python {machine['python']}, ONNX Runtime "
        f"{machine['onnxruntime']}, OpenVINO {machine['openvino'].partition('-')[0]}. {machine['note']}".rstrip()
    )
    absent = [f" Without {name}: {reason}." for name, reason in figures["absent"].items()]
    return text + "".join(absent)


def _decisions(figures: dict[str, Any]) -> list[str]:
    found = figures["decisions"]
    base = found[_BASE]
    errors = {row["engine"].replace(" ", "-"): row["largest_error"] for row in figures["heads"]}
    header = ["engine", "accuracy", "accepted", "promised", "same label", "flips", "at fp32's", "at the bundle's"]
    rows = [[*header, "logits", "head"]]
    for name, one in found.items():
        difference = one["difference"]
        flips = [sum(difference[kind].values()) for kind in ("flips", "flips_with_a_threshold")]
        low, high = one["promised"]
        rows.append(
            [
                name.rpartition("-")[0] + " " + name.rpartition("-")[2],
                f"{100 * one['accuracy']:.2f} %",
                f"{100 * one['accepted']:.2f} %",
                f"{100 * low:.2f} to {100 * high:.2f} %",
                f"{100 * difference['label_agreement']:.2f} %",
                *(f"{count} ({100 * count / one['images']:.2f} %)" for count in flips),
                f"{one['flips_with_the_bundle_s_threshold']}",
                f"{difference['logits']['max']:.2g}",
                f"{errors[name]:.1g}",
            ]
        )
    text = (
        f"The bundle shipped then ({figures['shipped']}) on {base['images']} images that calibrated nothing; each gate is "
        f"calibrated on its own outputs for {base['calibrated_on']} others. Flips, labels and the largest difference of a "
        "logit are against ONNX Runtime in fp32, beside it with fp32's threshold kept; `at the bundle's` are flips against "
        "the engine that a bundle of this precision is calibrated on, at its threshold; `head` is the largest error of a "
        "score against float64 on the engine's own logits."
    )
    return [text, layout(rows, True)]


def _speed(speed: list[dict[str, Any]]) -> list[list[str]]:
    kinds = list(dict.fromkeys((row["engine"], row["precision"]) for row in speed))
    kinds.sort(key=lambda kind: (kind[0] != "onnxruntime-cpu", kind[1] == "bf16", kind[1] == "int8"))
    cells = {
        (row["model"], row["threads"], row["batch"], row["engine"], row["precision"]): (
            f"{row['images_per_second']:.0f}"
            + (f", {row['ratio']:.2f}" if (row["engine"], row["precision"]) != kinds[0] else "")
        )
        for row in speed
    }
    cases = dict.fromkeys((row["model"], row["threads"], row["batch"]) for row in speed)
    header = ["model", "threads", "batch", *(" ".join(kind) for kind in kinds)]
    return [header, *([*map(str, case), *(cells.get((*case, *kind), "-") for kind in kinds)] for case in cases)]


def _shapes(shapes: list[dict[str, Any]]) -> list[list[str]]:
    return _by_kind(shapes, lambda row: f"{row['milliseconds']:.2f}")


def _lanes(lanes: list[dict[str, Any]]) -> list[list[str]]:
    return _by_kind(lanes, lambda row: f"{row['images_per_second']:.0f}")


def _by_kind(rows: list[dict[str, Any]], figure: Callable[[dict[str, Any]], str]) -> list[list[str]]:
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    cells = {(row["hint"], row["batch"], row["kind"]): figure(row) for row in rows}
    cases = dict.fromkeys((row["hint"], row["batch"]) for row in rows)
    return [
        ["hint", "batch", *kinds],
        *([*map(str, case), *(cells.get((*case, kind), "-") for kind in kinds)] for case in cases),
    ]
