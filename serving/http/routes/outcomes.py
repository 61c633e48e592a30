"""The routes of outcomes: the labels of images that were decided on, and the error of accepted answers that follows."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtime import Gate
from serving.deciding.listeners import show_outcomes
from serving.exceptions import RequestError
from serving.http.errors import JsonResponse, error_body
from serving.http.requests.body import holding, read_body
from serving.outcomes.ledger import FLUSH, Ledger, Refused, Settled
from serving.outcomes.report import Report

logger = logging.getLogger("oodgate")

MOST = 1000  # outcomes of a request
_MAX_BODY = 512 * MOST

_REFUSED: dict[Refused, tuple[int, str, str]] = {
    "unknown": (
        404,
        "unknown_request",
        "no such decision of the bundle in service is remembered: it is unknown, or too old",
    ),
    "settled": (422, "outcome_known", "its outcome is known already, and stays as it was"),
}


@dataclass(frozen=True)
class Outcome:
    """What a client reports.

    Attributes:
        request_id: what the answer's ``X-Request-ID`` was.
        index: of the image among the request's.
        label: the image's; None for none of the model's classes.
    """

    request_id: str
    index: int
    label: str | None


def read_outcome(item: Any, labels: Sequence[str]) -> Outcome:
    """An outcome of a request's JSON.

    Raises:
        RequestError: 422, saying what was expected and what was found.
    """
    if not isinstance(item, dict) or not {"request_id", "label"} <= item.keys() <= {"request_id", "label", "index"}:
        raise _unusable("expected {request_id, label} and, for an image of several, index")
    identifier, index, label = item["request_id"], item.get("index", 0), item["label"]
    if not isinstance(identifier, str) or not 1 <= len(identifier) <= 128:
        raise _unusable("request_id: expected the X-Request-ID of an answer, of 1 to 128 characters")
    if type(index) is not int or not 0 <= index < 2**31:
        raise _unusable("index: expected a whole number from 0, the image's place among the request's")
    if label is not None and label not in labels:
        raise _unusable(
            f"label: expected one of the model's {len(labels)}, or null for none of them, found {_short(label)}"
        )
    return Outcome(identifier, index, label)


async def _post(request: Request) -> Response:
    with request.app.state.decider.using() as use:
        ledger = _ledger(request)
        with holding(request, bulk=True) as hold:
            document = _parsed(await read_body(request, _MAX_BODY, hold))
        items = document if isinstance(document, list) else [document]
        if not 1 <= len(items) <= MOST:
            raise _unusable(f"expected 1 to {MOST} outcomes, found {len(items)}")
        read = [_try_read(item, use.gate.manifest.labels) for item in items]
        results = await _settled(ledger, read, patient=request.app.state.settings.workers > 1)
        show_outcomes(await _report(ledger, use.gate))
    if isinstance(document, list):
        return JsonResponse({"results": [_result_json(result) for result in results]})
    if isinstance(results[0], RequestError):
        raise results[0]
    return JsonResponse(_result_json(results[0]))


async def _get(request: Request) -> Response:
    return JsonResponse((await _report(_ledger(request), request.app.state.decider.gate)).to_dict())


Read = Outcome | RequestError
Result = tuple[Outcome, Settled] | RequestError


async def _settled(ledger: Ledger, read: Sequence[Read], *, patient: bool) -> list[Result]:
    """What became of each outcome; with patience for decisions of other workers, which take a moment to be known."""
    results = await _settle(ledger, read)
    unknown = [i for i, result in enumerate(results) if isinstance(result, RequestError) and result.status == 404]
    if patient and unknown:
        await asyncio.sleep(1.25 * FLUSH)
        for i, result in zip(unknown, await _settle(ledger, [read[i] for i in unknown]), strict=True):
            results[i] = result
    return results


async def _settle(ledger: Ledger, read: Sequence[Read]) -> list[Result]:
    def settle(outcome: Read) -> Result:
        if isinstance(outcome, RequestError):
            return outcome
        result = ledger.settle(outcome.request_id, outcome.index, outcome.label)
        return RequestError(*_REFUSED[result]) if isinstance(result, str) else (outcome, result)

    try:
        return await to_thread.run_sync(lambda: [settle(outcome) for outcome in read])
    except sqlite3.Error as error:
        raise _failed(error) from error


async def _report(ledger: Ledger, gate: Gate) -> Report:
    try:
        return Report.of(await to_thread.run_sync(ledger.counts), gate.spec)
    except sqlite3.Error as error:
        raise _failed(error) from error


def _try_read(item: Any, labels: Sequence[str]) -> Read:
    try:
        return read_outcome(item, labels)
    except RequestError as error:
        return error


def _result_json(result: Result) -> dict[str, Any]:
    if isinstance(result, RequestError):
        return error_body(result.code, str(result))
    outcome, settled = result
    return {
        "request_id": outcome.request_id,
        "index": outcome.index,
        "decision": "accept" if settled.accepted else "reject",
        "answer": settled.answer,
        "right": settled.right,
    }


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, "bad_request", f"the outcome is not JSON: {error}") from error


def _ledger(request: Request) -> Ledger:
    ledger: Ledger | None = request.app.state.deployment.listeners.outcomes
    if ledger is None:
        why = "OODGATE_OUTCOMES says how many decisions are remembered, and the model must give one label an image"
        raise RequestError(404, "not_found", f"outcomes are not kept: {why}")
    return ledger


def _unusable(problem: str) -> RequestError:
    return RequestError(422, "unusable_outcome", problem)


def _failed(error: sqlite3.Error) -> RequestError:
    logger.error("outcomes can't be kept: %s", error)
    return RequestError(503, "outcomes_failed", "the outcome could not be written down; send it again", retry_after="1")


def _short(value: Any) -> str:
    return repr(value)[:60]


ROUTES: list[BaseRoute] = [Route("/outcomes", _get), Route("/outcomes", _post, methods=["POST"])]
