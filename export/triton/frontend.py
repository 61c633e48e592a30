"""Image files in, decisions out: a model of Triton's Python backend in front of the one that has the network.

`oodgate export-triton --python-frontend` writes this file as a model's ``model.py``, with the bundle's manifest beside it. It
decodes and decides by the package `oodgate`, which Triton's Python has to have: ``pip install oodgate`` in its image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as triton

from runtime import Decision, Gate
from runtime.bundle import Bundle, Signature, Tensor, read_manifest
from runtime.engines.interface import Outputs, in_pieces
from runtime.exceptions import EngineError, OodgateError
from runtime.manifest import Manifest
from runtime.tensors import INPUT, OUTPUTS


class TritonEngine:
    """Another of Triton's models as an engine; it has the tensors of one built from the bundle's graph.

    Args:
        model: its name.
        largest: the most images that it takes at once.
        manifest: of the bundle that both were made of.
    """

    name = "triton"
    batches: tuple[int, ...] = ()

    def __init__(self, model: str, largest: int, manifest: Manifest) -> None:
        self._model = model
        self._largest = largest
        self._wanted = ["logits", "scores", "accept"]
        spec, images = manifest.input, (None,)
        outputs = {
            "logits": Tensor("float32", (*images, len(manifest.labels))),
            "penultimate": Tensor("float32", (*images, manifest.model.features)),
            "scores": Tensor("float32", (*images, len(manifest.scores))),
            "accept": Tensor("bool", images),
        }
        inputs = {INPUT: Tensor("uint8", (*images, spec.height, spec.width, 3))}
        self.signature = Signature(inputs, outputs, None, built=True)

    def run(self, images: npt.NDArray[np.uint8], *, penultimate: bool = False) -> Outputs:
        """Run one batch; the penultimate activations are not to be had."""
        if penultimate:
            raise EngineError(f"{self._model} gives no penultimate activations")
        return in_pieces(self._run, images, self._largest)

    def _run(self, images: npt.NDArray[np.uint8]) -> Outputs:
        memory = triton.PreferredMemory(triton.TRITONSERVER_MEMORY_CPU, 0)
        response = triton.InferenceRequest(
            model_name=self._model,
            requested_output_names=self._wanted,
            inputs=[triton.Tensor(INPUT, images)],
            preferred_memory=memory,
        ).exec()
        if response.has_error():
            raise EngineError(f"{self._model}: {response.error().message()}")
        tensors = [triton.get_output_tensor_by_name(response, name).as_numpy() for name in self._wanted]
        return Outputs(tensors[0], tensors[1], tensors[2].reshape(len(images)))


class TritonPythonModel:
    """What Triton asks of a model: requests with ``image`` BYTES [N, 1], answered by :data:`runtime.tensors.OUTPUTS`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the manifest that lies beside this file, and name the model that has the network."""
        folder = Path(args["model_repository"], args["model_version"])
        manifest, parameters = read_manifest(folder), json.loads(args["model_config"])["parameters"]
        model, largest = (parameters[name]["string_value"] for name in ("network", "largest"))
        self._gate = Gate(Bundle(folder, manifest, b""), TritonEngine(model, int(largest), manifest))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request; one with an image that is none gets an error, and spoils no other."""
        asked = [triton.get_input_tensor_by_name(request, "image").as_numpy().ravel().tolist() for request in requests]
        try:
            decided = iter(self._gate.decide_each([image for images in asked for image in images]))
        except OodgateError as error:
            return [_failed(str(error)) for _ in requests]
        return [_answer([next(decided) for _ in images]) for images in asked]


def _answer(decided: list[Decision | Any]) -> Any:
    """The response to one request, of decisions or errors, one an image."""
    decisions = [decision for decision in decided if isinstance(decision, Decision)]
    if len(decisions) < len(decided):
        i, error = next((i, error) for i, error in enumerate(decided) if not isinstance(error, Decision))
        return _failed(f"image {i}: {error}")
    tensors = [triton.Tensor(name, output.tensor(decisions)) for name, output in OUTPUTS.items()]
    return triton.InferenceResponse(output_tensors=tensors)


def _failed(message: str) -> Any:
    return triton.InferenceResponse(error=triton.TritonError(message))
