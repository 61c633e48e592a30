"""ONNX Runtime on CUDA: a graph that is captured for each batch size, on buffers that stay where they are.

A small network is tens of kernels of microseconds each, and starting them one by one takes longer than they run. A captured
graph starts them all at once, and needs its inputs and outputs at the same addresses every time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from runtime.bundle import Bundle
from runtime.engines.gpu import find_gpu
from runtime.engines.interface import Engine, EngineOptions, Outputs, in_pieces
from runtime.engines.ort.session import PROFILE, GpuSession, gpu_options, gpu_session, read_signature
from runtime.engines.trt.cuda import pinned_array
from runtime.engines.trt.lane import places, sizes
from runtime.exceptions import EngineError
from runtime.manifest import Manifest

NAME = "onnxruntime-cuda"
_PROVIDER = "CUDAExecutionProvider"
_OPTIONS = {"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC"}
_OUTPUTS = ("logits", "scores", "penultimate")
logger = logging.getLogger(__name__)


def load(bundle: Bundle, options: EngineOptions) -> Engine:  # noqa: ARG001  # nothing to choose, and nothing to cache
    """The bundle's graph on CUDA: captured for batches up to 64, or run as it is where it can't be captured.

    Raises:
        EngineError: no GPU, or no ONNX Runtime for it.
    """
    find_gpu()
    try:
        session = gpu_session(bundle.model, gpu_options(), [(_PROVIDER, {**_OPTIONS, "enable_cuda_graph": "1"})])
        return CapturedSession(session, bundle.manifest, sizes(PROFILE[0], PROFILE[-1]))
    except EngineError as error:
        logger.info("%s: no captured graph (%s)", NAME, error)
    session = gpu_session(bundle.model, gpu_options(), [(_PROVIDER, _OPTIONS)])
    return GpuSession(NAME, session, read_signature(session), None)


class CapturedSession:
    """A session with a captured graph for each of some batch sizes; further batches wait for the one that runs.

    Args:
        session: on CUDA, with ``enable_cuda_graph``.
        manifest: of the bundle.
        batches: the sizes, ascending.

    Raises:
        EngineError: the graph can't be captured.
    """

    name = NAME

    def __init__(self, session: ort.InferenceSession, manifest: Manifest, batches: tuple[int, ...]) -> None:
        self.signature = read_signature(session)
        self.batches = batches
        # ONNX Runtime keeps what it captured for the thread that ran it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=NAME)
        self._captured = self._thread.submit(_capture, session, manifest, batches).result()

    def run(self, images: npt.NDArray[np.uint8], *, penultimate: bool = False) -> Outputs:
        """See :class:`runtime.engines.interface.Engine`."""
        names = _OUTPUTS if penultimate else _OUTPUTS[:2]

        def piece(some: npt.NDArray[np.uint8]) -> Outputs:
            captured = next(each for each in self._captured if each.batch >= len(some))
            logits, scores, *rest = self._thread.submit(captured.run, some, names).result()
            return Outputs(logits, scores, None, *rest)

        return in_pieces(piece, images, self.batches[-1])


class _Captured:
    """One batch size: its buffers, and its graph, captured in the first run."""

    def __init__(self, session: ort.InferenceSession, manifest: Manifest, batch: int, number: int) -> None:
        spec = manifest.input
        self.batch = batch
        self._session = session
        self._host = pinned_array((batch, spec.height, spec.width, 3))
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
        """Those outputs of at most `batch` images."""
        n = len(images)
        try:
            self._host[:n] = images
            self._images.update_inplace(self._host)
            self._session.run_with_iobinding(self._binding, self._options)
            return [self._outputs[name].numpy()[:n] for name in names]
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            raise EngineError(f"ONNX Runtime failed on a batch of {n}: {error}") from error


def _capture(session: ort.InferenceSession, manifest: Manifest, batches: tuple[int, ...]) -> list[_Captured]:
    """The largest first: the memory that it takes holds the others too."""
    captured = [_Captured(session, manifest, batch, number) for number, batch in enumerate(batches, start=1)]
    for each in reversed(captured):
        each.run(np.zeros((1, manifest.input.height, manifest.input.width, 3), np.uint8), ())
    return captured


def _on_device(shape: tuple[int, ...]) -> Any:
    return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32, "cuda", 0)
