"""One client for both: what Triton's client gets from /v2 is what the exported model gives under the same names."""

from __future__ import annotations

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
