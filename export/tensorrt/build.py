"""From a bundle's graph to an engine: parse, configure, build, and check what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.exceptions import ExportError
from export.images.leakage import QUANTISATION
from export.tensorrt.log import monitor, recorder
from export.tensorrt.options import BuildOptions
from export.tensorrt.report import Report, read_report
from runtime import atomic
from runtime.bundle import MODEL, Bundle
from runtime.engines.gpu import find_gpu
from runtime.engines.trt.library import check_validity, load_library, release
from runtime.exceptions import EngineError
from runtime.manifest import EngineSpec


@dataclass(frozen=True)
class Built:
    """An engine, and what the manifest says of it."""

    data: bytes
    spec: EngineSpec


def check_buildable(options: BuildOptions) -> tuple[Any, tuple[int, ...]]:
    """The runtime's module and the compute capabilities to build for.

    Raises:
        ExportError: the package or the GPU that a build needs is not here, or an unknown compute capability.
    """
    try:
        library = load_library(options.runtime)
        if options.runtime == "tensorrt":
            return library, (find_gpu().capability,)
    except EngineError as error:
        raise ExportError(f"can't build for {options.runtime}: {error}") from error
    known = [name for name in library.ComputeCapability.__members__ if name.startswith("SM")]
    if unknown := [target for target in options.targets if f"SM{target}" not in known]:
        known = sorted((name[2:] for name in known), key=int)
        raise ExportError(f"--sm {unknown[0]}: {options.runtime} {release(library)} builds for {', '.join(known)}")
    return library, options.targets


def build(bundle: Bundle, options: BuildOptions) -> Built:
    """Build an engine from a bundle's graph.

    Raises:
        ExportError: what is missing for a build, a graph made for something else, or what the builder says is wrong.
        GraphMismatch: the engine's tensors are not the manifest's.
    """
    if bundle.manifest.model.precision == "bf16":
        raise ExportError(
            f"{bundle.path}: only OpenVINO computes it in bf16; build an engine from an fp16 or int8 bundle"
        )
    if bundle.manifest.provenance.get(QUANTISATION, {}).get("target") == "cpu":
        raise ExportError(
            f"{bundle.path}: its int8 graph is for ONNX Runtime on a CPU, and TensorRT takes no zero points; convert the "
            "fp32 bundle with --precision int8 --int8-for tensorrt"
        )
    library, targets = check_buildable(options)
    log = recorder(library)
    builder = library.Builder(log)
    network = _parse(library, builder, log, bundle.model)
    config = _configure(library, builder, options, targets)
    profile = builder.create_optimization_profile()
    spec = bundle.manifest.input
    profile.set_shape("images", *((size, spec.height, spec.width, 3) for size in options.batches))
    config.add_optimization_profile(profile)
    config.progress_monitor = progress = monitor(library, f"{options.runtime} engine")
    try:
        plan = builder.build_serialized_network(network, config)
    finally:
        progress.bar.close()
    if plan is None:
        raise ExportError(f"{options.runtime} can't build the engine: {_first(log.errors)}")
    data = bytes(plan)
    _keep_timings(options.timing_cache, config)
    report = _verify(bundle, options, library, log, data)
    built = EngineSpec(
        runtime=options.runtime,
        release=release(library),
        targets=targets,
        precision=bundle.manifest.model.precision,
        batches=options.batches,
        model=bundle.manifest.files[MODEL].sha256,
        kernels=len(report.layers),
        head_kernels=len(report.head),
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
    )
    return Built(data, built)


def _parse(library: Any, builder: Any, log: Any, model: bytes) -> Any:
    """The network; strongly typed, so that the precision is the graph's."""
    strongly_typed = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = library.OnnxParser(network, log)
    if not parser.parse(model):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise ExportError(f"{library.__name__} can't parse the graph: {_first(errors or log.errors)}")
    return network


def _configure(library: Any, builder: Any, options: BuildOptions, targets: tuple[int, ...]) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED  # its account of layers; the size stays the same
    if options.runtime == "tensorrt-rtx":
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(getattr(library.ComputeCapability, f"SM{target}"), index)
        return config  # and no timing cache, not even an empty one: it would need a GPU
    if options.workspace is not None:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace << 20)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.version_compatible:
        config.set_flag(library.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = library.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.timing_cache is not None:
        stored = options.timing_cache.read_bytes() if options.timing_cache.exists() else b""
        if not config.set_timing_cache(config.create_timing_cache(stored), False):
            raise ExportError(f"{options.timing_cache}: not a timing cache of this GPU and release; delete it")
    return config


def _keep_timings(file: Path | None, config: Any) -> None:
    if file is None:
        return
    try:
        atomic.replace(file, bytes(config.get_timing_cache().serialize()))
    except OSError as error:
        raise ExportError(f"--timing-cache {file}: can't be written ({error.strerror})") from error


def _verify(bundle: Bundle, options: BuildOptions, library: Any, log: Any, data: bytes) -> Report:
    """Check header, tensors and profile, as far as that goes without a GPU."""
    try:
        check_validity("the engine", data, library, library.Runtime(log), gpu=options.runtime == "tensorrt")
    except EngineError as error:
        raise ExportError(str(error)) from error
    report = read_report(log.messages)
    if report is None:
        raise ExportError(f"{options.runtime} {release(library)} gave no account of the engine in its log")
    bundle.check_graph(report.signature)
    if report.batches != options.batches:
        raise ExportError(f"the engine's profile has batches {report.batches}, wanted were {options.batches}")
    return report


def _first(errors: list[str]) -> str:
    return errors[0] if errors else "it gives no reason"
