"""ONNX Runtime on CUDA: a graph that is captured for each batch size, on buffers that stay where they are.

A network is tens to hundreds of kernels of microseconds each, and starting them one by one takes longer than they run. A
captured graph starts them all at once, and needs its inputs and outputs at the same addresses every time.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any
from weakref import finalize

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from runtime.bundle import Bundle
from runtime.engines.gpu import find_gpu
from runtime.engines.interface import Engine, EngineOptions, Outputs, fetched, in_pieces
from runtime.engines.ort.session import PROFILE, GpuSession, gpu_options, gpu_session, read_signature
from runtime.engines.trt.lane import places, sizes
from runtime.exceptions import EngineError
from runtime.manifest import Manifest

NAME = "onnxruntime-cuda"
_PROVIDER = "CUDAExecutionProvider"
# Tensor cores take images channels last; trying all convolutions gained nothing over the heuristic on an H200.
_DEVICE = {"device_id": "0"}
_CAPTURED = {**_DEVICE, "prefer_nhwc": "1", "cudnn_conv_algo_search": "HEURISTIC", "enable_cuda_graph": "1"}
# An attribute of that name that is not 1, as protobuf writes it: its name, then its value.
_GROUPS = re.compile(rb"\x0a\x05group\x18(?!\x01)", re.DOTALL)
_OUTPUTS = ("logits", "scores", "penultimate")
logger = logging.getLogger(__name__)

# While a graph is captured, CUDA refuses other threads' copies: a capture takes all shares, a batch takes one.
_SHARES = 64
_shares, _capturing = threading.Semaphore(_SHARES), threading.Lock()


def load(bundle: Bundle, options: EngineOptions) -> Engine:
    """The bundle's graph on CUDA: captured for batches up to 64, or run as it is where it can't be captured or has groups.

    Raises:
        EngineError: no GPU, or no ONNX Runtime for it.
    """
    find_gpu()
    try:
        if grouped(bundle.model):
            raise EngineError("grouped convolutions")
        with _shares:
            session = gpu_session(bundle.model, gpu_options(), [(_PROVIDER, _CAPTURED)])
        return CapturedSession(session, bundle.manifest, sizes(PROFILE[0], PROFILE[-1]), options.contexts)
    except EngineError as error:
        logger.info("%s: no captured graph (%s)", NAME, error)
    session = gpu_session(bundle.model, gpu_options(), [(_PROVIDER, _DEVICE)])
    return GpuSession(NAME, session, read_signature(session), None)


def grouped(model: bytes) -> bool:
    """Whether a graph, the bytes of an .onnx file, has convolutions in groups, such as depthwise ones.

    Channels last and captured, EfficientNet-lite0 ended in an illegal memory access in ONNX Runtime 1.31.1, after which the
    process can't use the GPU any more; networks without groups did not. So those with groups run by its defaults.
    """
    return _GROUPS.search(model) is not None


class CapturedSession:
    """A session with captured graphs for some batch sizes; one runs at a time, and the others' images are copied meanwhile.

    Args:
        session: on CUDA, with ``enable_cuda_graph``.
        manifest: of the bundle.
        batches: the sizes, ascending.
        contexts: graphs of each size, at least one; further batches of the size wait.

    Raises:
        EngineError: the graph can't be captured.
    """

    name = NAME

    def __init__(
        self, session: ort.InferenceSession, manifest: Manifest, batches: tuple[int, ...], contexts: int
    ) -> None:
        self.signature = read_signature(session)
        self.batches = batches
        self._free: dict[int, SimpleQueue[_Captured]] = {batch: SimpleQueue() for batch in batches}
        # ONNX Runtime keeps what it captured for the thread that ran it, so that one thread runs everything.
        work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=_worker, args=(work,), name=NAME, daemon=True).start()
        finalize(self, work.put, None)
        # The largest first: the memory that it takes holds the others too.
        for number, batch in enumerate(sorted(batches * contexts, reverse=True), start=1):
            with _alone():
                captured = _Captured(session, manifest, batch, number, work)
                captured.replay()
            self._free[batch].put(captured)

    def run(self, images: npt.NDArray[np.uint8], *, penultimate: bool = False) -> Outputs:
        """See :class:`runtime.engines.interface.Engine`."""
        names = fetched(self.signature, penultimate=penultimate)

        def piece(some: npt.NDArray[np.uint8]) -> Outputs:
            free = self._free[next(batch for batch in self.batches if batch >= len(some))]
            captured = free.get()
            try:
                with _shares:
                    found = captured.run(some, names)
            finally:
                free.put(captured)
            return Outputs.of(dict(zip(names, found, strict=True)))

        return in_pieces(piece, images, self.batches[-1])


class _Captured:
    """A batch size with its buffers, and its graph, which the first replay captures."""

    def __init__(
        self,
        session: ort.InferenceSession,
        manifest: Manifest,
        batch: int,
        number: int,
        work: SimpleQueue[Callable[[], None] | None],
    ) -> None:
        spec = manifest.input
        self._session, self._work = session, work
        self._done: SimpleQueue[Exception | None] = SimpleQueue()
        self._host = np.zeros((batch, spec.height, spec.width, 3), np.uint8)
        self._images = ort.OrtValue.ortvalue_from_numpy(self._host, "cuda", 0)
        shapes = {name: place.shape for name, place in places(manifest, batch).items() if name in _OUTPUTS}
        self._outputs = {name: _on_device(shape) for name, shape in shapes.items()}
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input("images", self._images)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(number))

    def run(self, images: npt.NDArray[np.uint8], names: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """Those outputs of at most as many images as it has place for."""
        n = len(images)
        try:
            if n < len(self._host):
                self._host[:n] = images
                images = self._host
            self._images.update_inplace(np.ascontiguousarray(images))
            self.replay()
            return [self._outputs[name].numpy()[:n] for name in names]
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            raise EngineError(f"ONNX Runtime failed on a batch of {n}: {error}") from error

    def replay(self) -> None:
        """From the images on the device to the outputs there, on the thread that captures."""
        self._work.put(self._run)
        if error := self._done.get():
            raise EngineError(f"{error}") from error

    def _run(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            self._done.put(error)
        else:
            self._done.put(None)


def _worker(work: SimpleQueue[Callable[[], None] | None]) -> None:
    while job := work.get():
        job()


@contextmanager
def _alone() -> Iterator[None]:
    """While no batch of any session is under way in this process."""
    with _capturing:
        for _ in range(_SHARES):
            _shares.acquire()
        try:
            yield
        finally:
            _shares.release(_SHARES)


def _on_device(shape: tuple[int, ...]) -> Any:
    return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32, "cuda", 0)
