"""The Open Inference Protocol, version 2: what KServe's and Triton's clients speak over HTTP.

One model with one input, `images` UINT8 [N, height, width, 3], and one output for each thing that a decision says
(:data:`runtime.tensors.OUTPUTS`); a model without classes has none that tell of them. Tensors travel as JSON or, by the
binary-data extension, as little-endian bytes behind the JSON. Errors are ``{"error": "message"}``, as the protocol wants it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

import runtime
from runtime import Decision, Gate
from runtime.tensors import INPUT, OUTPUTS, outputs_of
from serving.deciding.decider import Decider
from serving.exceptions import ProtocolError, RequestError
from serving.http.errors import JsonResponse
from serving.http.requests.body import caller, holding, read_body
from serving.http.requests.query import asked_alpha, read_query
from serving.http.routes.process import check_engine
from serving.metrics import metrics
from serving.settings import Settings

HEADER_LENGTH = "inference-header-content-length"
EXTENSIONS = ["binary_tensor_data"]

# JSON spends up to four characters and some space on a byte; the rest is for the document around it.
_PER_BYTE, _DOCUMENT = 6, 64 * 1024


@dataclass(frozen=True)
class InferRequest:
    """What a client asks.

    Attributes:
        images: uint8 [N, height, width, 3].
        outputs: names of the outputs wanted, and whether each is wanted as bytes.
        id: repeated in the answer.
    """

    images: npt.NDArray[np.uint8]
    outputs: dict[str, bool]
    id: str | None


def server_metadata(version: str) -> dict[str, Any]:
    """The answer of /v2."""
    return {"name": "oodgate", "version": version, "extensions": EXTENSIONS}


def model_metadata(gate: Gate) -> dict[str, Any]:
    """The answer of /v2/models/NAME."""
    spec = gate.manifest.input
    return {
        "name": gate.manifest.model.name,
        "versions": ["1"],
        "platform": f"oodgate_{gate.engine.name}",
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, spec.height, spec.width, 3]}],
        "outputs": [
            {"name": name, "datatype": output.datatype, "shape": [-1, *output.columns(gate.manifest)]}
            for name, output in outputs_of(gate.manifest).items()
        ],
    }


def read_request(
    body: bytes,
    header_length: str | None,
    shape: tuple[int, int, int],
    max_images: int,
    outputs: Sequence[str] = tuple(OUTPUTS),
) -> InferRequest:
    """Parse an inference request.

    Args:
        body: JSON, and what follows it when `header_length` is given.
        header_length: the header that says where the JSON ends; None when the body is JSON alone.
        shape: (height, width, 3) of the model's images.
        max_images: bound on their number.
        outputs: that the model has.

    Raises:
        ProtocolError: saying what was expected and what was found.
    """
    header, binary = _split(body, header_length)
    try:
        document = orjson.loads(header)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"the request is not JSON: {error}") from error
    inputs = _list(_object(document, "the request").get("inputs"), "inputs")
    if len(inputs) != 1 or _object(inputs[0], "inputs[0]").get("name") != INPUT:
        raise ProtocolError(f"expected one input, {INPUT!r}, found {[_name(item) for item in inputs]}")
    identifier = document.get("id")
    if not isinstance(identifier, str | None):
        raise ProtocolError("id: expected a string")
    return InferRequest(_images(inputs[0], binary, shape, max_images), _outputs(document, outputs), identifier)


def write_response(request: InferRequest, decisions: Sequence[Decision], name: str) -> tuple[bytes, int | None]:
    """The body of the answer, and the length of its JSON when tensors follow it as bytes."""
    described, binary = [], b""
    for output, as_bytes in request.outputs.items():
        tensor = OUTPUTS[output].tensor(decisions)
        entry: dict[str, Any] = {"name": output, "datatype": OUTPUTS[output].datatype, "shape": list(tensor.shape)}
        if as_bytes:
            data = _to_bytes(tensor)
            entry["parameters"] = {"binary_data_size": len(data)}
            binary += data
        else:
            flat = tensor.ravel().tolist()
            entry["data"] = [item.decode() for item in flat] if tensor.dtype == object else flat
        described.append(entry)
    document: dict[str, Any] = {
        "model_name": name,
        "model_version": "1",
        "parameters": {"sha256": decisions[0].model.sha256},
        "outputs": described,
    }
    if request.id is not None:
        document["id"] = request.id
    header = orjson.dumps(document)
    return header + binary, len(header) if any(request.outputs.values()) else None


def _split(body: bytes, header_length: str | None) -> tuple[memoryview, memoryview]:
    whole = memoryview(body)
    if header_length is None:
        return whole, whole[:0]
    is_number = header_length.isascii() and header_length.isdigit() and len(header_length) <= 18
    if not is_number or int(header_length) > len(body):
        raise ProtocolError(f"{HEADER_LENGTH}: expected at most the body's {len(body)} bytes")
    return whole[: int(header_length)], whole[int(header_length) :]


def _images(
    entry: dict[str, Any], binary: memoryview, shape: tuple[int, int, int], max_images: int
) -> npt.NDArray[np.uint8]:
    expected = f"expected {INPUT} UINT8 [1..{max_images}, {', '.join(map(str, shape))}]"
    found = _list(entry.get("shape"), f"{INPUT}.shape")
    right = all(type(size) is int for size in found) and tuple(found[1:]) == shape and 1 <= found[0] <= max_images
    if entry.get("datatype") != "UINT8" or not right:
        raise ProtocolError(f"{expected}, found {str(entry.get('datatype'))[:20]} {str(found)[:60]}")
    count = int(np.prod(found))
    size = _object(entry.get("parameters", {}), "parameters").get("binary_data_size")
    if size is not None:
        if "data" in entry or size != len(binary) or size != count:
            raise ProtocolError(f"{expected}: {count} bytes and no data, found binary_data_size {str(size)[:20]}")
        return np.frombuffer(binary, np.uint8).reshape(-1, *shape)
    data = _list(entry.get("data"), f"{INPUT}.data")
    try:
        flat = np.array(data, dtype=object).ravel().tolist()  # of texts numpy would make each as long as the longest
    except ValueError:  # lists that differ in length
        flat = []
    if len(flat) != count or set(map(type, flat)) != {int} or min(flat) < 0 or max(flat) > 255:
        raise ProtocolError(f"{expected}: {count} whole numbers from 0 to 255 as data")
    return np.array(flat, np.uint8).reshape(-1, *shape)


def _outputs(document: dict[str, Any], known: Sequence[str]) -> dict[str, bool]:
    """Which outputs are wanted, all where none is named, and which of them as bytes."""
    parameters = _object(document.get("parameters", {}), "parameters")
    if "alpha" in parameters:
        raise ProtocolError("parameters: alpha is asked for in the query, as ?alpha=0.01")
    default = parameters.get("binary_data_output") is True
    wanted = {}
    for item in _list(document.get("outputs", []), "outputs"):
        name = _name(item)
        if name not in known:
            raise ProtocolError(f"outputs: there is no {name!r}; the model has {', '.join(known)}")
        wanted[name] = bool(_object(item.get("parameters", {}), "parameters").get("binary_data", default))
    return wanted or dict.fromkeys(known, default)


def _to_bytes(tensor: npt.NDArray[Any]) -> bytes:
    if tensor.dtype != object:
        return tensor.tobytes()
    return b"".join(struct.pack("<I", len(item)) + item for item in tensor)


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProtocolError(f"{what}: expected an object, found {type(value).__name__}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ProtocolError(f"{what}: expected a list, found {type(value).__name__}")
    return value


def _name(item: Any) -> str:
    return str(_object(item, "a tensor").get("name"))[:60]


async def _live(_: Request) -> Response:
    return JsonResponse({"live": True})


async def _ready(request: Request) -> Response:
    await check_engine(request)
    ready = request.app.state.decider is not None
    return JsonResponse({"ready": ready}, 200 if ready else 503)


async def _server(_: Request) -> Response:
    return JsonResponse(server_metadata(runtime.__version__))


async def _model(request: Request) -> Response:
    return JsonResponse(model_metadata(_gate(request)))


async def _model_ready(request: Request) -> Response:
    await check_engine(request)
    return JsonResponse({"name": _gate(request).manifest.model.name, "ready": True})


async def _infer(request: Request) -> Response:
    decider: Decider = request.app.state.decider
    settings: Settings = request.app.state.settings
    with decider.using(asked_alpha(read_query(request, "alpha"))) as use, holding(request, bulk=True) as hold:
        _check_name(request, use.gate)
        spec = use.gate.manifest.input
        shape = (spec.height, spec.width, 3)
        limit = min(settings.max_body, settings.max_images * int(np.prod(shape)) * _PER_BYTE + _DOCUMENT)
        start = perf_counter()
        body = await read_body(request, limit, hold)
        header_length = request.headers.get(HEADER_LENGTH)
        metrics().stage("read", perf_counter() - start)
        parse = partial(
            read_request, body, header_length, shape, settings.max_images, tuple(outputs_of(use.gate.manifest))
        )
        asked = await to_thread.run_sync(parse, limiter=request.app.state.parsers)
        decisions = await decider.decide_array(asked.images, caller(request), use)
    content, json_length = write_response(asked, decisions, use.gate.manifest.model.name)
    if json_length is None:
        return Response(content, media_type="application/json")
    headers = {HEADER_LENGTH: str(json_length)}
    return Response(content, headers=headers, media_type="application/octet-stream")


def _gate(request: Request) -> Gate:
    """The gate, when the model of the request's path is its own."""
    gate: Gate = request.app.state.decider.gate
    _check_name(request, gate)
    return gate


def _check_name(request: Request, gate: Gate) -> None:
    asked = (request.path_params["name"], request.path_params.get("version", "1"))
    if asked != (gate.manifest.model.name, "1"):
        raise RequestError(404, "unknown_model", f"the model is {gate.manifest.model.name}, version 1")


ROUTES: list[BaseRoute] = [
    Route("/v2", _server),
    Route("/v2/health/live", _live),
    Route("/v2/health/ready", _ready),
    *(
        route
        for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
        for route in (
            Route(model, _model),
            Route(f"{model}/ready", _model_ready),
            Route(f"{model}/infer", _infer, methods=["POST"]),
        )
    ),
]
