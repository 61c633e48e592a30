"""How fast is each engine on this machine's GPU, and what does the gate cost there?

    python -m benchmarks.gpu

Takes every engine that works here (ONNX Runtime on CUDA, TensorRT and TensorRT-RTX, both of these on their own, torch eager
and compiled), on WRN-40-2 and ResNet-18 and -50, in fp32, fp16 and int8, at batches of 1 to 256. Each one's logits and
scores are compared with ONNX Runtime's on the CPU before it is timed. The gate's overhead is the graph with six scores
against the same graph whose scores are its logits, in turns. Further bundles can be named. Writes OUT.json and OUT.md after
every graph, with what could not be timed and why; ``--cpu`` runs what needs no GPU.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_args

import torch

from benchmarks.gpu.calls import compiled_run, engine_run, engines, torch_run
from benchmarks.gpu.graphs import LARGE, SMALL, architectures, exported, in_precision, without_scores
from benchmarks.gpu.report import Case, Findings
from benchmarks.gpu.timing import measure
from benchmarks.machine import processor
from benchmarks.paths import MEASURED
from export.exceptions import ExportError
from runtime.bundle import Bundle
from runtime.command import run
from runtime.engines import selection
from runtime.engines.gpu import Gpu, find_gpu
from runtime.engines.interface import EngineName
from runtime.exceptions import EngineError
from runtime.manifest import Precision

BATCHES = (1, 4, 16, 64, 256)
CPU_BATCHES = (1, 8)
_SECONDS = 1.0
_PACKAGES = (
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    "tensorrt",
    "tensorrt-rtx-cu13-bindings",
    "cuda-python",
    "numpy",
)


def measure_bundle(
    findings: Findings,
    of: Bundle,
    bare: Bundle | None,
    names: Sequence[EngineName],
    batches: Sequence[int],
    seconds: float,
    cache: Path,
) -> None:
    """Every engine on a bundle, with the gate's overhead where there is a bundle without it."""
    others = {engine.name: engine for engine in engines(bare, names, batches[-1], cache, None)} if bare else {}
    for engine in engines(of, names, batches[-1], cache, findings):
        case = Case(of.manifest.model.name, of.manifest.model.precision, engine.name)
        other, loaded = others.get(engine.name), getattr(engine, "loaded", None)
        call, without = engine_run(engine), engine_run(other) if other else None
        measure(findings, case, of, lambda call=call: call, batches, seconds, without, loaded and loaded.spec)  # type: ignore[misc]


def measure_torch(
    findings: Findings, module: torch.nn.Module, of: Bundle, device: str, batches: Sequence[int], seconds: float
) -> None:
    """Torch, eager and, on a GPU, compiled and in fp16."""
    module = module.to(device, memory_format=torch.channels_last)
    kinds: tuple[Precision, ...] = ("fp32", "fp16") if device == "cuda" else ("fp32",)
    for precision in kinds:
        eager = torch_run(module, device, precision)
        measure(findings, Case(of.manifest.model.name, precision, "torch"), of, lambda run=eager: run, batches, seconds)  # type: ignore[misc]
    for precision in kinds if device == "cuda" else ():
        measure(
            findings,
            Case(of.manifest.model.name, precision, "torch, compiled"),
            of,
            lambda precision=precision: compiled_run(module, device, precision),  # type: ignore[misc]
            batches[::2],  # each size is compiled, which takes longer than all timings
            seconds,
        )


def machine(gpu: Gpu | None) -> dict[str, str]:
    """What was timed on what."""
    found = {"cpu": processor(), "system": platform.platform(), "python": platform.python_version()}
    if gpu:
        found |= {"gpu": gpu.name, "compute capability": f"{gpu.capability / 10:.1f}", "driver": gpu.driver}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE", help="further bundles to time")
    parser.add_argument(
        "--arch", nargs="+", help="architectures (default: WRN-40-2, ResNet-18 and -50); timm:NAME at 224"
    )
    parser.add_argument("--precision", nargs="+", choices=get_args(Precision), default=get_args(Precision))
    parser.add_argument("--batch", nargs="+", type=int, help="batch sizes (default: 1 to 256)")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for one timing (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="what needs no GPU")
    parser.add_argument(
        "--out", type=Path, default=MEASURED / "performance", help="without suffix (default: docs/measured/performance)"
    )
    args = parser.parse_args(argv)
    gpu = None
    if not args.cpu:
        try:
            gpu = find_gpu()
        except EngineError as error:
            raise EngineError(f"{error}; --cpu times what needs none") from error
    names: tuple[EngineName, ...] = tuple(selection.GPU_ENGINES) if gpu else ("onnxruntime-cpu",)
    batches = sorted(args.batch or (BATCHES if gpu else CPU_BATCHES))
    named = {arch: LARGE if arch.startswith("timm:") else SMALL for arch in args.arch or ()}
    findings = Findings(args.out, machine(gpu))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for arch, spec in (named or architectures()).items():
            module, fp32 = exported(arch, spec, folder)
            for precision in args.precision:
                try:
                    gated = in_precision(fp32, precision, "tensorrt" if gpu else "cpu")
                except ExportError as error:
                    findings.skip(Case(arch, precision, "every engine"), None, error)
                    continue
                bare = without_scores(gated, gated.path.with_name(f"{gated.path.name}-bare"))
                measure_bundle(findings, gated, bare, names, batches, args.seconds, folder / "cache")
                findings.write()
            if gpu and not torch.cuda.is_available():
                findings.skip(Case(arch, "fp32", "torch"), None, EngineError(f"torch {torch.__version__} has no CUDA"))
            else:
                measure_torch(findings, module, fp32, "cuda" if gpu else "cpu", batches, args.seconds)
            findings.write()
        for index, path in enumerate(args.bundles):
            copy = Bundle.load(shutil.copytree(path, folder / f"named-{index}"))  # engines are put into it
            measure_bundle(findings, copy, None, names, batches, args.seconds, folder / "cache")
    print(findings.write())
    return 0


if __name__ == "__main__":
    run(main)
