"""Outcomes over HTTP: which decision they are about, what is refused, and the error of accepted answers that follows."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from runtime import Gate
from runtime.bundle import MODEL, Bundle, write
from serving.outcomes.bound import upper
from tests.serving.inside import application
from tests.small import LABELS, calibration_images, classifier, encode, write_bundle

PIXELS = calibration_images(60, seed=5)
IMAGES = [encode(image) for image in PIXELS]

Body = Callable[[httpx.AsyncClient, Starlette], Awaitable[None]]


def run(bundle: Bundle, body: Body, **settings: Any) -> None:
    async def inside() -> None:
        async with application(bundle, **settings) as (client, app):
            await body(client, app)

    asyncio.run(inside())


async def classified(client: httpx.AsyncClient, image: bytes) -> tuple[str, dict[str, Any]]:
    """The request's id, and the decision."""
    answer = await client.post("/classify", content=image)
    return answer.headers["x-request-id"], answer.json()


def other(label: str) -> str:
    return LABELS[(LABELS.index(label) + 1) % 3]


def test_outcomes_are_the_error_of_accepted_answers(selective_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        empty = (await client.get("/outcomes")).json()
        assert (empty["answers"], empty["errors"], empty["rejected"], empty["error_rate"]) == (0, 0, 0, None)
        assert (empty["error_upper"], empty["confidence"], empty["promised"]) == (1, 0.95, 0.05)
        accepted = rejected = errors = 0
        for i, image in enumerate(IMAGES):
            request, decision = await classified(client, image)
            answer = LABELS[decision["class_index"]]
            label = (answer, other(answer), None)[0 if i % 9 else 1 + i % 2]
            outcome = await client.post("/outcomes", json={"request_id": request, "label": label})
            assert outcome.status_code == 200
            right = label == answer
            expected = {
                "request_id": request,
                "index": 0,
                "decision": decision["decision"],
                "answer": answer,
                "right": right,
            }
            assert outcome.json() == expected
            accepted += decision["decision"] == "accept"
            rejected += decision["decision"] == "reject"
            errors += decision["decision"] == "accept" and not right
        assert min(accepted, rejected, errors) > 0
        found = (await client.get("/outcomes")).json()
        assert (found["answers"], found["errors"], found["rejected"]) == (accepted, errors, rejected)
        assert found["error_rate"] == errors / accepted
        assert found["error_upper"] == upper(errors, accepted)
        metrics = (await client.get("/metrics")).text
        assert f"oodgate_outcomes_answers {accepted:.1f}" in metrics
        assert f"oodgate_outcomes_errors {errors:.1f}" in metrics
        assert f"oodgate_outcomes_error_upper {upper(errors, accepted)}" in metrics

    run(selective_bundle, body)


def test_outcomes_are_those_of_the_default_point(shared_bundle: Bundle) -> None:
    """Whatever alpha the requests had: here all labels are right but those of what the default point alone rejects."""
    gate = Gate.load(shared_bundle.path, threads=1)
    standard, lenient = gate.decide(PIXELS), gate.decide(PIXELS, alpha=0.01)
    differs = [a.is_ood and not b.is_ood for a, b in zip(standard, lenient, strict=True)]
    assert any(differs)

    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        for image, decision, is_other in zip(IMAGES, standard, differs, strict=True):
            answer = await client.post("/classify?alpha=0.01", content=image)
            assert answer.json()["decision"] == ("accept" if is_other else decision.decision)
            label = None if is_other else LABELS[decision.class_index]
            asked = {"request_id": answer.headers["x-request-id"], "label": label}
            outcome = (await client.post("/outcomes", json=asked)).json()
            assert outcome["decision"] == decision.decision
        rejected = sum(decision.is_ood for decision in standard)
        found = (await client.get("/outcomes")).json()
        assert (found["answers"], found["errors"], found["rejected"]) == (len(IMAGES) - rejected, 0, rejected)

    run(shared_bundle, body)


def test_metrics_forget_the_outcomes_of_a_bundle_that_was_replaced(bundle_dir: Path) -> None:
    other = write_bundle(bundle_dir.parent / "other", classifier(seed=1))

    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        async def shown() -> list[str]:
            lines = (await client.get("/metrics")).text.splitlines()
            return [line.removeprefix("oodgate_outcomes_") for line in lines if line.startswith("oodgate_outcomes_")]

        nothing = ["answers 0.0", "errors 0.0", "error_rate NaN", "error_upper 1.0"]
        assert await shown() == nothing
        request = next(id_ for id_, found in [await classified(client, one) for one in IMAGES] if found["label"])
        assert (await client.post("/outcomes", json={"request_id": request, "label": None})).status_code == 200
        assert (await shown())[:2] == ["answers 1.0", "errors 1.0"]
        write(bundle_dir, other.manifest, {MODEL: other.model}, {})
        await app.state.deployment.look()
        assert (await client.get("/outcomes")).json()["answers"] == 0
        assert await shown() == nothing

    run(Bundle.load(bundle_dir), body, reload=0)


def test_each_image_of_a_request_has_an_outcome_of_its_own(shared_bundle: Bundle) -> None:
    expected = [LABELS[d.class_index] for d in Gate.load(shared_bundle.path, threads=1).decide(PIXELS[:6])]

    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        files = [("images", image) for image in [*IMAGES[:3], b"no image", *IMAGES[3:6]]]
        answer = await client.post("/classify_batch", files=files)
        request = answer.headers["x-request-id"]
        outcomes = [{"request_id": request, "index": i, "label": "cat"} for i in (6, 5, 4, 3, 2, 1, 0, 7)]
        results = (await client.post("/outcomes", json=outcomes)).json()["results"]
        answers = [result.get("answer") or result["error"]["code"] for result in results]
        assert answers == [*expected[:2:-1], "unknown_request", *expected[2::-1], "unknown_request"]

    run(shared_bundle, body)


def test_images_of_an_array_are_in_its_order(shared_bundle: Bundle) -> None:
    expected = [LABELS[d.class_index] for d in Gate.load(shared_bundle.path, threads=1).decide(PIXELS[:8])]
    tensor = {"name": "images", "datatype": "UINT8", "shape": [8, 16, 16, 3], "data": PIXELS[:8].tolist()}

    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        answer = await client.post("/v2/models/small/infer", json={"inputs": [tensor]})
        request = answer.headers["x-request-id"]
        outcomes = [{"request_id": request, "index": i, "label": None} for i in range(8)]
        results = (await client.post("/outcomes", json=outcomes)).json()["results"]
        assert [result["answer"] for result in results] == expected

    run(shared_bundle, body, max_batch=3)


def test_a_second_outcome_and_an_unknown_request_are_refused(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        answer = await client.post("/classify", content=IMAGES[0], headers={"x-request-id": "mine"})
        assert answer.headers["x-request-id"] == "mine"
        first = {"request_id": "mine", "label": "cat"}
        assert (await client.post("/outcomes", json=first)).status_code == 200
        before = (await client.get("/outcomes")).json()
        for outcome, status, code in (
            (first, 422, "outcome_known"),
            ({**first, "label": "dog"}, 422, "outcome_known"),
            ({**first, "request_id": "yours"}, 404, "unknown_request"),
            ({**first, "index": 1}, 404, "unknown_request"),
        ):
            refused = await client.post("/outcomes", json=outcome)
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        assert (await client.get("/outcomes")).json() == before

    run(shared_bundle, body)


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ({"request_id": "a"}, "expected {request_id, label} and, for an image of several, index"),
        ({"request_id": "a", "label": "cat", "colour": 1}, "expected {request_id, label}"),
        ("a", "expected {request_id, label}"),
        ({"request_id": 7, "label": "cat"}, "request_id: expected the X-Request-ID of an answer"),
        ({"request_id": "", "label": "cat"}, "request_id: expected"),
        ({"request_id": "a" * 129, "label": "cat"}, "request_id: expected"),
        (
            {"request_id": "a", "label": "tree"},
            "one of the model's 3, or null for none of them, found 'tree'",
        ),
        ({"request_id": "a", "label": ["cat"]}, "label: expected one of the model's 3"),
        ({"request_id": "a", "label": "cat", "index": -1}, "index: expected a whole number from 0"),
        ({"request_id": "a", "label": "cat", "index": True}, "index: expected a whole number"),
        ({"request_id": "a", "label": "cat", "index": 2**40}, "index: expected a whole number"),
    ],
)
def test_what_is_no_outcome(shared_bundle: Bundle, outcome: Any, message: str) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        refused = await client.post("/outcomes", json=outcome)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "unusable_outcome")
        assert message in refused.json()["error"]["message"]
        (listed,) = (await client.post("/outcomes", json=[outcome])).json()["results"]
        assert listed == refused.json()

    run(shared_bundle, body)


