"""The one place where the service decides: it owns the gate, and every decision passes through it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import NamedTuple

import numpy as np

from runtime import Decision, Gate, ImageError
from runtime.preprocess import preprocess
from serving.deciding.job import Images, Job, Ticket, decisions_of, expired, infer, measure
from serving.deciding.pipeline import suited
from serving.deciding.room import Room
from serving.deciding.served import Decided, Served, Use
from serving.deciding.trial import tried
from serving.exceptions import ClientGone
from serving.settings import Settings

logger = logging.getLogger("oodgate")

# A request that waits for longer than this is looked after, in case its client has gone; so few are, as it costs as much as
# an answer's JSON several times over.
_PATIENCE = 0.25

# An image that comes alone is decided on by the event loop itself, if it is small and the engine takes but a moment: no
# longer than the interpreter lets any thread keep the others waiting.
_MOMENT = 0.005

_FAILURES = 3  # batches in a row, by which it is no longer an image's fault

# Time-outs, or longest engine calls so far, after which what has no answer is on a thread that hangs: those that don't drop
# what is late.
_HANGING = 2


class Caller(NamedTuple):
    """Who asks.

    Attributes:
        request_id: what the logs call the request.
        gone: returns when the client has gone.
        client: whose request it is; clients take turns.
    """

    request_id: str
    gone: Callable[[], Awaitable[None]]
    client: str = ""


class Decider:
    """Decides on images without blocking the event loop that made it.

    Assigning to `served` swaps it: a request keeps the one it came with, and no batch mixes two gates.

    Args:
        served: what decides, from now on.
        settings: of threads, batches, the queue and the deadline.

    Attributes:
        room: for images of further requests.
    """

    def __init__(self, served: Served, settings: Settings) -> None:
        self.served = served
        self._timeout = settings.timeout
        self.room = Room(settings.max_queue, settings.max_bulk)
        self._loop = asyncio.get_running_loop()
        self._waits: dict[Ticket, _Wait] = {}
        self._worked = False
        self._held: dict[Ticket, int] = {}  # images of requests that were given up, whose thread hangs
        self._pipeline = suited(served.gate.engine, settings, self._hand_over)

    @property
    def gate(self) -> Gate:
        """What decides now, at the default operating point."""
        return self.served.gate

    @contextmanager
    def using(self, alpha: float | None = None) -> Iterator[Use]:
        """What decides now, for a whole request: from before its body is read until it has its answer.

        Args:
            alpha: the request's operating point; None for the default one.

        Raises:
            RequestError: 400, none is stored for `alpha`.
        """
        served = self.served
        with served.used():
            yield Use(served, served.point(alpha))

    async def decide(self, image: bytes, caller: Caller, use: Use) -> Decision:
        """Decide on one image file.

        Raises:
            ImageError: no usable image.
            EngineError: the engine failed.
            RequestError: 503, the queue is full or the deadline has passed.
            ClientGone: nobody waits for the answer.
        """
        job = await self._at_once(image, caller, use)
        (decision,) = decisions_of(*([job] if job else await self._outcomes([image], caller, use, bulk=False)))
        return decision

    async def decide_each(self, images: Sequence[bytes], caller: Caller, use: Use) -> list[Decision | ImageError]:
        """Decide on several image files; one that is no usable image gets its error and spoils no other.

        Raises:
            EngineError, RequestError, ClientGone: as :meth:`decide`.
        """
        jobs = await self._outcomes(images, caller, use, bulk=True)
        return [job.outcome if isinstance(job.outcome, ImageError) else decisions_of(job)[0] for job in jobs]

    async def decide_array(self, images: Images, caller: Caller, use: Use) -> list[Decision]:
        """Decide on images at the model's size, uint8 [N, H, W, 3].

        Raises:
            EngineError, RequestError, ClientGone: as :meth:`decide`.
        """
        step = self._pipeline.max_batch
        chunks = [images[start : start + step] for start in range(0, len(images), step)]
        return decisions_of(*await self._outcomes(chunks, caller, use, bulk=len(images) > 1))

    @property
    def waiting(self) -> int:
        """How many images wait for the engine."""
        return self._pipeline.waiting(False) + self._pipeline.waiting(True)

    async def works(self) -> bool:
        """Whether the engine does: its last batches neither all failed nor hang, or it takes one now, in time."""
        served = self.served
        if served.failures >= _FAILURES:
            if served.trial is None or served.trial.done():
                served.trial = tried(served.gate)
            done, _ = await asyncio.wait([served.trial], timeout=self._timeout)
            if not done or not served.trial.result():
                return False
            served.failures = 0
        return True

    async def close(self) -> None:
        """Finish what is queued and end the threads."""
        await asyncio.to_thread(self._pipeline.close)

    async def _at_once(self, image: bytes, caller: Caller, use: Use) -> Job | None:
        """The finished job of an image that comes alone, done on the event loop; None if it should be queued.

        Handing an image to a thread and its decision back takes a tenth of the time that a small network needs.
        """
        if self._waits or self._worked or use.served.engine_seconds > _MOMENT:
            return None
        submitted = monotonic()
        ticket = Ticket(submitted + self._timeout)
        job = Job(ticket, use.gate, image, use.alpha, submitted=submitted, decoding=submitted)
        try:
            job.images = preprocess(image, use.gate.manifest.input, use.served.small)[np.newaxis]
        except ImageError:  # too large for here, or its sender's fault
            return None
        job.ready = monotonic()
        infer([job])
        job.finished = monotonic()
        self._worked = True
        try:
            await asyncio.sleep(0)  # requests that came meanwhile are taken up, and find that they had to wait
        finally:
            self._loop.call_soon(self._after_answer, job, caller, use.served)
        return job

    def _after_answer(self, job: Job, caller: Caller, served: Served) -> None:
        self._worked = False
        measure([job])
        self._note([job])
        self._heard(job, caller, served)

    async def _outcomes(self, sources: Sequence[bytes | Images], caller: Caller, use: Use, bulk: bool) -> list[Job]:
        """One finished job for each source, in order."""
        if not sources:
            return []
        self.room.check(bulk, caller.client)
        ticket = Ticket(monotonic() + self._timeout, bulk, caller.client)
        jobs: list[Job] = []
        for source in sources:
            jobs.append(Job(ticket, use.gate, source, use.alpha, jobs[-1].first + jobs[-1].size if jobs else 0))
        images = sum(job.size for job in jobs)
        wait = self._waits[ticket] = _Wait(self._loop.create_future(), len(jobs), images, caller, use.served)
        watch = self._loop.call_later(_PATIENCE, self._watch, ticket)
        self.room.take(bulk, caller.client, images)
        try:
            self._pipeline.submit(jobs)
            await wait.future
        finally:
            held = wait.images if wait.hangs else 0
            self.room.take(bulk, caller.client, held - images)
            if held:
                self._held[ticket] = held
            watch.cancel()
            ticket.abandoned = True
            del self._waits[ticket]
            if wait.watcher is not None:
                wait.watcher.cancel()
            if wait.end is not None:
                wait.end.cancel()
        return jobs

    def _hand_over(self, jobs: Sequence[Job]) -> None:
        self._loop.call_soon_threadsafe(self._deliver, jobs)

    def _deliver(self, jobs: Sequence[Job]) -> None:
        """On the event loop: tell the listeners, and wake the requests whose last job this was."""
        measure(jobs)
        self._note(jobs)
        for job in jobs:
            wait = self._waits.get(job.ticket)
            if wait is None:
                self._let_go(job)
                continue
            wait.images -= job.size
            self._heard(job, wait.caller, wait.served)
            wait.unfinished -= 1
            if wait.unfinished == 0 and not wait.future.done():
                wait.future.set_result(None)

    def _let_go(self, job: Job) -> None:
        """Give back the room of a job whose thread hung, and whose request was given up."""
        if held := self._held.pop(job.ticket, 0):
            self.room.take(job.ticket.bulk, job.ticket.client, -job.size)
            if held > job.size:
                self._held[job.ticket] = held - job.size

    def _note(self, batch: Sequence[Job]) -> None:
        """Note whether the engine works, and how long it takes for one image, whoever still waits for an answer."""
        job, served = batch[0], self.served
        if not job.started or job.gate is not served.gate:
            return
        served.failures = served.failures + 1 if isinstance(job.outcome, Exception) else 0
        served.longest = max(served.longest, job.finished - job.started)
        if len(batch) == job.size == 1:
            served.engine_seconds = job.finished - job.started

    def _heard(self, job: Job, caller: Caller, served: Served) -> None:
        """Tell the listeners of a job's decisions."""
        if not isinstance(job.outcome, list):
            return
        images = [job.source] if isinstance(job.source, bytes) else job.source
        each = zip(job.outcome, job.standard, images, strict=True)
        for position, (decision, standard, image) in enumerate(each, job.first):
            decided = Decided(decision, standard, image, caller.request_id, position)
            for listener in served.listeners:
                try:
                    listener(decided)
                except Exception:  # an answer never depends on who listens
                    logger.exception("a listener failed on request %s", caller.request_id)

    def _watch(self, ticket: Ticket) -> None:
        wait = self._waits[ticket]

        def on_gone(_: asyncio.Future[None]) -> None:
            if not wait.future.done():
                wait.future.set_exception(ClientGone())

        wait.watcher = asyncio.ensure_future(wait.caller.gone())
        wait.watcher.add_done_callback(on_gone)
        wait.end = self._loop.call_later(_HANGING * max(self._timeout, wait.served.longest), self._give_up, wait)

    def _give_up(self, wait: _Wait) -> None:
        if not wait.future.done():
            wait.hangs = True
            wait.served.failures = max(wait.served.failures, _FAILURES)
            logger.error(
                "request %s has no answer after %d time-outs: a thread hangs", wait.caller.request_id, _HANGING
            )
            wait.future.set_exception(expired())


class _Wait:
    """What a request waits for: jobs that are unfinished, and their images."""

    __slots__ = ("caller", "end", "future", "hangs", "images", "served", "unfinished", "watcher")

    def __init__(
        self, future: asyncio.Future[None], unfinished: int, images: int, caller: Caller, served: Served
    ) -> None:
        self.future = future
        self.unfinished = unfinished
        self.images = images
        self.hangs = False
        self.caller = caller
        self.served = served
        self.watcher: asyncio.Future[None] | None = None
        self.end: asyncio.TimerHandle | None = None
