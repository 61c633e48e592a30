"""Which images are decided on by the event loop itself, and which by the pipeline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from runtime import Gate
from runtime.bundle import Bundle
from runtime.exceptions import EngineError, ImageError
from serving.deciding.decider import Caller, Decider
from serving.deciding.room import Room
from serving.deciding.served import Served
from serving.exceptions import RequestError
from serving.settings import Settings
from tests.small import calibration_images, encode

PNG = encode(calibration_images(1)[0])
LARGE = encode(np.zeros((300, 300, 3), np.uint8))


async def _never() -> None:
    await asyncio.Event().wait()


class Watched:
    """A decider whose engine tells which thread it ran on."""

    def __init__(self, gate: Gate) -> None:
        self.threads: list[str] = []
        self.heard: list[str] = []
        run = gate.engine.run

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.threads.append(threading.current_thread().name)
            return run(*args, **kwargs)

        gate.engine.run = watched  # type: ignore[method-assign]
        self.decider = Decider(Served(gate, [lambda decided: self.heard.append(decided.request_id)]), Settings())

    async def ask(self, image: bytes, name: str = "") -> str:
        with self.decider.using() as use:
            return (await self.decider.decide(image, Caller(name, _never), use)).decision

    def here(self) -> list[bool]:
        """Of each engine call, whether it was the event loop's."""
        return [name == threading.main_thread().name for name in self.threads]


def run(bundle: Bundle, body: Callable[[Watched], Awaitable[None]]) -> None:
    async def main() -> None:
        watched = Watched(Gate.load(bundle.path, threads=1))
        await body(watched)
        await watched.decider.close()

    asyncio.run(main())


def test_an_image_alone_is_decided_on_at_once_if_the_engine_is_known_to_be_quick(shared_bundle: Bundle) -> None:
    async def body(watched: Watched) -> None:
        first = await watched.ask(PNG, "first")
        watched.decider.served.engine_seconds = 0.001
        assert await watched.ask(PNG, "second") == first
        watched.decider.served.engine_seconds = 0.1
        assert await watched.ask(PNG, "third") == first
        assert watched.here() == [False, True, False]
        assert watched.heard == ["first", "second", "third"]

    run(shared_bundle, body)


def test_images_that_come_together_go_to_the_threads(shared_bundle: Bundle) -> None:
    async def body(watched: Watched) -> None:
        watched.decider.served.engine_seconds = 0.0
        names = [str(i) for i in range(8)]
        assert len(set(await asyncio.gather(*(watched.ask(PNG, name) for name in names)))) == 1
        assert sum(watched.here()) == 1  # the first, which could not know
        assert sorted(watched.heard) == names

    run(shared_bundle, body)


def test_a_large_image_goes_to_the_threads(shared_bundle: Bundle) -> None:
    async def body(watched: Watched) -> None:
        watched.decider.served.engine_seconds = 0.0
        await watched.ask(LARGE)
        assert watched.here() == [False]

    run(shared_bundle, body)


def test_what_goes_wrong_at_once_is_the_same_error(shared_bundle: Bundle) -> None:
    async def body(watched: Watched) -> None:
        watched.decider.served.engine_seconds = 0.0
        with pytest.raises(ImageError):
            await watched.ask(b"no image")
        run = watched.decider.gate.engine.run

        def fails(*_: Any, **__: Any) -> Any:
            raise EngineError("broken")

        watched.decider.gate.engine.run = fails  # type: ignore[method-assign]
        with pytest.raises(EngineError):
            await watched.ask(PNG)
        watched.decider.gate.engine.run = run  # type: ignore[method-assign]
        await watched.ask(PNG)

    run(shared_bundle, body)


def test_refusals_leave_nothing_behind(shared_bundle: Bundle) -> None:
    async def body(watched: Watched) -> None:
        watched.decider.room = Room(0, 64)
        depths = set()
        for _ in range(20):
            with pytest.raises(RequestError) as caught:
                await watched.ask(PNG)
            depths.add(len(caught.traceback))
        assert len(depths) == 1
        watched.decider.room = Room(64, 64)

    run(shared_bundle, body)


