"""Generated bodies: a decision or a 4xx, never a 5xx, and never for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import monotonic

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from runtime import Gate
from runtime.bundle import Bundle
from runtime.exceptions import ImageError
from tests.serving.abuse.bodies import FILE, GOOD, Post, posts
from tests.serving.inside import application

many = settings(
    max_examples=600, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def gate(shared_bundle: Bundle) -> Gate:
    return Gate.load(shared_bundle.path, threads=1)


@pytest.fixture(scope="module")
def send(shared_bundle: Bundle) -> Iterator[Callable[[Post], httpx.Response]]:
    """Posts to an application in this process."""
    loop = asyncio.new_event_loop()
    running = application(shared_bundle)
    client, _ = loop.run_until_complete(running.__aenter__())

    def post(request: Post) -> httpx.Response:
        return loop.run_until_complete(
            asyncio.wait_for(client.post(request.path, content=request.body, headers=request.headers), 20)
        )

    yield post
    loop.run_until_complete(running.__aexit__(None, None, None))
    loop.close()


@pytest.mark.filterwarnings("ignore")
@many
@given(FILE)
def test_the_decoder_gives_pixels_or_an_image_error(gate: Gate, data: bytes) -> None:
    start = monotonic()
    try:
        pixels = gate.preprocess(data)
    except ImageError:
        pass
    else:
        assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)
    assert monotonic() - start < 5


@pytest.mark.filterwarnings("ignore")
@many
@given(posts())
def test_the_service_answers_with_a_decision_or_a_4xx(send: Callable[[Post], httpx.Response], request: Post) -> None:
    answer = send(request)
    assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
    body = answer.json()
    assert answer.status_code == 200 or list(body) == ["error"]
    assert "Traceback" not in answer.text


def test_the_undamaged_ones_are_answered(send: Callable[[Post], httpx.Response]) -> None:
    statuses = [send(post).status_code for post in GOOD]
    assert statuses == [200] * (len(GOOD) - 1) + [400]  # the last one's header length is wrong
