from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette

from runtime.bundle import Bundle
from serving.exceptions import RequestError
from serving.http.requests.memory import Budget
from tests.serving.http.test_middleware import PNG, hold_up, run


def test_bytes_are_held_until_the_request_ends() -> None:
    budget = Budget(1000)
    with budget.holding("a", bulk=False) as hold:
        hold.take(300)
        hold.take(200)
        assert (hold.size, budget.in_hand) == (500, 500)
    assert budget.in_hand == 0
    assert budget.is_room("a", 500, bulk=False)


def test_what_is_announced_is_checked_and_not_held() -> None:
    budget = Budget(1000)
    with budget.holding("a", bulk=False) as hold:
        hold.expect(500)
        assert budget.in_hand == 0
        with pytest.raises(RequestError, match="in hand") as caught:
            hold.expect(501)
    assert (caught.value.status, caught.value.headers["retry-after"]) == (503, "1")


def test_a_client_holds_half_at_most_and_batches_three_quarters() -> None:
    budget = Budget(1000)
    with budget.holding("a", bulk=True) as first, budget.holding("b", bulk=True) as second:
        first.take(500)
        assert not budget.is_room("a", 1, bulk=False)
        second.take(250)
        assert not budget.is_room("b", 1, bulk=True)
        assert budget.is_room("b", 250, bulk=False)
        assert budget.is_room("c", 250, bulk=False)
        assert not budget.is_room("c", 251, bulk=False)


def test_a_refusal_leaves_what_was_held() -> None:
    budget = Budget(1000)
    with budget.holding("a", bulk=False) as hold:
        hold.take(400)
        with pytest.raises(RequestError):
            hold.take(200)
        assert budget.in_hand == 400
    assert budget.in_hand == 0


BODIES = {
    "/classify": ("image/png", PNG),
    "/classify_batch": ("multipart/form-data; boundary=b", b"--b\r\n"),
    "/v2/models/small/infer": ("application/json", b"{}"),
}


@pytest.mark.parametrize("path", BODIES)
def test_a_body_without_room_is_refused_before_it_is_read(shared_bundle: Bundle, path: str) -> None:
    kind, content = BODIES[path]

    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        def parts() -> bytes:
            raise AssertionError("the body was asked for")

        async def never() -> object:
            yield parts()

        app.state.budget.count("127.0.0.1", 2000 - len(content) // 2)
        headers = {"content-type": kind, "content-length": str(max(len(content), 4000))}
        refused = await client.post(path, content=never(), headers=headers)  # type: ignore[arg-type]
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        app.state.budget.count("127.0.0.1", -(2000 - len(content) // 2))
        assert (await client.post(path, content=content, headers={"content-type": kind})).status_code != 503
        assert app.state.budget.in_hand == 0

    run(shared_bundle, body, body_memory=4000)


def test_a_body_of_unknown_length_is_refused_as_soon_as_there_is_no_room(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        sent = 0

        async def chunks() -> object:
            nonlocal sent
            for _ in range(100):
                sent += 1
                yield b"x" * 1000

        refused = await client.post("/classify", content=chunks())  # type: ignore[arg-type]
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "memory_full")
        assert sent < 5
        assert app.state.budget.in_hand == 0

    run(shared_bundle, body, body_memory=4000)


def test_a_body_is_held_until_it_has_its_answer(shared_bundle: Bundle) -> None:
    async def body(client: httpx.AsyncClient, app: Starlette) -> None:
        release = hold_up(app)
        first = asyncio.ensure_future(client.post("/classify", content=PNG))
        await asyncio.sleep(0.1)
        assert app.state.budget.in_hand == len(PNG)
        release()
        assert (await first).status_code == 200
        assert app.state.budget.in_hand == 0

    run(shared_bundle, body)
