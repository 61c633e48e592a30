"""A built engine on its own runtime: TensorRT, and what TensorRT-RTX has in common with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.bundle import MODEL, Bundle, Signature, Tensor
from runtime.engines.gpu import Gpu, find_gpu
from runtime.engines.interface import Engine, EngineOptions, Outputs, in_pieces
from runtime.engines.trt.cuda import Cuda
from runtime.engines.trt.lane import Lane, sizes
from runtime.engines.trt.library import check_release, check_validity, load_library
from runtime.exceptions import EngineError
from runtime.manifest import EngineSpec, Manifest, NativeRuntime


@dataclass(frozen=True)
class Loaded:
    """An engine on its runtime.

    Attributes:
        name, spec: in the bundle's manifest.
        library: the runtime's module.
        engine: an ICudaEngine.
        owners: what must outlive it.
    """

    name: str
    spec: EngineSpec
    library: Any
    engine: Any
    owners: tuple[Any, ...]


class NativeEngine:
    """An engine with several lanes, each running one batch at a time; further batches wait for a lane.

    Args:
        loaded: the engine.
        signature: of the engine.
        manifest: of the bundle.
        lanes: at least one.
        batches: the sizes that they are prepared for.
    """

    def __init__(
        self, loaded: Loaded, signature: Signature, manifest: Manifest, lanes: list[Lane], batches: tuple[int, ...]
    ) -> None:
        self.name: str = loaded.spec.runtime
        self.loaded = loaded
        self.signature = signature
        self.batches = batches
        self._shape = (manifest.input.height, manifest.input.width, 3)
        self._free: SimpleQueue[Lane] = SimpleQueue()
        for lane in lanes:
            self._free.put(lane)

    def run(self, images: npt.NDArray[np.uint8], *, penultimate: bool = False) -> Outputs:
        """See :class:`runtime.engines.interface.Engine`."""
        if images.dtype != np.uint8 or images.shape[1:] != self._shape:
            raise EngineError(
                f"{self.name} failed on a batch of {len(images)}: expected uint8 [N, "
                f"{', '.join(map(str, self._shape))}], found {images.dtype} {list(images.shape)}"
            )
        return in_pieces(partial(self._run, penultimate=penultimate), images, self.batches[-1])

    def _run(self, images: npt.NDArray[np.uint8], penultimate: bool) -> Outputs:
        lane = self._free.get()
        try:
            found = lane.run(images, penultimate=penultimate)
        finally:
            self._free.put(lane)
        return Outputs.of(found)


def load(bundle: Bundle, options: EngineOptions) -> Engine:
    """The bundle's TensorRT engine, ready to run.

    Raises:
        EngineError: no GPU, no TensorRT, or no engine for them in the bundle.
    """
    loaded = deserialise(bundle, "tensorrt", find_gpu())
    strategy = loaded.library.ExecutionContextAllocationStrategy.USER_MANAGED
    return prepare(bundle, loaded, lambda: loaded.engine.create_execution_context(strategy), options.contexts, Cuda())


def choose(bundle: Bundle, runtime: NativeRuntime, gpu: Gpu) -> tuple[str, EngineSpec]:
    """The bundle's engine for a runtime and a GPU, and its name.

    Raises:
        EngineError: there is none, naming those that there are.
    """
    own = {name: spec for name, spec in bundle.manifest.engines.items() if spec.runtime == runtime}
    if not own:
        option = "rtx" if runtime == "tensorrt-rtx" else "full"
        raise EngineError(
            f"the bundle has no {runtime} engine; build one with python -m export.tensorrt BUNDLE --tensorrt {option}"
        )
    for name, spec in own.items():
        if gpu.capability in spec.targets or (spec.hardware_compatible and gpu.capability >= 80):
            if spec.model != bundle.manifest.files[MODEL].sha256:
                raise EngineError(f"{name} was built from another model.onnx; build it again")
            return name, spec
    built = sorted({target for spec in own.values() for target in spec.targets})
    raise EngineError(
        f"the bundle's {runtime} engines are for compute capability {', '.join(map(str, built))}, and {gpu.name} has "
        f"{gpu.capability}; build one for it with python -m export.tensorrt BUNDLE"
    )


def deserialise(bundle: Bundle, runtime: NativeRuntime, gpu: Gpu) -> Loaded:
    """The bundle's engine for a runtime and a GPU, deserialised.

    Raises:
        FileDamaged: its bytes are not those that the manifest names.
        EngineError: there is none, another release built it, or the runtime refuses it.
    """
    name, spec = choose(bundle, runtime, gpu)
    library = load_library(runtime)
    check_release(name, spec, library)
    logger = library.Logger(library.Logger.ERROR)
    owner = library.Runtime(logger)
    if spec.version_compatible:
        owner.engine_host_code_allowed = True  # such an engine carries code of its release
    data = bundle.read(name)
    check_validity(name, data, library, owner, gpu=True)
    engine = owner.deserialize_cuda_engine(data)
    if engine is None:
        raise EngineError(f"{name} can't be loaded by {library.__name__}; build it again")
    return Loaded(name, spec, library, engine, (owner, logger))


def read_signature(loaded: Loaded) -> Signature:
    """The inputs and outputs of an engine."""
    library, engine = loaded.library, loaded.engine
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = np.dtype(library.nptype(engine.get_tensor_dtype(name))).name
        shape = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
        is_input = engine.get_tensor_mode(name) == library.TensorIOMode.INPUT
        (inputs if is_input else outputs)[name] = Tensor(dtype, shape)
    return Signature(inputs, outputs, None, built=True)


def prepare(
    bundle: Bundle, loaded: Loaded, create_context: Callable[[], Any], contexts: int, cuda: Cuda
) -> NativeEngine:
    """Prepare `contexts` lanes of an engine.

    Args:
        bundle: that holds it.
        loaded: the engine.
        create_context: makes an execution context of it without memory of its own.
        contexts: number of lanes.
        cuda: the device.

    Raises:
        GraphMismatch: its tensors are not the manifest's.
        EngineError: the GPU is short of memory, or the engine does not run on it.
    """
    signature = read_signature(loaded)
    bundle.check_graph(signature)
    batches = sizes(loaded.spec.batches[0], loaded.spec.batches[2])
    scratch = loaded.engine.device_memory_size_v2
    lanes = [Lane(cuda, create_context, scratch, bundle.manifest, batches) for _ in range(contexts)]
    return NativeEngine(loaded, signature, bundle.manifest, lanes, batches)
