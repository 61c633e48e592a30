"""One client for both: what Triton's client gets from /v2 is what the exported model gives under the same names."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from export.triton.__main__ import main
from runtime.bundle import Bundle
from runtime.golden.document import read
from runtime.preprocess import preprocess
from tests.serving.conftest import ROOT
from tests.small import calibration_images

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tritonclient.http as triton
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

IMAGES = calibration_images(8, seed=11)


@pytest.fixture(scope="module")
def exported(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("triton")
    assert main([str(shared_bundle.path), str(path)]) == 0
    return path / shared_bundle.manifest.model.name


def asked(server: str, model: str, outputs: list[str], images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """By a client that knows the model's configuration alone."""
    with triton.InferenceServerClient(server) as client:
        pixels = triton.InferInput("images", list(images.shape), "UINT8")
        pixels.set_data_from_numpy(images)
        answer = client.infer(model, [pixels], outputs=[triton.InferRequestedOutput(name) for name in outputs])
        return {name: answer.as_numpy(name) for name in outputs}


def test_one_client_for_both(server: tuple[str, object], exported: Path) -> None:
    config = text_format.Parse((exported / "config.pbtxt").read_text(), ModelConfig())
    outputs = [tensor.name for tensor in config.output if tensor.name != "logits"]
    found = asked(server[0].removeprefix("http://"), config.name, outputs, IMAGES)
    session = onnxruntime.InferenceSession(exported / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    assert len(outputs) == 8
    for name, expected in zip(outputs, session.run(outputs, {"images": IMAGES}), strict=True):
        assert found[name].shape == expected.shape
        if expected.dtype == object:
            assert [text.decode() for text in found[name]] == expected.tolist()
        else:
            np.testing.assert_allclose(found[name], expected, rtol=1e-5, err_msg=name)


def test_golden_images_on_both(server: tuple[str, object], exported: Path, golden_bundle: Bundle) -> None:
    """The golden images of the same model.onnx: through /v2 and through the exported graph, what they are to give."""
    golden = read(golden_bundle)
    assert golden is not None
    files = [(golden_bundle.path / "golden" / image.file).read_bytes() for image in golden.images]
    images = np.stack([preprocess(data, golden_bundle.manifest.input) for data in files])
    assert [hashlib.sha256(image).hexdigest() for image in images] == [image.pixels for image in golden.images]
    outputs = ["accept", "label", "class_index", "scores"]
    session = onnxruntime.InferenceSession(exported / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    half = len(images) // 2  # the service takes eight at once
    parts = [
        asked(server[0].removeprefix("http://"), "small", outputs, part) for part in (images[:half], images[half:])
    ]
    through_v2 = [np.concatenate([part[name] for part in parts]) for name in outputs]
    through_v2[1] = np.array([label.decode() for label in through_v2[1]], dtype=object)
    for accept, label, index, scores in (through_v2, session.run(outputs, {"images": images})):
        assert accept.tolist() == [image.decision == "accept" for image in golden.images]
        assert label.tolist() == [image.label or "" for image in golden.images]
        assert index.tolist() == [image.class_index for image in golden.images]
        wanted = [[image.scores[name] for name in golden_bundle.manifest.scores] for image in golden.images]
        np.testing.assert_allclose(scores, wanted, rtol=1e-5)


def test_the_client_of_the_docs(server: tuple[str, object]) -> None:
    page = (ROOT / "docs" / "triton.md").read_text()
    (client,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    here = client.replace("localhost:8000", server[0].removeprefix("http://"))
    small = here.replace('"cifar10"', '"small"').replace("32, 32", "16, 16")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", small], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8
