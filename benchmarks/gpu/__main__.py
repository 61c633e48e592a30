"""How fast is each engine on this machine's GPU, and what does the gate cost there?

    python -m benchmarks.gpu

Takes every engine that works here (ONNX Runtime on CUDA, TensorRT and TensorRT-RTX, both of these on their own) and torch
(eager, as a CUDA graph, compiled, and both) on ResNet-50 and -18, EfficientNet-lite0 and WRN-40-2, in fp16, fp32 and bf16, at
batches of 1 to 256. Each one's logits and scores are compared with ONNX Runtime's on the CPU before it is timed. The gate's
overhead is the graph with six scores against the same graph whose scores are its logits, in turns. Then come decisions in
process, and over HTTP where wrk and bentoml are installed. Further bundles can be named. Writes OUT.json and OUT.md after
every row, with what could not be timed and why; ``--cpu`` runs what needs no GPU. benchmarks/gpu_kit.py takes what is missing
to a machine without a network.
"""

from __future__ import annotations

import argparse
import math
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

import torch

from benchmarks.gpu.calls import Run, engine_run, engines
from benchmarks.gpu.ceilings import ceilings
from benchmarks.gpu.graphs import LARGE, SMALL, Images, architectures, exported, in_precision, without_scores
from benchmarks.gpu.peers import DTYPES, Forward, InPrecision, compiled, torch_run
from benchmarks.gpu.report import Case, Findings
from benchmarks.gpu.service import gated, in_process, over_http
from benchmarks.gpu.timing import measure
from benchmarks.machine import processor
from benchmarks.paths import MEASURED
from export.exceptions import ExportError
from export.from_torch.network.backbone import Backbone
from runtime.bundle import Bundle
from runtime.command import run
from runtime.engines import selection
from runtime.engines.gpu import Gpu, find_gpu
from runtime.engines.interface import EngineName
from runtime.exceptions import EngineError
from runtime.manifest import Precision

BATCHES = (1, 8, 64, 256)
CPU_BATCHES = (1, 8)
STEPS = ("engines", "torch", "service")
_PRECISIONS = ("fp16", "fp32", "bf16")
_BUNDLES: tuple[Precision, ...] = ("fp32", "fp16", "int8")
PRECISIONS = (*_PRECISIONS, "int8")
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
        measure(findings, case, of, lambda _, call=call: call, batches, seconds, without, loaded and loaded.spec)  # type: ignore[misc]


def measure_torch(
    findings: Findings,
    backbone: Backbone,
    of: Bundle,
    precision: str,
    device: str,
    batches: Sequence[int],
    seconds: float,
    compiling: Sequence[int],
) -> None:
    """Torch in one precision, eager and, on a GPU, as a CUDA graph and compiled, for the batches of `compiling`, and both."""
    torch.backends.cudnn.benchmark = True  # each batch size has its own row
    module = InPrecision(backbone, DTYPES[precision]).to(device).eval()
    name = of.manifest.model.name

    def case(kind: str, some: Sequence[int], forward: Forward, graph: bool = False, pinned: bool = False) -> None:
        def make(images: Images) -> Run:
            return torch_run(forward, device, images, graph=graph, pinned=pinned)

        measure(findings, Case(name, precision, kind), of, make, some, seconds)

    case("torch", batches, module)
    if device != "cuda":
        return
    case("torch, CUDA graph", batches, module, graph=True)
    for batch in compiling:
        forward = compiled(module)
        case("torch, compiled", [batch], forward)
        case("torch, compiled, CUDA graph", [batch], forward, graph=True)
        case("torch, compiled, CUDA graph, images pinned", [batch], forward, graph=True, pinned=True)


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
    args = _parser().parse_args(argv)
    gpu = None
    if not args.cpu:
        try:
            gpu = find_gpu()
        except EngineError as error:
            raise EngineError(f"{error}; --cpu times what needs none") from error
    with ExitStack() as stack:
        folder = args.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        findings = Findings(args.out, machine(gpu), until=time.monotonic() + args.minutes * 60)
        for file in args.add or ():
            findings.add(file)
        findings.known = ceilings() if gpu and torch.cuda.is_available() else None
        _Run(args, findings, gpu, folder).run()
        print(findings.write())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE", help="further bundles to time")
    parser.add_argument(
        "--arch", nargs="+", help="architectures, timm:NAME at 224 (default: ResNet-50 and -18, and others)"
    )
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, default=_PRECISIONS, help="default: fp16, fp32, bf16"
    )
    parser.add_argument("--batch", nargs="+", type=int, help="batch sizes (default: 1, 8, 64, 256)")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="default: all")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for one timing (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="after which no more is timed (default: no end)"
    )
    parser.add_argument("--cpu", action="store_true", help="what needs no GPU")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where networks and engines are kept for the next run")
    parser.add_argument("--add", nargs="+", type=Path, metavar="JSON", help="what earlier runs found on this machine")
    parser.add_argument(
        "--out", type=Path, default=MEASURED / "performance", help="without suffix (default: docs/measured/performance)"
    )
    return parser


