"""The Python backend's model, run on a stand-in for what Triton gives it, in front of the exported graph."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from export.triton import repository
from export.triton.config import Scheduling
from runtime import Gate
from runtime.bundle import Bundle
from runtime.tensors import OUTPUTS
from tests.small import calibration_images, encode

IMAGES = [encode(image.repeat(3, axis=0)) for image in calibration_images(7, seed=11)]


@dataclass
class Tensor:
    """One of the backend's tensors."""

    name: str
    array: npt.NDArray[Any]

    def as_numpy(self) -> npt.NDArray[Any]:
        return self.array


class Response:
    """The backend's InferenceResponse."""

    def __init__(self, output_tensors: Sequence[Tensor] = (), error: Any = None) -> None:
        self.output_tensors = output_tensors
        self._error = error

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> Any:
        return self._error


class Triton(ModuleType):
    """What triton_python_backend_utils offers a model, with one other model to ask."""

    TRITONSERVER_MEMORY_CPU = 0
    Tensor = Tensor
    InferenceResponse = Response

    def __init__(self, model: Path, largest: int) -> None:
        super().__init__("triton_python_backend_utils")
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.largest = largest
        self.batches: list[int] = []

    @staticmethod
    def TritonError(message: str) -> Any:  # noqa: N802  as Triton calls it
        return SimpleNamespace(message=lambda: message)

    @staticmethod
    def PreferredMemory(kind: int, identifier: int) -> tuple[int, int]:  # noqa: N802
        return kind, identifier

    @staticmethod
    def get_input_tensor_by_name(request: Any, name: str) -> Tensor:
        return next(tensor for tensor in request.inputs if tensor.name == name)

    @staticmethod
    def get_output_tensor_by_name(response: Response, name: str) -> Tensor:
        return next(tensor for tensor in response.output_tensors if tensor.name == name)

    def InferenceRequest(self, **asked: Any) -> Any:  # noqa: N802
        return SimpleNamespace(exec=lambda: self.answer(**asked))

    def answer(self, model_name: str, requested_output_names: list[str], inputs: list[Tensor], **_: Any) -> Response:
        """As the model `small` answers: what it has for an image is [N, 1] to its clients."""
        assert model_name == "small"
        (images,) = inputs
        self.batches.append(len(images.array))
        if len(images.array) > self.largest:
            return Response(error=self.TritonError("batch too large"))
        found = self.session.run(requested_output_names, {images.name: images.array})
        shaped = [value if value.ndim > 1 else value[:, None] for value in found]
        return Response([Tensor(name, value) for name, value in zip(requested_output_names, shaped, strict=True)])


@pytest.fixture
def triton(shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Triton:
    models = repository.models(shared_bundle, Scheduling(batch=4), files=True)
    repository.write(models, tmp_path)
    stand_in = Triton(tmp_path / "small" / "1" / "model.onnx", largest=4)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    return stand_in


@pytest.fixture
def model(triton: Triton, tmp_path: Path) -> Any:  # noqa: ARG001  what the model imports
    """The model, loaded as the backend loads it."""
    spec = importlib.util.spec_from_file_location("model", tmp_path / "small_files" / "1" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loaded = module.TritonPythonModel()
    told = {"network": {"string_value": "small"}, "largest": {"string_value": "4"}}
    settings = {"model_repository": str(tmp_path / "small_files"), "model_version": "1"}
    loaded.initialize({**settings, "model_config": json.dumps({"parameters": told})})
    return loaded


def request(images: list[bytes]) -> Any:
    return SimpleNamespace(inputs=[Tensor("image", np.array(images, dtype=object).reshape(-1, 1))])


def test_files_are_decided_on_as_the_library_does(model: Any, triton: Triton, shared_bundle: Bundle) -> None:
    """Two requests in one call, in batches that the other model takes."""
    responses = model.execute([request(IMAGES[:5]), request(IMAGES[5:])])
    assert triton.batches == [4, 3]
    decisions = Gate.load(shared_bundle.path, engine="onnxruntime-cpu", threads=1).decide(IMAGES)
    for response, part in zip(responses, (decisions[:5], decisions[5:]), strict=True):
        found = {tensor.name: tensor.as_numpy() for tensor in response.output_tensors}
        assert found.keys() == OUTPUTS.keys()
        for name, output in OUTPUTS.items():
            expected = output.tensor(part)
            if output.datatype in ("FP32", "FP64"):
                np.testing.assert_allclose(found[name], expected, rtol=1e-5)
            else:
                assert found[name].tolist() == expected.tolist()


def test_a_file_that_is_none_spoils_its_request_alone(model: Any) -> None:
    bad, good = model.execute([request([IMAGES[0], b"no image"]), request(IMAGES[:2])])
    assert bad.error().message().startswith("image 1: ")
    assert not good.has_error()
    assert len(good.output_tensors[0].as_numpy()) == 2


def test_what_the_other_model_says_is_handed_on(model: Any, triton: Triton) -> None:
    triton.largest = 0
    (response,) = model.execute([request(IMAGES[:1])])
    assert response.error().message() == "small: batch too large"


def test_another_bundle_s_network_is_refused(model: Any, triton: Triton, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that decides otherwise than the manifest beside the model: nothing is answered."""
    run = triton.session.run
    monkeypatch.setattr(
        triton, "session", SimpleNamespace(run=lambda names, feed: [*run(names, feed)[:2], ~run(names, feed)[2]])
    )
    (response,) = model.execute([request(IMAGES[:3])])
    assert "decides otherwise than the manifest's thresholds" in response.error().message()
