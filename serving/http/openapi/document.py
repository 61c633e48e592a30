"""The OpenAPI document of every route."""

from __future__ import annotations

from typing import Any

from serving.http.openapi.schemas import SCHEMAS, STRING, Json, a_list, an_object, ref
from serving.http.requests.query import MOST


def document(version: str, secured: bool) -> Json:
    """OpenAPI 3.1, served at /openapi.json.

    Args:
        version: of the package.
        secured: whether a key is asked for.
    """
    security: Json = {"security": [{"bearer": []}, {"key": []}]} if secured else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "oodgate",
            "version": version,
            "summary": "Classify an image, or reject it as out of distribution.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        **security,
        "paths": _PATHS,
        "components": {
            "schemas": SCHEMAS,
            "responses": {
                "Error": _json("Refused; the code says why", "Error"),
                "InferError": _json("Refused, in the Open Inference Protocol's words", "InferError"),
            },
            "parameters": {
                **{name: _path_parameter(name) for name in ("name", "version", "file", "id")},
                "alpha": {
                    "name": "alpha",
                    "in": "query",
                    "schema": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                    "description": "one of the bundle's operating points; /model lists them",
                },
                "set": {
                    "name": "set",
                    "in": "query",
                    "schema": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                    "description": "the coverage of the label set to name, one of the bundle's; /model lists them",
                },
                "top": {
                    "name": "top",
                    "in": "query",
                    "schema": {"type": "integer", "minimum": 1, "maximum": MOST},
                    "description": "how many of the most probable classes to name, the most probable first",
                },
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _json(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": ref("schemas", schema)}}}


def _other(description: str, kind: str) -> Json:
    return {"description": description, "content": {kind: {}}}


def _path_parameter(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": STRING}


def _operation(summary: str, answer: Json, body: Json | None = None, errors: str = "", **more: Any) -> Json:
    """An operation whose refusals are `errors`, statuses separated by spaces."""
    responses = {"200": answer, **{status: ref("responses", "Error") for status in errors.split()}}
    request = {} if body is None else {"requestBody": {"required": True, "content": body}}
    return {"summary": summary, **request, "responses": responses, **more}


def _get(summary: str, answer: Json, errors: str = "", **more: Any) -> Json:
    return {"get": _operation(summary, answer, None, errors, **more)}


def _post(summary: str, answer: Json, body: Json, *parameters: str) -> Json:
    """An operation that decides."""
    errors = "400 401 404 408 413 415 422 429 503"
    query = [ref("parameters", name) for name in ("alpha", *parameters)]
    return {"post": _operation(summary, answer, body, errors, parameters=query)}


def _probe(summary: str) -> Json:
    return {"get": _operation(summary, {"description": "Yes"}, None, "503", security=[])}


_FILE: Json = {"type": "string", "contentMediaType": "application/octet-stream"}
_IMAGE_TYPES = ("jpeg", "png", "webp", "bmp", "gif", "tiff")


def _in_protocol_words(item: Json) -> Json:
    """The path item of a /v2/ route, whose refusals are the protocol's; but a slow client's, which no route hears of."""
    refused, words = ref("responses", "Error"), ref("responses", "InferError")

    def answers(responses: Json) -> Json:
        return {
            status: words if answer == refused and status != "408" else answer for status, answer in responses.items()
        }

    return {method: {**operation, "responses": answers(operation["responses"])} for method, operation in item.items()}


_INFER = _post(
    "Infer, by the Open Inference Protocol",
    {
        "description": "The outputs asked for",
        "content": {
            "application/json": {"schema": ref("schemas", "InferResponse")},
            "application/octet-stream": {"schema": _FILE},
        },
    },
    {"application/json": {"schema": ref("schemas", "InferRequest")}, "application/octet-stream": {"schema": _FILE}},
)

_PATHS: Json = {
    "/classify": _post(
        "Decide on one image",
        _json("The decision", "Decision"),
        {
            "multipart/form-data": {"schema": {**an_object(image=_FILE), "additionalProperties": False}},
            **{f"image/{kind}": {"schema": _FILE} for kind in _IMAGE_TYPES},
            "application/octet-stream": {"schema": _FILE},
        },
        "top",
        "set",
    ),
    "/classify_batch": _post(
        "Decide on several images",
        _json("A decision or an error for each, in order", "Results"),
        {
            "multipart/form-data": {"schema": {**an_object(images=a_list(_FILE)), "additionalProperties": False}},
            "application/x-npy": {"schema": {**_FILE, "description": "uint8 [N, H, W, 3] at the model's size"}},
        },
        "top",
        "set",
    ),
    "/model": _get("What is served", _json("The model", "Model"), "401"),
    "/drift": _get("Has traffic moved away?", _json("What the stream of p-values looks like", "Any"), "401"),
    "/outcomes": {
        **_get("How often accepted answers were wrong", _json("What the outcomes say", "Outcomes"), "401 404 503"),
        "post": _operation(
            "Report the label of an image that was decided on, or of several",
            _json("What it said of the decision, or a list of that", "Settled"),
            {"application/json": {"schema": {"oneOf": [ref("schemas", "Outcome"), a_list(ref("schemas", "Outcome"))]}}},
            "400 401 404 408 413 415 422 429 503",
        ),
    },
    "/rejects": {
        **_get("Rejected images, newest first", _json("A page of records", "Any"), "400 401 404"),
        "parameters": [
            {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 500}},
            {"name": "after", "in": "query", "schema": STRING},
        ],
    },
    "/rejects/{id}": {
        "delete": {
            "summary": "Remove a rejected image",
            "responses": {
                "204": {"description": "Removed"},
                **{status: ref("responses", "Error") for status in ("401", "404")},
            },
        },
        "parameters": [ref("parameters", "id")],
    },
    "/rejects/{id}/image": {
        **_get("The image as it was received", _other("The image", "image/*"), "401 404"),
        "parameters": [ref("parameters", "id")],
    },
    "/metrics": _get("Prometheus metrics", _other("The metrics", "text/plain"), "401"),
    "/openapi.json": _get("This document", _json("OpenAPI 3.1", "Any"), "401"),
    "/": _get("The page", _other("The page", "text/html"), "401"),
    "/rejects.html": _get("The rejected images, to look at", _other("The page", "text/html"), "401"),
    "/page/{file}": {
        **_get("The page's files", _other("A file", "*/*"), "401 404"),
        "parameters": [ref("parameters", "file")],
    },
    "/livez": _probe("Is the process alive?"),
    "/healthz": _probe("Is the process alive?"),
    "/readyz": _probe("Is the model loaded?"),
    "/schema.json": _get("What BentoML's clients ask for", _json("BentoML's schema", "Any"), "401"),
    "/v2": _get("The server", _json("Its metadata", "Any"), "401"),
    "/v2/health/live": _probe("Is the process alive?"),
    "/v2/health/ready": _probe("Is the model loaded?"),
    **{
        f"{model}{path}": {**_in_protocol_words(item), "parameters": [ref("parameters", name) for name in names]}
        for model, names in (
            ("/v2/models/{name}", ["name"]),
            ("/v2/models/{name}/versions/{version}", ["name", "version"]),
        )
        for path, item in (
            ("", _get("The model's tensors", _json("Its metadata", "Any"), "401 404")),
            ("/ready", _get("Is the model loaded?", _json("It is", "Any"), "401 404 503")),
            ("/infer", _INFER),
        )
    },
}
