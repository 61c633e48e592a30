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
import dataclasses
import importlib.util
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import onnx
import torch
from tqdm import tqdm

from benchmarks.engine_report import Case, Findings, Row
from benchmarks.machine import processor
from export import head
from export.convert.half import to_half
from export.convert.int8 import Int8Options, Target, quantise
from export.exceptions import ExportError
from export.from_torch.backbone import Backbone, assemble
from export.from_torch.classifier import Classifier
from export.graph import LOGITS
from export.tensorrt.attach import attach
from export.tensorrt.build import build
from export.tensorrt.options import BuildOptions
from runtime import bundle
from runtime.bundle import MODEL, Bundle
from runtime.command import run
from runtime.engines import selection
from runtime.engines.gpu import Gpu, find_gpu
from runtime.engines.interface import Engine, EngineName, EngineOptions
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.engines.trt.cuda import Cuda
from runtime.exceptions import EngineError
from runtime.manifest import InputSpec, NativeRuntime, Precision
from train import models

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Run = Callable[[Images], tuple[Floats, Floats | None]]
"""From images to logits and scores; None where there are none."""

DOCS = Path(__file__).resolve().parent.parent / "docs"
BATCHES = (1, 4, 16, 64, 256)
CPU_BATCHES = (1, 8)
_CLASSES, _SECONDS, _CALLS, _CHECKED, _TOLERANCE = 10, 1.0, 100, 8, 0.1
_SMALL = InputSpec(32, 32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
_LARGE = dataclasses.replace(_SMALL, height=224, width=224)
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


# --- what is timed


def architectures() -> dict[str, InputSpec]:
    """What is timed where nothing is named; timm's networks where it is installed."""
    if importlib.util.find_spec("timm") is None:
        tqdm.write("timm is not installed: the project's ResNet-18 at 32x32 instead of ResNet-18 and -50 at 224x224")
        return {"wrn-40-2": _SMALL, "resnet18": _SMALL}
    return {"wrn-40-2": _SMALL, "timm:resnet18": _LARGE, "timm:resnet50": _LARGE}


def exported(arch: str, spec: InputSpec, folder: Path) -> tuple[torch.nn.Module, Bundle]:
    """An untrained network and its bundle; its batch norms have statistics, so that nothing over- or underflows."""
    torch.manual_seed(0)
    module = models.make(arch, _CLASSES)
    labels = tuple(f"class {k}" for k in range(_CLASSES))
    classifier = Classifier(module, arch, "none", "multiclass", labels, spec)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # the statistics of one batch
    backbone = Backbone(module, spec).train()
    with torch.no_grad():
        backbone(torch.from_numpy(pictures(32, spec)))
    backbone.eval()
    model, manifest = assemble(classifier, arch, {})
    return backbone, bundle.write(folder / arch.replace(":", "-"), manifest, {MODEL: head.seal(model, manifest)}, {})


def pictures(count: int, spec: InputSpec, seed: int = 0) -> Images:
    """Images of large squares, of different brightness and contrast."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(rng.uniform(60, 190, (count, 1, 1, 1)), rng.uniform(10, 80, (count, 1, 1, 1)), (count, 4, 4, 3))
    enlarged = coarse.repeat(-(-spec.height // 4), axis=1).repeat(-(-spec.width // 4), axis=2)
    return np.ascontiguousarray(enlarged[:, : spec.height, : spec.width].clip(0, 255).astype(np.uint8))


def in_precision(of: Bundle, precision: Precision, target: Target) -> Bundle:
    """A bundle in another precision, without a gate."""
    if precision == "fp32":
        return of
    model = onnx.load_from_string(of.model)
    if precision == "fp16":
        to_half(model)
    else:
        some = pictures(32, of.manifest.input, seed=1)
        quantise(model, some, some, Int8Options(target, "minmax"))
    spec = dataclasses.replace(of.manifest.model, precision=precision)
    manifest = dataclasses.replace(of.manifest, model=spec, files={}, engines={})
    return bundle.write(
        of.path.with_name(f"{of.path.name}-{precision}"), manifest, {MODEL: head.seal(model, manifest)}, {}
    )


def without_scores(gated: Bundle, path: Path) -> Bundle:
    """A bundle whose scores are its logits: what an engine takes without the gate."""
    model = onnx.load_from_string(gated.model)
    head.set_columns(model, [LOGITS])
    width = len(gated.manifest.labels)
    shape = next(output for output in model.graph.output if output.name == "scores").type.tensor_type.shape
    shape.dim[1].dim_value = width
    scores = tuple(f"logit {k}" for k in range(width))
    manifest = dataclasses.replace(
        gated.manifest, scores=scores, score_parameters={}, gate=None, merged={}, files={}, engines={}
    )
    return bundle.write(path, manifest, {MODEL: head.seal(model, manifest)}, {})


# --- engines


def engine_run(engine: Engine) -> Run:
    """An engine's call."""

    def call(images: Images) -> tuple[Floats, Floats | None]:
        outputs = engine.run(images)
        return outputs.logits, outputs.scores

    return call


def engines(
    of: Bundle, names: Sequence[EngineName], largest: int, cache: Path, findings: Findings | None
) -> Iterator[Engine]:
    """Those of the named engines that work here, native ones built first; `findings` keeps why the others don't."""
    for name in names:
        try:
            if name == "tensorrt" or name == "tensorrt-rtx":  # one by one, mypy knows the type
                of = with_engine(of, name, largest)
            yield selection.load(of, EngineOptions(name, cache=cache))
        except Exception as error:  # whatever a library raises, the others are still to be timed
            if findings:
                findings.skip(Case(of.manifest.model.name, of.manifest.model.precision, name), None, error)


def with_engine(of: Bundle, runtime: NativeRuntime, largest: int) -> Bundle:
    """A bundle with a native engine for this GPU.

    Raises:
        ExportError: none can be built.
    """
    options = BuildOptions(runtime, (find_gpu().capability,), (1, min(32, largest), largest))
    return attach(of, build(of, options))[0]


def torch_run(module: torch.nn.Module, device: str, precision: Precision) -> Run:
    """Torch's call; fp16 by autocast."""

    def call(images: Images) -> tuple[Floats, Floats | None]:
        with torch.inference_mode(), torch.autocast(device, torch.float16, enabled=precision == "fp16"):
            logits, _ = module(torch.from_numpy(images).to(device))
        return np.asarray(logits.float().cpu().numpy()), None  # the copy waits for the device

    return call


def compiled_run(module: torch.nn.Module, device: str, precision: Precision) -> Run:
    """The same compiled, for one batch size: torch goes back to eager, unsaid, after a few recompilations."""
    torch.compiler.reset()
    return torch_run(torch.compile(module, mode="reduce-overhead", dynamic=False), device, precision)  # type: ignore[arg-type]


# --- timing


def timed(calls: Sequence[Run], images: Images, seconds: float) -> list[list[float]]:
    """Seconds of each call, in turns after a warm-up, for as long as `seconds` each and 100 times; slow calls fewer times."""
    begin = time.perf_counter()
    warm = 0
    while warm < 3 or time.perf_counter() - begin < seconds / 4:  # until clocks have risen
        for call in calls:
            call(images)
        warm += 1
    times: list[list[float]] = [[] for _ in calls]
    turns = list(zip(calls, times, strict=True))
    enough, begin = seconds * len(calls), time.perf_counter()
    while True:
        for call, own in turns:
            start = time.perf_counter()
            call(images)
            own.append(time.perf_counter() - start)
        turns.reverse()  # none always goes first
        done, spent = len(times[0]), time.perf_counter() - begin
        if spent >= enough and (done >= _CALLS or (done >= _CALLS // 5 and spent >= 10 * enough)):
            return times


@cache
def copies(images: int, results: int, seconds: float) -> tuple[float, float] | None:
    """Median seconds of copying so many bytes to the device, and so many back; None where CUDA can't be called."""
    try:
        cuda = Cuda()
    except EngineError:
        return None
    size = max(images, results)
    device, host, stream = cuda.device_memory(size), cuda.pinned_memory(size), cuda.stream()

    def there(_: Images) -> Any:
        cuda.to_device(device, host, images, stream)
        cuda.wait(stream)

    def back(_: Images) -> Any:
        cuda.to_host(host, device, results, stream)
        cuda.wait(stream)

    try:
        nothing = np.empty(0, np.uint8)
        to_device, to_host = map(statistics.median, timed([there, back], nothing, seconds))
        return to_device, to_host
    finally:
        cuda.free(device)
        cuda.free_pinned(host)
        cuda.destroy_stream(stream)


def difference(call: Run, cpu: OnnxRuntimeCpu, images: Images) -> float:
    """The largest difference of a logit from the CPU's, as a share of their range, on some images of the batch.

    Raises:
        ExportError: it, or that of a score as a share of the largest, is so large that something else is computed, which
            must not be timed.
    """
    some = np.unique(np.linspace(0, len(images) - 1, min(len(images), _CHECKED)).astype(int))
    expected = cpu.run(images[some])
    logits, scores = call(images)
    share = float(np.abs(logits[some] - expected.logits).max() / np.ptp(expected.logits))
    if not share <= _TOLERANCE:
        raise ExportError(f"the logits differ from the CPU's by {share:.0%} of their range")
    if scores is not None:
        off = np.abs(scores[some] - expected.scores).max(axis=0) / np.abs(expected.scores).max(axis=0)
        if not off.max() <= _TOLERANCE:
            raise ExportError(f"the scores differ from the CPU's by up to {off.max():.0%}")
    return share


def measure(
    findings: Findings,
    case: Case,
    of: Bundle,
    make: Callable[[], Run],
    batches: Sequence[int],
    seconds: float,
    bare: Run | None = None,
    spec: Any = None,
) -> None:
    """One row a batch size; what fails at one is kept and left out.

    Args:
        findings: to add to.
        case: what is timed.
        of: the bundle that it is compared with.
        make: makes the call, for each batch size anew.
        batches: the sizes.
        seconds: of each timing.
        bare: the same without the gate.
        spec: of a native engine.
    """
    cpu = OnnxRuntimeCpu(of.model)
    results = 4 * (len(of.manifest.labels) + len(of.manifest.scores))
    for batch in tqdm(batches, desc=f"{case.model}, {case.precision}, {case.engine}", disable=None, leave=False):
        try:
            images, call = pictures(batch, of.manifest.input), make()
            share = difference(call, cpu, images)
            times, *without = timed([call, bare] if bare else [call], images, seconds)
        except Exception as error:  # whatever a peer raises, the others are still to be timed
            findings.skip(case, batch, error)
            continue
        median = statistics.median(times)
        copied = copies(images.nbytes, batch * results, seconds / 4) if "gpu" in findings.machine else None
        findings.rows.append(
            Row(
                case=case,
                batch=batch,
                median_ms=1e3 * median,
                p99_ms=1e3 * float(np.quantile(times, 0.99)),
                images_per_second=batch / median,
                gate=median / statistics.median(without[0]) if without else None,
                to_device=copied[0] / median if copied else None,
                to_host=copied[1] / median if copied else None,
                difference=share,
                kernels=spec.kernels if spec else None,
                head_kernels=spec.head_kernels if spec else None,
            )
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


# --- the page


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
        "--out", type=Path, default=DOCS / "performance", help="without suffix (default: docs/performance)"
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
    named = {arch: _LARGE if arch.startswith("timm:") else _SMALL for arch in args.arch or ()}
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
