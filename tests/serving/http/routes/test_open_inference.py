"""The Open Inference Protocol: Triton's own client gets the library's decisions."""

from __future__ import annotations

import tracemalloc
import warnings
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from runtime import Gate
from runtime.bundle import Bundle
from serving.exceptions import ProtocolError
from serving.http.routes.open_inference import OUTPUTS, read_request
from tests.small import calibration_images

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tritonclient.http as triton

SHAPE = (16, 16, 3)
IMAGES = calibration_images(7, seed=11)


@pytest.fixture(scope="module")
def expected(shared_bundle: Bundle) -> dict[str, Any]:
    gate = Gate.load(shared_bundle.path, threads=1)
    decisions = [decision.to_dict() for decision in gate.decide(IMAGES)]
    return {
        "accept": [d["decision"] == "accept" for d in decisions],
        "label": [(d["label"] or "").encode() for d in decisions],
        "class_index": [d["class_index"] for d in decisions],
        "confidence": [d["confidence"] for d in decisions],
        "p_value": [d["score"]["p_value"] for d in decisions],
        "scores": [list(d["scores"].values()) for d in decisions],
    }


@pytest.fixture(scope="module")
def client(server: tuple[str, object]) -> Any:
    client = triton.InferenceServerClient(server[0].removeprefix("http://"))
    yield client
    client.close()


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tritonclient_gets_the_library_s_decisions(
    client: Any, expected: dict[str, Any], binary_in: bool, binary_out: bool
) -> None:
    images = triton.InferInput("images", list(IMAGES.shape), "UINT8")
    images.set_data_from_numpy(IMAGES, binary_data=binary_in)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in OUTPUTS]
    answer = client.infer("small", [images], outputs=outputs, request_id="seven")
    assert answer.get_response()["id"] == "seven"
    for name, values in expected.items():
        found = answer.as_numpy(name)
        if name == "label" and not binary_out:
            found = np.array([item.encode() for item in found])
        if OUTPUTS[name].dtype in ("<f4", "<f8"):
            np.testing.assert_allclose(found, values, rtol=1e-5)
        else:
            assert found.tolist() == values


def test_tritonclient_s_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("small")
    assert client.is_model_ready("small", "1")
    assert client.get_server_metadata()["name"] == "oodgate"
    metadata = client.get_model_metadata("small")
    assert metadata["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 16, 16, 3]}]
    assert {output["name"]: output["shape"] for output in metadata["outputs"]}["scores"] == [-1, 6]


def test_tritonclient_reads_our_errors(client: Any) -> None:
    images = triton.InferInput("images", [1, 8, 8, 3], "UINT8")
    images.set_data_from_numpy(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(triton.InferenceServerException, match=r"expected images UINT8 \[1..8, 16, 16, 3\]"):
        client.infer("small", [images])
    with pytest.raises(triton.InferenceServerException, match="the model is small, version 1"):
        client.get_model_metadata("other")


def test_plain_json(server: tuple[str, object], expected: dict[str, Any]) -> None:
    document = {
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": list(IMAGES.shape), "data": IMAGES.tolist()}],
        "outputs": [{"name": "accept"}, {"name": "class_index"}],
    }
    answer = httpx.post(f"{server[0]}/v2/models/small/versions/1/infer", json=document).json()
    assert answer["model_name"] == "small"
    assert answer["outputs"] == [
        {"name": "accept", "datatype": "BOOL", "shape": [7], "data": expected["accept"]},
        {"name": "class_index", "datatype": "INT32", "shape": [7], "data": expected["class_index"]},
    ]


ONE = {"name": "images", "datatype": "UINT8", "shape": [1, 16, 16, 3]}
DATA = [0] * 768


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"{", "not JSON"),
        ([], "expected an object"),
        ({}, "inputs: expected a list"),
        ({"inputs": []}, "expected one input"),
        ({"inputs": [{"name": "x"}]}, "expected one input"),
        ({"inputs": [{**ONE, "datatype": "FP32", "data": DATA}]}, "found FP32"),
        ({"inputs": [{**ONE, "shape": [9, 16, 16, 3], "data": DATA}]}, r"found UINT8 \[9, 16"),
        ({"inputs": [{**ONE, "shape": [0, 16, 16, 3], "data": []}]}, r"found UINT8 \[0, 16"),
        ({"inputs": [{**ONE, "shape": [True, 16, 16, 3], "data": DATA}]}, "found UINT8"),
        ({"inputs": [{**ONE, "data": DATA[1:]}]}, "768 whole numbers"),
        ({"inputs": [{**ONE, "data": [256] * 768}]}, "0 to 255"),
        ({"inputs": [{**ONE, "data": [-1] * 768}]}, "0 to 255"),
        ({"inputs": [{**ONE, "data": [0.5] * 768}]}, "whole numbers"),
        ({"inputs": [{**ONE, "data": ["a"] * 768}]}, "whole numbers"),
        ({"inputs": [{**ONE, "data": [True] * 768}]}, "whole numbers"),
        ({"inputs": [{**ONE, "data": [[1], [1, 2]]}]}, "whole numbers"),
        ({"inputs": [ONE]}, "expected a list"),
        ({"inputs": [{**ONE, "parameters": {"binary_data_size": 768}}]}, "binary_data_size"),
        ({"inputs": [{**ONE, "data": DATA}], "outputs": [{"name": "logits"}]}, "there is no 'logits'"),
        ({"inputs": [{**ONE, "data": DATA}], "id": 7}, "id: expected a string"),
    ],
)
def test_what_does_not_keep_to_the_protocol_is_refused(document: Any, message: str) -> None:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    with pytest.raises(ProtocolError, match=message):
        read_request(body, None, SHAPE, 8)


def test_one_long_text_takes_no_memory_of_the_others() -> None:
    body = orjson.dumps({"inputs": [{**ONE, "data": ["a" * 20_000, *DATA[1:]]}]})
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="whole numbers"):
            read_request(body, None, SHAPE, 8)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", ["x", "-1", "1e3", "٣", "99999999999999999999999", "0" * 5000, ""])
def test_a_header_length_that_is_none(length: str) -> None:
    with pytest.raises(ProtocolError, match="inference-header-content-length"):
        read_request(b"{}", length, SHAPE, 8)


def test_binary_data_of_another_size_is_refused() -> None:
    header = orjson.dumps({"inputs": [{**ONE, "parameters": {"binary_data_size": 768}}]})
    assert read_request(header + bytes(768), str(len(header)), SHAPE, 8).images.shape == (1, 16, 16, 3)
    for body in (bytes(767), bytes(769), b""):
        with pytest.raises(ProtocolError, match="binary_data_size"):
            read_request(header + body, str(len(header)), SHAPE, 8)
