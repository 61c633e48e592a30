"""How fast is each engine on this machine's GPU, and what does the gate cost there?

    python -m benchmarks.gpu

Takes every engine that works here (torch eager and compiled, ONNX Runtime on CUDA, TensorRT and TensorRT-RTX, and both
of these on their own), on WRN-40-2 and ResNet-18 and -50, at batches of 1 to 256. Each one's numbers are compared with
ONNX Runtime's on the CPU before it is timed. Further bundles, such as quantised ones, can be named and are timed too. The
gate's overhead is the graph with six scores against the same graph whose scores are its logits. Writes OUT.json and
OUT.md; ``--cpu`` runs what needs no GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from tqdm import tqdm

from export import head
from export.artifact import assemble, seal
from export.backbone import Backbone
from export.classifier import Classifier
from export.exceptions import ExportError
from export.layout import layout
from export.tensorrt.attach import attach
from export.tensorrt.build import build
from export.tensorrt.options import BuildOptions
from runtime import bundle
from runtime.bundle import MODEL, Bundle
from runtime.command import run
from runtime.engines import selection
from runtime.engines.cuda import Cuda
from runtime.engines.gpu import Gpu, find_gpu
from runtime.engines.interface import Engine
from runtime.engines.onnxruntime_cpu import OnnxRuntimeCpu
from runtime.engines.options import EngineName, EngineOptions
from runtime.exceptions import EngineError, OodgateError
from runtime.manifest import InputSpec, NativeRuntime
from train import models

Images = npt.NDArray[np.uint8]
Run = Callable[[Images], npt.NDArray[np.float32]]

DOCS = Path(__file__).resolve().parent.parent / "docs"
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CPU_BATCHES = (1, 8)
_CLASSES, _SECONDS, _CALLS = 10, 2.0, 20
_SMALL = InputSpec(32, 32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
_LARGE = dataclasses.replace(_SMALL, height=224, width=224)
_PACKAGES = (
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx-cu13-bindings",
    "cuda-python",
    "numpy",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One engine on one graph at one batch size.

    Attributes:
        model, precision, engine, batch: what was timed.
        median_ms, p99_ms: of a call, from images in the host's memory to logits and scores there.
        images_per_second: at the median.
        gate: median with the gate over median without it; None where that was not timed.
        to_device, to_host: what the copies alone take, as a share of the median; None without a GPU.
        difference: largest difference of a logit from the CPU's, as a share of their range.
        kernels, head_kernels: of a native engine.
    """

    model: str
    precision: str
    engine: str
    batch: int
    median_ms: float
    p99_ms: float
    images_per_second: float
    gate: float | None
    to_device: float | None
    to_host: float | None
    difference: float
    kernels: int | None = None
    head_kernels: int | None = None


def architectures() -> dict[str, InputSpec]:
    """What is timed where nothing is named; timm's networks where it is installed."""
    timm = importlib.util.find_spec("timm") is not None
    large = {"timm:resnet18": _LARGE, "timm:resnet50": _LARGE} if timm else {"resnet18": _SMALL}
    return {"wrn-40-2": _SMALL, **large}


def exported(arch: str, spec: InputSpec, folder: Path) -> tuple[torch.nn.Module, Bundle, Bundle]:
    """A network, its bundle, and its bundle without scores."""
    torch.manual_seed(0)
    module = models.make(arch, _CLASSES).eval()
    labels = tuple(f"class {k}" for k in range(_CLASSES))
    classifier = Classifier(module, arch, "none", "multiclass", labels, spec)
    model, manifest = assemble(classifier, arch, {})
    name = arch.replace(":", "-")
    gated = bundle.write(folder / name, manifest, {MODEL: seal(model, manifest)}, {})
    return Backbone(classifier.module, spec).eval(), gated, without_scores(gated, folder / f"{name}-bare")


def without_scores(gated: Bundle, path: Path) -> Bundle:
    """A bundle whose scores are its logits: what an engine takes without the gate."""
    model = onnx.load_from_string(gated.model)
    head.set_columns(model, [head.LOGITS])
    width = len(gated.manifest.labels)
    next(output for output in model.graph.output if output.name == "scores").type.tensor_type.shape.dim[
        1
    ].dim_value = width
    scores = tuple(f"logit {k}" for k in range(width))
    manifest = dataclasses.replace(
        gated.manifest, scores=scores, score_parameters={}, gate=None, calibration=None, merged={}, files={}, engines={}
    )
    return bundle.write(path, manifest, {MODEL: seal(model, manifest)}, {})


