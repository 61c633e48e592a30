"""One batch at a time on the GPU: buffers, a stream, and a captured CUDA graph for each batch size.

The outputs of a batch lie in one piece of memory, so that one copy brings them to the host.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import finalize

import numpy as np
import numpy.typing as npt

from runtime.engines.trt.cuda import Cuda
from runtime.exceptions import EngineError
from runtime.manifest import Manifest

_ALIGNMENT = 256

Floats = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """An output's offset in bytes, element type and shape."""

    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class _Prepared:
    """A batch size with its context, its outputs' places, and its graph, or None where it can't be captured."""

    context: Any
    places: dict[str, Place]
    graph: Any


class Lane:
    """A stream with pinned and device memory for the largest batch; a context and a CUDA graph for each batch size.

    A graph is the copy of the images, the network, and the copy of logits and scores. Contexts share their scratch
    memory, as only one of them runs at a time.

    Args:
        cuda: the device.
        create_context: makes an execution context without memory of its own.
        scratch: bytes that a context needs.
        manifest: of the bundle.
        batches: the sizes to prepare, ascending.

    Raises:
        EngineError: memory is short, or the engine does not run.
    """

    def __init__(
        self,
        cuda: Cuda,
        create_context: Callable[[], Any],
        scratch: int,
        manifest: Manifest,
        batches: tuple[int, ...],
    ) -> None:
        spec, largest = manifest.input, places(manifest, batches[-1])["accept"].end
        self._cuda = cuda
        self._image = spec.height * spec.width * 3
        self._shape = (spec.height, spec.width, 3)
        self._scratch = scratch
        self._resources = ExitStack()
        finalize(self, self._resources.close).atexit = False  # a process that ends frees everything anyway
        self._stream = self._owned(cuda.stream(), cuda.destroy_stream)
        self._device_in = self._owned(cuda.device_memory(batches[-1] * self._image), cuda.free)
        self._device_out = self._owned(cuda.device_memory(largest), cuda.free)
        self._device_scratch = self._owned(cuda.device_memory(scratch), cuda.free)
        self._host_in = self._owned(cuda.pinned_memory(batches[-1] * self._image), cuda.free_pinned)
        self._host_out = self._owned(cuda.pinned_memory(largest), cuda.free_pinned)
        self._images = _bytes_at(self._host_in, batches[-1] * self._image)
        self._outputs = _bytes_at(self._host_out, largest)
        self._prepared = {batch: self._prepare(create_context(), places(manifest, batch)) for batch in batches}

    def run(self, images: npt.NDArray[np.uint8], *, penultimate: bool) -> dict[str, Floats]:
        """Logits, if there are any, scores and, where asked for, the penultimate activations, by name.

        Args:
            images: uint8 [n, H, W, 3], n at most the largest batch prepared.
            penultimate: whether they are wanted; they take a copy of their own.
        """
        n = len(images)
        prepared = self._prepared[min(batch for batch in self._prepared if batch >= n)]
        self._images[: n * self._image] = images.reshape(-1)
        if prepared.graph is None:
            self._enqueue(prepared.context, prepared.places)
        else:
            self._cuda.launch(prepared.graph, self._stream)
        if penultimate:
            place = prepared.places["penultimate"]
            source, target = self._device_out + place.offset, self._host_out + place.offset
            self._cuda.to_host(target, source, place.end - place.offset, self._stream)
        self._cuda.wait(self._stream)
        wanted = {"logits", "scores", *(["penultimate"] if penultimate else [])}
        return {
            name: view(self._outputs, place)[:n].copy() for name, place in prepared.places.items() if name in wanted
        }

    def _owned(self, resource: T, release: Callable[[T], None]) -> T:
        """A resource that is released with the lane, the last one first."""
        self._resources.callback(release, resource)
        return resource

    def _prepare(self, context: Any, outputs: dict[str, Place]) -> _Prepared:
        """Set a context up for its batch size, run it once, which compiles and loads its kernels, and capture it."""
        context.set_device_memory(self._device_scratch, self._scratch)
        addresses = {name: self._device_out + place.offset for name, place in outputs.items()}
        done = context.set_optimization_profile_async(0, self._stream)
        done = done and context.set_input_shape("images", (outputs["accept"].shape[0], *self._shape))
        for name, address in {"images": self._device_in, **addresses}.items():
            done = done and context.set_tensor_address(name, address)
        if not done:
            raise EngineError(f"the engine does not take a batch of {outputs['accept'].shape[0]}")
        self._enqueue(context, outputs)
        self._cuda.wait(self._stream)
        if not getattr(context, "is_stream_capturable", lambda _: True)(self._stream):
            return _Prepared(context, outputs, None)
        self._cuda.begin_capture(self._stream)
        self._enqueue(context, outputs)
        graph = self._owned(self._cuda.end_capture(self._stream), self._cuda.destroy_graph)
        return _Prepared(context, outputs, graph)

    def _enqueue(self, context: Any, outputs: dict[str, Place]) -> None:
        batch = outputs["accept"].shape[0]
        self._cuda.to_device(self._device_in, self._host_in, batch * self._image, self._stream)
        if not context.execute_async_v3(self._stream):
            raise EngineError(f"the engine failed on a batch of {batch}")
        self._cuda.to_host(self._host_out, self._device_out, outputs["scores"].end, self._stream)


def places(manifest: Manifest, batch: int) -> dict[str, Place]:
    """The outputs of a batch: logits and scores first, which every caller wants."""
    shapes = {
        **({"logits": ("float32", (batch, len(manifest.labels)))} if manifest.labels else {}),
        "scores": ("float32", (batch, len(manifest.scores))),
        "penultimate": ("float32", (batch, manifest.model.features)),
        "accept": ("bool", (batch,)),
    }
    found: dict[str, Place] = {}
    offset = 0
    for name, (dtype, shape) in shapes.items():
        found[name] = Place(offset, dtype, shape)
        offset = -(-found[name].end // _ALIGNMENT) * _ALIGNMENT
    return found


def view(memory: npt.NDArray[np.uint8], place: Place) -> npt.NDArray[np.float32]:
    """An output in host memory, as an array."""
    return memory[place.offset : place.end].view(place.dtype).reshape(place.shape)


def sizes(smallest: int, largest: int) -> tuple[int, ...]:
    """The batch sizes that are prepared: the powers of two between `smallest` and `largest`, and both."""
    powers = [1 << bit for bit in range(largest.bit_length()) if smallest < 1 << bit < largest]
    return tuple(sorted({smallest, *powers, largest}))


def _bytes_at(address: int, size: int) -> npt.NDArray[np.uint8]:
    """Memory as an array; it does not own it."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