def test_a_request_that_is_cancelled_leaves_the_way_open(shared_bundle: Bundle) -> None:
    async def body(watched: Watched) -> None:
        watched.decider.served.engine_seconds = 0.0
        request = asyncio.ensure_future(watched.ask(PNG))
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await asyncio.sleep(0)
        watched.decider.served.engine_seconds = 0.0
        await watched.ask(PNG)
        assert watched.here() == [True, True]

    run(shared_bundle, body)


def test_a_client_that_keeps_the_queue_full_shuts_nobody_out(shared_bundle: Bundle) -> None:
    """One client has as many batches in hand as are let in; others still get theirs, and single images theirs."""

    async def body(watched: Watched) -> None:
        decider = watched.decider
        decider.room = Room(8, 8)

        async def batch(client: str) -> int:
            with decider.using() as use:
                return len(await decider.decide_each([PNG] * 4, Caller("", _never, client), use))

        async def single(client: str) -> None:
            with decider.using() as use:
                await decider.decide(PNG, Caller("", _never, client), use)

        greedy = [asyncio.ensure_future(batch("greedy")) for _ in range(3)]
        await asyncio.sleep(0)
        assert decider.room.is_full(bulk=True, client="greedy")
        with pytest.raises(RequestError, match="too many images"):
            decider.room.check(True, "greedy")
        decider.room.check(True, "modest")
        modest = [asyncio.ensure_future(batch(client)) for client in ("modest", "other")]
        await asyncio.wait_for(single("greedy"), 5)  # batches fill no queue of single images
        assert await asyncio.gather(*modest) == [4, 4]
        refused = await asyncio.gather(*greedy, return_exceptions=True)
        assert [type(result) for result in refused] == [int, int, RequestError]
        assert not decider.room._of_client

    run(shared_bundle, body)


def test_failures_are_counted_whether_anybody_waits_or_not(shared_bundle: Bundle) -> None:
    """Clients that go before the engine fails."""

    async def body(watched: Watched) -> None:
        begun, go = threading.Semaphore(0), threading.Semaphore(0)

        def fails(*_: Any, **__: Any) -> Any:
            begun.release()
            go.acquire()
            raise EngineError("broken")

        run, watched.decider.gate.engine.run = watched.decider.gate.engine.run, fails  # type: ignore[method-assign]
        for count in range(1, 4):
            watched.decider.served.engine_seconds = 1.0  # not on the event loop
            asking = asyncio.ensure_future(watched.ask(PNG))
            await asyncio.to_thread(begun.acquire)
            asking.cancel()
            go.release()
            async with asyncio.timeout(20):
                while watched.decider.served.failures < count:
                    await asyncio.sleep(0.01)
        go.release()
        assert not await watched.decider.works()
        watched.decider.gate.engine.run = run  # type: ignore[method-assign]
        assert await watched.decider.works()
        assert watched.decider.served.failures == 0

    run(shared_bundle, body)


def test_an_engine_that_hangs_is_noticed(shared_bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    """Its requests are answered, and the service says that it does not work until a batch comes back."""

    async def body(watched: Watched) -> None:
        go = threading.Event()

        def hangs(*args: Any, **kwargs: Any) -> Any:
            go.wait()
            return run(*args, **kwargs)

        run, watched.decider.gate.engine.run = watched.decider.gate.engine.run, hangs  # type: ignore[method-assign]
        watched.decider._timeout = 0.2
        with pytest.raises(RequestError) as caught:
            await watched.ask(PNG, "first")
        assert caught.value.code == "deadline_exceeded"
        assert sum(watched.decider._held.values()) == 1  # and its image is still in the room's way
        assert not await watched.decider.works()
        go.set()
        async with asyncio.timeout(20):
            while not await watched.decider.works() or watched.decider._held:
                await asyncio.sleep(0.01)

    run(shared_bundle, body)
    assert "request first has no answer after 2 time-outs: a thread hangs" in caplog.text