def torch_runs(module: torch.nn.Module, device: str) -> Iterator[tuple[str, str, Run]]:
    """Torch, eager and compiled: name, precision, call."""
    module = module.to(device)

    def caller(call: Any, half: bool) -> Run:
        def run(images: Images) -> npt.NDArray[np.float32]:
            with torch.inference_mode(), torch.autocast(device, torch.float16, enabled=half):
                logits, _ = call(torch.from_numpy(images).to(device))
            return np.asarray(logits.float().cpu().numpy())

        return run

    yield "torch", "fp32", caller(module, False)
    if device == "cuda":
        compiled = torch.compile(module, mode="max-autotune-no-cudagraphs", dynamic=False)
        yield "torch, compiled", "fp32", caller(compiled, False)
        yield "torch", "fp16", caller(module, True)
        yield "torch, compiled", "fp16", caller(compiled, True)


def engines(of: Bundle, names: Sequence[EngineName], largest: int, cache: Path) -> Iterator[Engine]:
    """Those of the named engines that work here; native ones are built first."""
    for runtime in ("tensorrt", "tensorrt-rtx"):
        if runtime in names:
            of = with_engine(of, runtime, largest)
    for name in names:
        try:
            yield selection.load(of, EngineOptions(name, cache=cache))
        except EngineError as error:
            tqdm.write(str(error))


def with_engine(of: Bundle, runtime: NativeRuntime, largest: int) -> Bundle:
    """A bundle with an engine for this GPU, where one can be built."""
    try:
        options = BuildOptions(runtime, (find_gpu().capability,), (1, min(32, largest), largest))
        return attach(of, build(of, options))[0]
    except OodgateError as error:
        tqdm.write(f"no {runtime} engine: {error}")
        return of


def timed(calls: Sequence[Run], images: Images, seconds: float) -> list[list[float]]:
    """Seconds of each call, in turns after a warm-up, for as long as `seconds` each and at least 20 times."""
    for call in calls * 3:
        call(images)
    times: list[list[float]] = [[] for _ in calls]
    while len(times[0]) < _CALLS or sum(map(sum, times)) < seconds * len(calls):
        for call, own in zip(calls, times, strict=True):
            start = time.perf_counter()
            call(images)
            own.append(time.perf_counter() - start)
    return times


def copies(images: int, results: int, seconds: float) -> tuple[float, float] | None:
    """Median seconds of copying so many bytes to the device, and so many back; None where CUDA can't be called."""
    try:
        cuda = Cuda()
        device, host, stream = cuda.device_memory(images), cuda.pinned_memory(images), cuda.stream()
    except EngineError:
        return None

    def there(_: Images) -> Any:
        cuda.to_device(device, host, images, stream)
        cuda.wait(stream)

    def back(_: Images) -> Any:
        cuda.to_host(host, device, min(results, images), stream)
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
    """The largest difference of a logit from the CPU's, as a share of their range.

    Raises:
        ExportError: it is so large that something else is computed, and must not be timed.
    """
    expected = cpu.run(images).logits
    share = float(np.abs(call(images) - expected).max() / np.ptp(expected))
    if not share <= 0.1:
        raise ExportError(f"the logits differ from the CPU's by {share:.0%} of their range")
    return share


def measure(
    title: str,
    kind: str,
    name: str,
    call: Run,
    bare: Run | None,
    of: Bundle,
    batches: Sequence[int],
    seconds: float,
    spec: Any = None,
) -> Iterator[Row]:
    """One row a batch size."""
    cpu, size = OnnxRuntimeCpu(of.model), of.manifest.input
    rng = np.random.default_rng(0)
    for batch in tqdm(batches, desc=f"{title}, {kind}, {name}", disable=None, leave=False):
        images = rng.integers(0, 256, (batch, size.height, size.width, 3), dtype=np.uint8)
        share = difference(call, cpu, images)
        times, *without = timed([call, bare] if bare else [call], images, seconds)
        median = statistics.median(times)
        copied = copies(images.nbytes, 4 * batch * (_CLASSES + len(of.manifest.scores)), seconds / 4)
        yield Row(
            title,
            kind,
            name,
            batch,
            1e3 * median,
            1e3 * float(np.quantile(times, 0.99)),
            batch / median,
            median / statistics.median(without[0]) if without else None,
            copied[0] / median if copied else None,
            copied[1] / median if copied else None,
            share,
            spec.kernels if spec else None,
            spec.head_kernels if spec else None,
        )


