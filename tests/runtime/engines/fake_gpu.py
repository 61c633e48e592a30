"""A GPU in the host's memory: CUDA's runtime, and a TensorRT whose engines are ONNX files run on the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

from runtime.engines.ort.session import read_signature


class FakeCuda:
    """``cuda.bindings.runtime``: streams do their work at once, unless they record it; memory knows its bounds."""

    cudaHostAllocDefault = 0  # noqa: N815
    cudaStreamNonBlocking = 1  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.recording: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.launched = 0
        self.fails: str | None = None
        self._streams = count(1)

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "__dict__").get("fails"):
            return lambda *_: (2, None)
        return object.__getattribute__(self, name)

    def check(self, address: int, size: int) -> None:
        starts = [start for start, buffer in self.memory.items() if start <= address < start + len(buffer)]
        assert starts, "not allocated"
        assert address + size <= starts[0] + len(self.memory[starts[0]]), "beyond the end"

    def do(self, stream: int, work: Callable[[], None]) -> None:
        self.recording[stream].append(work) if stream in self.recording else work()

    def cudaSetDevice(self, _: int) -> tuple[int]:  # noqa: N802
        return (0,)

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:  # noqa: N802
        return 0, b"out of memory" if error == 2 else b"other"

    def cudaMalloc(self, size: int) -> tuple[int, int]:  # noqa: N802
        buffer = (ctypes.c_uint8 * size)()
        self.memory[ctypes.addressof(buffer)] = buffer
        return 0, ctypes.addressof(buffer)

    def cudaHostAlloc(self, size: int, _: int) -> tuple[int, int]:  # noqa: N802
        return self.cudaMalloc(size)

    def cudaFree(self, address: int) -> tuple[int]:  # noqa: N802
        del self.memory[address]
        return (0,)

    cudaFreeHost = cudaFree  # noqa: N815

    def cudaStreamCreateWithFlags(self, _: int) -> tuple[int, int]:  # noqa: N802
        return 0, next(self._streams)

    def cudaStreamDestroy(self, _: int) -> tuple[int]:  # noqa: N802
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:  # noqa: N802
        assert stream not in self.recording, "a stream that records can't be waited for"
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, _: int, stream: int) -> tuple[int]:  # noqa: N802
        self.check(target, size)
        self.check(source, size)
        self.do(stream, lambda: ctypes.memmove(target, source, size) and None)
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, _: int) -> tuple[int]:  # noqa: N802
        self.recording[stream] = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, int]:  # noqa: N802
        self.graphs[len(self.graphs)] = self.recording.pop(stream)
        return 0, len(self.graphs) - 1

    def cudaGraphInstantiate(self, graph: int, _: int) -> tuple[int, int]:  # noqa: N802
        return 0, graph

    def cudaGraphDestroy(self, _: int) -> tuple[int]:  # noqa: N802
        return (0,)

    cudaGraphExecDestroy = cudaGraphDestroy  # noqa: N815

    def cudaGraphLaunch(self, graph: int, _: int) -> tuple[int]:  # noqa: N802
        self.launched += 1
        for work in self.graphs[graph]:
            work()
        return (0,)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()

    def set_device_memory(self, address: int, size: int) -> None:
        self.engine.cuda.check(address, size)

    def set_optimization_profile_async(self, index: int, _: int) -> bool:
        return index == 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == "images"

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def is_stream_capturable(self, _: int) -> bool:
        return self.engine.capturable

    def execute_async_v3(self, stream: int) -> bool:
        self.engine.cuda.do(stream, self._execute)
        return not self.engine.fails

    def _execute(self) -> None:
        cuda, size = self.engine.cuda, int(np.prod(self.shape))
        cuda.check(self.addresses["images"], size)
        images = np.frombuffer(ctypes.string_at(self.addresses["images"], size), np.uint8).reshape(self.shape)
        names = list(self.engine.signature.outputs)
        for name, values in zip(names, self.engine.session.run(names, {"images": images}), strict=True):
            cuda.check(self.addresses[name], values.nbytes)
            ctypes.memmove(self.addresses[name], np.ascontiguousarray(values).ctypes.data, values.nbytes)


class _Cache:
    def __init__(self) -> None:
        self.kernels = b"compiled"

    def deserialize(self, data: bytes) -> bool:
        return data == self.kernels

    def serialize(self) -> bytes:
        return self.kernels


class _Engine:
    device_memory_size_v2 = 1000

    def __init__(self, library: FakeTensorrt, model: bytes) -> None:
        self.cuda, self.capturable, self.fails = library.cuda, library.capturable, library.fails
        self.session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.signature = read_signature(self.session)
        tensors = {"images": self.signature.inputs["images"], **self.signature.outputs}
        self._tensors = list(tensors.items())
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index: int) -> str:
        return self._tensors[index][0]

    def get_tensor_dtype(self, name: str) -> str:
        return dict(self._tensors)[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if size is None else size for size in dict(self._tensors)[name].shape)

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == "images" else "OUTPUT"

    def create_execution_context(self, how: Any) -> _Context:
        assert how is not None
        return _Context(self)

    def create_runtime_config(self) -> Any:
        return SimpleNamespace(
            set_execution_context_allocation_strategy=lambda _: None,
            create_runtime_cache=_Cache,
            set_runtime_cache=lambda _: True,
        )


class _Validity(IntEnum):
    VALID = 0
    INVALID = 2


class _Diagnostics(IntEnum):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    MALFORMED_ENGINE = 32


class FakeTensorrt:
    """``tensorrt`` or ``tensorrt_rtx``: an engine is b"engine " and an ONNX file."""

    __name__ = "fake"
    __version__ = "1.2.3"
    EngineValidity = _Validity
    EngineInvalidityDiagnostics = _Diagnostics
    TensorIOMode = SimpleNamespace(INPUT="INPUT")
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED=2)
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER=1)

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.capturable = True
        self.fails = False
        self.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda *_: None})

    def Runtime(self, _: Any) -> Any:  # noqa: N802
        return SimpleNamespace(
            get_engine_validity=lambda data: (0, 0) if data.startswith(b"engine ") else (_Validity.INVALID, 32),
            deserialize_cuda_engine=lambda data: _Engine(self, data.removeprefix(b"engine ")),
        )

    @staticmethod
    def nptype(dtype: str) -> Any:
        return np.dtype(dtype).type
