"""The JSON schemas of what routes take and answer."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

STRING: Json = {"type": "string"}
NUMBER: Json = {"type": ["number", "null"]}


def ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def an_object(required: bool = True, **properties: Json) -> Json:
    return {"type": "object", "properties": properties, **({"required": list(properties)} if required else {})}


def a_list(items: Json) -> Json:
    return {"type": "array", "items": items}


SCHEMAS: Json = {
    "Error": an_object(error=an_object(code=STRING, message=STRING)),
    "InferError": an_object(error=STRING),
    "Decision": {
        **an_object(
            decision={"enum": ["accept", "reject"]},
            reason={
                "enum": [None, "ood", "uncertain"],
                "description": "why it is rejected: out of distribution, or known and the answer uncertain; null on accept",
            },
            is_ood={"type": "boolean", "description": "whether it is rejected as out of distribution"},
            label={"type": ["string", "null"], "description": "null on reject"},
            class_index={
                "type": ["integer", "null"],
                "minimum": 0,
                "description": "what the classifier would have said",
            },
            confidence=NUMBER,
            score=an_object(name=STRING, value=NUMBER, threshold={"type": "number"}, p_value={"type": "number"}),
            scores={"type": "object", "additionalProperties": NUMBER},
            model=an_object(name=STRING, sha256=STRING),
        ),
        "description": "A model without classes (task `unlabelled`) accepts or rejects: its `label`, `class_index` and "
        "`confidence` are null. Multi-label models add `labels`, the names of all classes found; a bound on the error of "
        "accepted images adds `selection`, the second score with its threshold; `?top=` adds `top`, the most probable "
        "classes, and `?set=` `set`, the label set, null where the image is out of distribution.",
    },
    "Results": an_object(results=a_list({"oneOf": [ref("schemas", "Decision"), ref("schemas", "Error")]})),
    "Model": {
        **an_object(
            required=False,
            engine=STRING,
            engine_precision=STRING,
            tuning=an_object(
                engine_threads={"type": "integer", "minimum": 0},
                engine_calls={"type": "integer", "minimum": 1},
                max_batch={"type": "integer", "minimum": 1},
                batch_wait_ms={"type": "integer", "minimum": 0},
                chosen_by={"enum": ["settings", "measured", "cache"]},
            ),
        ),
        "description": "The public part of the bundle's manifest, and how it is run.",
    },
    "Tensor": {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": STRING,
            "datatype": STRING,
            "shape": a_list({"type": "integer"}),
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": STRING,
            "parameters": {"type": "object"},
            "inputs": a_list(ref("schemas", "Tensor")),
            "outputs": a_list(ref("schemas", "Tensor")),
        },
    },
    "InferResponse": {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "id": STRING,
            "model_name": STRING,
            "model_version": STRING,
            "parameters": an_object(sha256={**STRING, "description": "of the model that decided"}),
            "outputs": a_list(ref("schemas", "Tensor")),
        },
    },
    "Outcome": {
        "type": "object",
        "required": ["request_id", "label"],
        "properties": {
            "request_id": {**STRING, "description": "the answer's X-Request-ID"},
            "index": {"type": "integer", "minimum": 0, "description": "of the image among the request's; 0 without"},
            "label": {"type": ["string", "null"], "description": "the image's; null for none of the model's classes"},
        },
    },
    "Settled": {
        "type": "object",
        "description": "`{request_id, index, decision, answer, right}`; of a list, `results`.",
    },
    "Outcomes": an_object(
        answers={"type": "integer"},
        errors={"type": "integer"},
        rejected={"type": "integer"},
        error_rate=NUMBER,
        error_upper={"type": "number", "description": "bound on the error that holds at all times"},
        confidence={"type": "number"},
        promised=NUMBER,
    ),
    "Any": {"type": "object"},
}