def measure_bundle(
    of: Bundle, bare: Bundle | None, names: Sequence[EngineName], batches: Sequence[int], seconds: float, cache: Path
) -> Iterator[Row]:
    """Every engine on a bundle, with the gate's overhead where there is a bundle without it."""
    kind = of.manifest.model.precision
    others = {engine.name: engine for engine in engines(bare, names, batches[-1], cache)} if bare else {}
    for engine in engines(of, names, batches[-1], cache):
        other = others.get(engine.name)
        loaded = getattr(engine, "loaded", None)
        yield from measure(
            of.manifest.model.name,
            kind,
            engine.name,
            lambda images, engine=engine: engine.run(images).logits,  # type: ignore[misc]
            (lambda images, other=other: other.run(images).logits) if other else None,  # type: ignore[misc]
            of,
            batches,
            seconds,
            loaded.spec if loaded else None,
        )


def machine(gpu: Gpu | None) -> dict[str, str]:
    """What was timed on what."""
    found = {"cpu": platform.processor() or platform.machine(), "system": platform.platform()}
    if gpu:
        found |= {"gpu": gpu.name, "compute capability": f"{gpu.capability / 10:.1f}", "driver": gpu.driver}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def markdown(rows: Sequence[Row], described: dict[str, str]) -> str:
    """The page."""
    header = [
        "model",
        "precision",
        "engine",
        "batch",
        "median, ms",
        "p99, ms",
        "images/s",
        "gate",
        "copy in",
        "copy out",
    ]
    header += ["difference", "kernels", "of the head"]

    def cell(value: float | None, text: str) -> str:
        return "" if value is None else format(value, text)

    cells = [
        [
            *(row.model, row.precision, row.engine, str(row.batch)),
            *(f"{row.median_ms:.3f}", f"{row.p99_ms:.3f}", f"{row.images_per_second:,.0f}", cell(row.gate, ".3f")),
            *(cell(row.to_device, ".1%"), cell(row.to_host, ".1%"), f"{row.difference:.1e}"),
            *(cell(row.kernels, "d"), cell(row.head_kernels, "d")),
        ]
        for row in rows
    ]
    facts = "\n".join(f"- {name}: {value}" for name, value in described.items())
    return (
        f"# Engines on {described.get('gpu', 'a CPU')}\n\nMade by `python -m benchmarks.gpu`. A call goes from images in "
        "the host's memory to logits and scores there. *gate* is the median with scores and decision over the median "
        "without them; *copy in* and *copy out* are what the copies alone take, as a share of the median; *difference* is "
        f"the largest of a logit from ONNX Runtime's on the CPU, as a share of their range.\n\n{facts}\n\n"
        f"{layout([header, *cells], markdown=True)}\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE", help="further bundles to time")
    parser.add_argument("--arch", nargs="+", help="architectures, at 32x32 (default: WRN-40-2, ResNet-18 and -50)")
    parser.add_argument("--batch", nargs="+", type=int, help="batch sizes (default: 1 to 256)")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for one timing (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="what needs no GPU")
    parser.add_argument("--out", type=Path, default=DOCS / "gpu", help="without suffix (default: docs/gpu)")
    args = parser.parse_args(argv)
    gpu = None
    if not args.cpu:
        try:
            gpu = find_gpu()
        except EngineError as error:
            raise EngineError(f"{error}; --cpu times what needs none") from error
    names: tuple[EngineName, ...] = tuple(selection.GPU_ENGINES) if gpu else ("onnxruntime-cpu",)
    batches = sorted(args.batch or (BATCHES if gpu else CPU_BATCHES))
    chosen = dict.fromkeys(args.arch, _SMALL) if args.arch else architectures()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        for arch, spec in chosen.items():
            module, gated, bare = exported(arch, spec, Path(folder))
            rows += measure_bundle(gated, bare, names, batches, args.seconds, cache)
            if not gpu or torch.cuda.is_available():
                for name, kind, call in torch_runs(module, "cuda" if gpu else "cpu"):
                    rows += measure(arch, kind, name, call, None, gated, batches, args.seconds)
        for path in args.bundles:
            rows += measure_bundle(Bundle.load(path), None, names, batches, args.seconds, cache)
    described = machine(gpu)
    text = markdown(rows, described)
    args.out.with_suffix(".md").write_text(text)
    report = {"machine": described, "rows": [dataclasses.asdict(row) for row in rows]}
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    run(main)