def test_bodies_that_are_none(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        one = {"request_id": "a", "label": "cat"}
        for content, status, code in (
            (b"{", 400, "bad_request"),
            (b"", 400, "bad_request"),
            (b"[]", 422, "unusable_outcome"),
            (b"[" * 100_000, 400, "bad_request"),
            (b" " * 600_000, 413, "body_too_large"),
        ):
            refused = await client.post("/outcomes", content=content)
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        refused = await client.post("/outcomes", json=[one] * 1001)
        assert "expected 1 to 1000 outcomes, found 1001" in refused.json()["error"]["message"]
        assert (await client.delete("/outcomes")).status_code == 405

    run(shared_bundle, body)


def test_where_outcomes_are_not_kept(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        await client.post("/classify", content=IMAGES[0])
        for answer in (await client.get("/outcomes"), await client.post("/outcomes", json={})):
            assert answer.status_code == 404
            assert "OODGATE_OUTCOMES says how many decisions are remembered" in answer.json()["error"]["message"]

    run(shared_bundle, body, outcomes=0)


def test_it_takes_a_key_where_the_others_do(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        assert (await client.post("/outcomes", json={})).status_code == 401
        keyed = await client.post("/outcomes", json={}, headers={"x-api-key": "secret"})
        assert keyed.status_code == 422

    run(shared_bundle, body, api_keys=(hashlib.sha256(b"secret").hexdigest(),))


def test_a_decision_of_another_worker_is_waited_for(
    shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written down within a second."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr("serving.deciding.listeners._shared", lambda: tmp_path)

    async def body(client: httpx.AsyncClient, _: Starlette) -> None:
        async with application(shared_bundle, workers=2) as (worker, _app):
            request, decision = await classified(worker, IMAGES[0])
            outcome = await client.post("/outcomes", json={"request_id": request, "label": None})
            assert outcome.status_code == 200
            assert outcome.json()["answer"] == LABELS[decision["class_index"]]
            assert (await worker.get("/outcomes")).json() == (await client.get("/outcomes")).json()

    run(shared_bundle, body, workers=2)


def test_a_file_that_can_not_be_used_is_503(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        app.state.deployment.listeners.outcomes._file.close()
        refused = await client.post("/outcomes", json={"request_id": "a", "label": "cat"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "outcomes_failed")
        assert (await classified(client, IMAGES[0]))[1]["decision"] in ("accept", "reject")

    run(shared_bundle, body)


def test_no_pixels_are_remembered(shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.deciding.listeners._shared", lambda: tmp_path)

    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        for image in IMAGES:
            await client.post("/classify", content=image)
        app.state.deployment.listeners.outcomes.flush()

    run(shared_bundle, body)
    (file,) = tmp_path.glob("outcomes-*.sqlite")
    assert np.frombuffer(file.read_bytes(), np.uint8).size < 60_000
