"""docs/measured/serving_performance.md, of what benchmarks.serving measured."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.machine import processor
from runtime.engines.processor import BF16, machine_flags
from serving.settings import cores

BATCH = 64  # images of the request of several


def section(name: str, workload: dict[str, Any]) -> list[str]:
    """One workload's part of the report."""
    lines = [
        f"## {name}",
        "",
        f"{workload['sent']}; the graph of {workload['bundle']}; oodgate's engine is {workload['engine']}. Medians of "
        f"{workload['rounds']} rounds of {workload['seconds']} s in turns; load average {workload['load']:.1f}.",
        "",
        "| connections | server | requests/s | p50, ms | p99, ms | refused | RSS, MB | oodgate's rate / this "
        "| oodgate's p99 / this |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['connections']} | {row['server']} | {row['requests/s']:.0f} | {row['p50 ms']:.2f} | {row['p99 ms']:.2f} "
        f"| {row['refused']} | {row['RSS MB']:.0f} | {row['oodgate is']:.2f} | {row['p99 is']:.2f} |"
        for row in workload["classify"]
    ]
    if batch := workload.get("batch"):
        lines += [
            "",
            f"A request of {BATCH} images, one at a time:",
            "",
            "| | over HTTP, ms | in process, ms | speed |",
        ]
        lines += ["|---|---|---|---|"]
        for kind, text in (("files", "image files"), ("array", ".npy array")):
            outside, inside = 1e3 * batch[f"{kind} over HTTP"], 1e3 * batch[f"{kind} in process"]
            lines.append(f"| {text} | {outside:.1f} | {inside:.1f} | {batch[f'{kind} ratio']:.2f} |")
    return [*lines, ""]


def markdown(workloads: dict[str, dict[str, Any]]) -> str:
    """The report."""
    lines = [
        "# How fast the service is",
        "",
        f"Measured by `python -m benchmarks.serving --write` on one machine ({cores()} cores, {processor()}, Python "
        f"{platform.python_version()}), wrk on the same cores. The same image and the same graph everywhere, in fp32 but on",
        "oodgate where a bundle is called bf16.",
        "`bare` is Starlette, uvicorn and ONNX Runtime on the event loop, `bare, threads` the same in its thread pool,",
        "`BentoML` a plain endpoint with an image argument; the others are as their documentation shows them"
        " (`benchmarks/peers/`). RSS counts what a server's processes share in each of them. A rate is of "
        "decisions; `refused` are answers of other kinds, and requests without an answer, of all rounds. What is not "
        "answered when a round ends does not count, nor its time, which flatters the p99 of 64 connections at 224 pixels.",
        "" if BF16 & {*machine_flags()} else "This CPU has no instructions for bf16, so no bundle in bf16 was served.",
        "",
    ]
    for name, workload in workloads.items():
        lines += section(name, workload)
    return "\n".join(lines)


def sent(file: Path) -> str:
    """An image in words."""
    with Image.open(file) as image:
        return f"{image.format} of {image.width} x {image.height} pixels, {file.stat().st_size / 1024:.0f} kB"