class _Run:
    """All steps in turn; each survives what happens to the others."""

    def __init__(self, args: argparse.Namespace, findings: Findings, gpu: Gpu | None, folder: Path) -> None:
        self.args, self.findings, self.gpu, self.folder = args, findings, gpu, folder
        self.names: tuple[EngineName, ...] = tuple(reversed(selection.GPU_ENGINES)) if gpu else ("onnxruntime-cpu",)
        self.batches = sorted(args.batch or (BATCHES if gpu else CPU_BATCHES))
        self.cache = folder / "cache"

    def run(self) -> None:
        """The architectures, then the service with the first, then the further bundles."""
        named = {arch: LARGE if arch.startswith("timm:") else SMALL for arch in self.args.arch or ()}
        first: Bundle | None = None
        for arch, spec in (named or architectures()).items():
            backbone, fp32 = exported(arch, spec, self.folder)
            for precision in self.args.precision:
                if "engines" in self.args.steps:
                    self._step(Case(arch, precision, "every engine"), lambda: self._engines(fp32, precision))  # noqa: B023
                if "torch" in self.args.steps and precision in DTYPES:
                    self._step(Case(arch, precision, "torch"), lambda: self._torch(backbone, fp32, precision, first))  # noqa: B023
            first = first or fp32
        if first and "service" in self.args.steps:
            self._service(first)
        for index, path in enumerate(self.args.bundles):
            copy = Bundle.load(shutil.copytree(path, self.folder / f"named-{index}"))  # engines are put into it
            self._step(Case(path.name, "", "every engine"), lambda: self._measure(copy, None))  # noqa: B023

    def _step(self, case: Case, work: Callable[[], None]) -> None:
        try:
            if self.findings.late:
                raise EngineError("no time was left")
            work()
        except Exception as error:  # whatever a library raises, the others are still to be timed
            self.findings.skip(case, None, error)
        self.findings.write()

    def _engines(self, fp32: Bundle, precision: str) -> None:
        if precision not in _BUNDLES:
            raise ExportError(f"no bundle for a GPU is in {precision}: there are {', '.join(_BUNDLES)}")
        bundle = in_precision(fp32, cast(Precision, precision), "tensorrt" if self.gpu else "cpu")
        self._measure(bundle, without_scores(bundle, bundle.path.with_name(f"{bundle.path.name}-bare")))

    def _measure(self, of: Bundle, bare: Bundle | None) -> None:
        measure_bundle(self.findings, of, bare, self.names, self.batches, self.args.seconds, self.cache)

    def _torch(self, backbone: Backbone, fp32: Bundle, precision: str, first: Bundle | None) -> None:
        if self.gpu and not torch.cuda.is_available():
            raise EngineError(f"torch {torch.__version__} has no CUDA")
        # each size is compiled, which takes longer than all timings: where all engines are compared, and in fp16
        compiling = self.batches[::2] if first is None or precision == "fp16" else []
        device = "cuda" if self.gpu else "cpu"
        measure_torch(self.findings, backbone, fp32, precision, device, self.batches, self.args.seconds, compiling)

    def _service(self, fp32: Bundle) -> None:
        name: EngineName = "onnxruntime-cuda" if self.gpu else "onnxruntime-cpu"
        case = Case(fp32.manifest.model.name, "fp16", f"{name}, the gate")
        made: list[Bundle] = []

        def process() -> None:
            made.append(gated(in_precision(fp32, "fp16", "cpu"), name, self.cache))
            in_process(self.findings, made[0], name, self.cache, self.args.seconds)

        self._step(case, process)
        if made:
            self._step(
                case, lambda: over_http(self.findings, made[0], name, self.folder, max(1, round(self.args.seconds)))
            )


if __name__ == "__main__":
    run(main)
