"""The calls of CUDA's runtime that a native engine makes, through NVIDIA's cuda-python; each failure is an error."""

from __future__ import annotations

import importlib
from typing import Any

from runtime.exceptions import EngineError


class Cuda:
    """CUDA's first device.

    Args:
        api: the module ``cuda.bindings.runtime``; imported otherwise.

    Raises:
        EngineError: the module is not installed, or there is no device.
    """

    def __init__(self, api: Any = None) -> None:
        if api is None:
            try:
                api = importlib.import_module("cuda.bindings.runtime")
            except ImportError:
                raise EngineError("there is no Python module 'cuda.bindings'; pip install cuda-python") from None
        self._api = api
        self._call("cudaSetDevice", 0)

    def device_memory(self, size: int) -> int:
        """Allocate `size` bytes on the device, and return their address."""
        return int(self._call("cudaMalloc", max(size, 1)))

    def pinned_memory(self, size: int) -> int:
        """Allocate `size` bytes on the host that the device can copy by itself, and return their address."""
        return int(self._call("cudaHostAlloc", max(size, 1), self._api.cudaHostAllocDefault))

    def free(self, address: int) -> None:
        """Free device memory."""
        self._call("cudaFree", address)

    def free_pinned(self, address: int) -> None:
        """Free pinned memory."""
        self._call("cudaFreeHost", address)

    def stream(self) -> int:
        """A stream that does not wait for others."""
        return int(self._call("cudaStreamCreateWithFlags", self._api.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        """Destroy a stream."""
        self._call("cudaStreamDestroy", stream)

    def to_device(self, device: int, host: int, size: int, stream: int) -> None:
        """Copy pinned memory to the device, in the stream's order."""
        self._call("cudaMemcpyAsync", device, host, size, self._api.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def to_host(self, host: int, device: int, size: int, stream: int) -> None:
        """Copy device memory to pinned memory, in the stream's order."""
        self._call("cudaMemcpyAsync", host, device, size, self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def wait(self, stream: int) -> None:
        """Wait until a stream has done all its work."""
        self._call("cudaStreamSynchronize", stream)

    def begin_capture(self, stream: int) -> None:
        """Record a stream's work from now on instead of doing it; other threads go on as before."""
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> Any:
        """What was recorded, as a graph that can be launched."""
        graph = self._call("cudaStreamEndCapture", stream)
        executable = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)
        return executable

    def launch(self, graph: Any, stream: int) -> None:
        """Do a graph's work."""
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        """Destroy a graph that can be launched."""
        self._call("cudaGraphExecDestroy", graph)

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *values = getattr(self._api, name)(*arguments)
        if int(error):
            _, text = self._api.cudaGetErrorString(error)
            reason = text.decode() if isinstance(text, bytes) else str(error)
            raise EngineError(f"{name} failed: {reason}")
        return values[0] if values else None
