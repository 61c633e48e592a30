"""ONNX Runtime's session: what it says of a graph, and a session that runs on the GPU or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from runtime.bundle import MODEL, Bundle, Signature, Tensor
from runtime.engines.gpu import Gpu
from runtime.engines.interface import Outputs, fetched, in_pieces
from runtime.exceptions import EngineError
from runtime.manifest import Manifest

# Smallest, usual and largest batch of engines that are built at start-up.
PROFILE = (1, 8, 64)

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(bool)": "bool"}


def read_signature(session: ort.InferenceSession) -> Signature:
    """The inputs, those with a default included, the outputs and the manifest of a session's graph."""
    inputs = [*session.get_inputs(), *session.get_overridable_initializers()]
    return Signature(
        inputs={item.name: _tensor(item) for item in inputs},
        outputs={item.name: _tensor(item) for item in session.get_outputs()},
        manifest=session.get_modelmeta().custom_metadata_map.get("oodgate"),
    )


def cache_parts(engine: str, bundle: Bundle, gpu: Gpu, **others: str) -> dict[str, str]:
    """What a session that is built at start-up depends on: all of these, and `others`."""
    return {
        "engine": engine,
        "model": bundle.manifest.files[MODEL].sha256,
        "gpu": f"{gpu.name} {gpu.capability}",
        "driver": gpu.driver,
        "onnxruntime": ort.__version__,
        "batches": str(PROFILE),
        **others,
    }


def gpu_options() -> ort.SessionOptions:
    """Options of a session of which no node may run on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors; they are raised too
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def gpu_session(
    model: bytes | str, options: ort.SessionOptions, providers: Sequence[tuple[str, dict[str, str]]] | None = None
) -> ort.InferenceSession:
    """A session on execution providers of the GPU.

    Raises:
        EngineError: this ONNX Runtime lacks a provider, or can't load it or the graph on it.
    """
    wanted = [name for name, _ in providers or ()]
    if missing := sorted(set(wanted) - set(ort.get_available_providers())):
        raise EngineError(
            f"this ONNX Runtime {ort.__version__} has no {missing[0]}; install onnxruntime-gpu in place of onnxruntime"
        )
    if hasattr(ort, "preload_dlls"):  # CUDA and cuDNN from NVIDIA's Python packages, where they are
        ort.preload_dlls()
    try:
        return ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no public base
        raise EngineError(f"ONNX Runtime can't load the graph on {wanted or 'the GPU'}: {error}") from error


class GpuSession:
    """A session on the GPU; the decision is the host's.

    Args:
        name: of the engine.
        session: loaded.
        signature: of the graph.
        largest: the largest batch in one run; None for any.
    """

    def __init__(self, name: str, session: ort.InferenceSession, signature: Signature, largest: int | None) -> None:
        self.name = name
        self.signature = signature
        self.batches: tuple[int, ...] = tuple(range(1, largest + 1)) if largest else ()
        self._session = session

    def run(self, images: npt.NDArray[np.uint8], *, penultimate: bool = False) -> Outputs:
        """See :class:`runtime.engines.interface.Engine`."""
        piece = partial(self._run, penultimate=penultimate)
        return in_pieces(piece, images, self.batches[-1] if self.batches else max(len(images), 1))

    def _run(self, images: npt.NDArray[np.uint8], penultimate: bool) -> Outputs:
        names = fetched(self.signature, penultimate=penultimate)
        try:
            return Outputs.of(dict(zip(names, self._session.run(names, {"images": images}), strict=True)))
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            raise EngineError(f"ONNX Runtime failed on a batch of {len(images)}: {error}") from error


def _tensor(item: Any) -> Tensor:
    shape = tuple(size if isinstance(size, int) else None for size in item.shape)
    return Tensor(_DTYPES.get(item.type, item.type), shape)


def profile_shapes(manifest: Manifest, prefix: str) -> dict[str, str]:
    """Provider options for the batches of :data:`PROFILE`, named `prefix` and ``min``, ``opt``, ``max``."""
    size = f"{manifest.input.height}x{manifest.input.width}x3"
    bounds = zip(("min", "opt", "max"), PROFILE, strict=True)
    return {f"{prefix}_profile_{bound}_shapes": f"images:{batch}x{size}" for bound, batch in bounds}
