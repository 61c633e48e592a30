"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from runtime.engines.interface import Outputs, fetched
from runtime.engines.ort.session import read_signature
from runtime.exceptions import EngineError

_WITHOUT_SATURATION = "session.x64quantprecision"


def cpu_session(model: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    """A session that computes graphs of 8 bits as they say.

    On a CPU without VNNI products of 8 bits are added in 16 that saturate, where weights use all 8, as those of foreign files
    do: other logits than the file says, and than other CPUs compute. Here they are added in 32, but for the few operators
    (QGemm of signed activations) that ONNX Runtime has no such kernel for.
    """
    options.add_session_config_entry(_WITHOUT_SATURATION, "1")
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime's exceptions share no public base
        options.add_session_config_entry(_WITHOUT_SATURATION, "0")
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxRuntimeCpu:
    """An ONNX Runtime session with the CPU execution provider.

    Args:
        model: the bytes of an .onnx file.
        threads: intra-operator threads; 0 takes one for each physical core.

    Raises:
        EngineError: the bytes are not a graph that ONNX Runtime loads.
    """

    name = "onnxruntime-cpu"
    batches: tuple[int, ...] = ()

    def __init__(self, model: bytes, threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors; they are raised too
        try:
            self._session = cpu_session(model, options)
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            raise EngineError(f"ONNX Runtime can't load the graph: {error}") from error
        self.signature = read_signature(self._session)

    def run(self, images: npt.NDArray[np.uint8], *, penultimate: bool = False) -> Outputs:
        """See :class:`runtime.engines.interface.Engine`."""
        names = [*fetched(self.signature, penultimate=penultimate), "accept"]
        try:
            return Outputs.of(dict(zip(names, self._session.run(names, {"images": images}), strict=True)))
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            raise EngineError(f"ONNX Runtime failed on a batch of {len(images)}: {error}") from error
