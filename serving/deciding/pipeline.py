"""Decoding and inference on threads: bounded queues in, batches through the engine, outcomes out.

Every thread does what is most urgent: it runs the engine on all images that are ready when a call is free, and decodes
the next image otherwise. So an idle service answers an image on one thread without waiting for company, and a busy one
fills its batches while the engine works. An image that can't be decoded never reaches a batch.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
import numpy.typing as npt

from runtime import Decision, Gate
from runtime.engines.interface import Engine
from runtime.gate import MAX_BATCH
from serving.deciding.turns import Turns
from serving.exceptions import Expired

logger = logging.getLogger("oodgate")

Images = npt.NDArray[np.uint8]

_ON_CPU = 16

_AHEAD = 2  # batches that are decoded before the engine can take them


class Ticket:
    """What the jobs of one request share.

    Args:
        deadline: on the monotonic clock; a job is dropped when it has passed before inference.
        bulk: whether the request has several images; the others get every second turn.
        client: whose it is; clients take turns.
    """

    __slots__ = ("abandoned", "bulk", "client", "deadline")

    def __init__(self, deadline: float, bulk: bool = False, client: str = "") -> None:
        self.deadline = deadline
        self.bulk = bulk
        self.client = client
        self.abandoned = False  # nobody waits for the answer any more


@dataclass(eq=False)
class Job:
    """One image file, or one array of images, on its way to its decisions.

    Attributes:
        ticket: the request's.
        gate: decodes and decides; a batch is of one gate's jobs.
        source: the bytes of one image file, or uint8 [n, H, W, 3] at the model's size.
        alpha: the operating point to decide at; None for the gate's default one.
        first: the place of its first image among the request's.
        images: `source`, decoded.
        outcome: one decision an image, or what went wrong; None when the request was abandoned.
        standard: one decision an image at the gate's default operating point, once the engine ran.
        submitted, decoding, ready, started, finished: on the monotonic clock; 0 until then.
    """

    ticket: Ticket
    gate: Gate
    source: bytes | Images
    alpha: float | None = None
    first: int = 0
    images: Images | None = None
    outcome: list[Decision] | Exception | None = None
    standard: Sequence[Decision] = ()
    submitted: float = 0.0
    decoding: float = 0.0
    ready: float = 0.0
    started: float = 0.0
    finished: float = 0.0

    @property
    def size(self) -> int:
        """How many images it has."""
        return 1 if isinstance(self.source, bytes) else len(self.source)

    def decoded(self) -> Images:
        """`source` as uint8 [n, H, W, 3].

        Raises:
            ImageError: no usable image.
        """
        return self.gate.preprocess(self.source)[np.newaxis] if isinstance(self.source, bytes) else self.source

    @property
    def is_late(self) -> bool:
        """Whether its answer would be of no use."""
        return self.ticket.abandoned or monotonic() > self.ticket.deadline


def infer(jobs: Sequence[Job]) -> None:
    """Run the engine once on decoded jobs of one gate, and give each its outcome, at its own alpha; never raises."""
    images = [job.images for job in jobs if job.images is not None]
    started = monotonic()
    for job in jobs:
        job.started = started
    try:
        gate = jobs[0].gate
        outputs = gate.run(images[0] if len(images) == 1 else np.concatenate(images))
        asked = standard = gate.decisions(outputs)
        if any(job.alpha is not None for job in jobs):
            asked = gate.decisions(outputs, alpha=[job.alpha for job in jobs for _ in range(job.size)])
        start = 0
        for job in jobs:
            rows = slice(start, start := start + job.size)
            job.standard = standard[rows]
            job.outcome = standard[rows] if job.alpha is None else asked[rows]
    except Exception as error:  # the batch has no decisions, and nothing was accepted
        logger.exception("a batch of %d failed", sum(job.size for job in jobs))
        for job in jobs:
            job.outcome = error.with_traceback(None)


def suitable_batch(engine: Engine, asked: int) -> int:
    """The most images of one call to an engine: as many as are asked for, or for 0 as many as suit it.

    That is the largest batch that it was built for, and few on a CPU, where an image takes as long in any batch of more
    and all of a batch wait for its last.
    """
    if asked:
        return asked
    return max(engine.batches, default=_ON_CPU if engine.name == "onnxruntime-cpu" else MAX_BATCH)


class Pipeline:
    """Threads that turn jobs into outcomes.

    Args:
        deliver: called on one of the threads with jobs that have their outcome, a batch at a time.
        threads: how many images are decoded at the same time, beside the running engine calls.
        engine_calls: how many batches the engine runs at the same time.
        max_batch: most images of one engine call.
        batch_wait: seconds that an image may wait for others to fill its batch.
    """

    def __init__(
        self,
        deliver: Callable[[Sequence[Job]], None],
        *,
        threads: int,
        engine_calls: int = 1,
        max_batch: int = MAX_BATCH,
        batch_wait: float = 0.0,
    ) -> None:
        self.max_batch = max_batch
        self._deliver = deliver
        self._free_calls = engine_calls
        self._batch_wait = batch_wait
        self._files: dict[bool, Turns[Job]] = {False: Turns(), True: Turns()}  # by Ticket.bulk
        self._bulk_is_next = False
        self._ready: deque[Job] = deque()
        self._waiting = {False: 0, True: 0}
        self._closed = False
        self._lock = threading.Lock()
        self._idle: list[threading.Lock] = []  # what idle threads block on, the latest last
        self._threads = [
            threading.Thread(target=self._work, name=f"oodgate-{i}", daemon=True) for i in range(threads + engine_calls)
        ]
        for thread in self._threads:
            thread.start()

    def waiting(self, bulk: bool) -> int:
        """How many images have been submitted, alone or in bulk, and not yet handed to the engine."""
        return self._waiting[bulk]

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue a request's jobs; each has at most `max_batch` images. Never blocks for longer than the lock."""
        now, ticket = monotonic(), jobs[0].ticket
        for job in jobs:
            job.submitted = now
        with self._lock:
            self._waiting[ticket.bulk] += sum(job.size for job in jobs)
            self._files[ticket.bulk].append(ticket.client, jobs)
            self._wake(len(jobs))

    def close(self) -> None:
        """Finish what is queued and end the threads."""
        with self._lock:
            self._closed = True
            self._wake(len(self._idle))
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        alarm = threading.Lock()
        alarm.acquire()
        while (work := self._next(alarm)) is not None:
            if isinstance(work, Job):
                self._decode(work)
            else:
                self._infer(work)
            del work  # it holds a gate, which may be replaced while this thread sleeps

    def _next(self, alarm: threading.Lock) -> Job | list[Job] | None:
        """A batch if the engine is free, or an image file to decode; None when the pipeline has closed."""
        with self._lock:
            while True:
                patience = self._patience()
                if patience == 0:
                    self._free_calls -= 1
                    batch = self._batch()
                    if any(self._files.values()):
                        self._wake(len(self._idle))  # there is room for what they decode
                    return batch
                if (job := self._file()) is not None:
                    return job
                if self._closed and not self._ready:
                    return None
                self._sleep(alarm, patience)

    def _sleep(self, alarm: threading.Lock, seconds: float | None) -> None:
        """Let go of the lock until woken, or for some time; `alarm` is held before and after."""
        self._idle.append(alarm)
        self._lock.release()
        woken = alarm.acquire(timeout=-1 if seconds is None else seconds)
        self._lock.acquire()
        if not woken:
            if alarm in self._idle:
                self._idle.remove(alarm)
            else:  # woken just as its time was up
                alarm.acquire()

    def _wake(self, count: int) -> None:
        """Wake threads, those first that slept last: the engine's data is in their caches."""
        for _ in range(min(count, len(self._idle))):
            self._idle.pop().release()

    def _patience(self) -> float | None:
        """Seconds until the images that are ready should run; None when there are none, or no engine call is free."""
        if not self._ready or self._free_calls == 0:
            return None
        if self._batch_wait == 0 or self._closed or sum(job.size for job in self._ready) >= self.max_batch:
            return 0
        return max(0.0, self._ready[0].ready + self._batch_wait - monotonic())

    def _file(self) -> Job | None:
        """The next job to decode; none while there are enough for the engine, or turns would end with the decoding."""
        if sum(job.size for job in self._ready) >= _AHEAD * self.max_batch:
            return None
        for bulk in (self._bulk_is_next, not self._bulk_is_next):
            if self._files[bulk]:
                self._bulk_is_next = not bulk
                return self._files[bulk].popleft()
        return None

    def _batch(self) -> list[Job]:
        """As many ready jobs of one gate as an engine call takes, in their order."""
        gate, size = self._ready[0].gate, 0
        batch = []
        while self._ready and self._ready[0].gate is gate and size + self._ready[0].size <= self.max_batch:
            job = self._ready.popleft()
            self._waiting[job.ticket.bulk] -= job.size
            size += job.size
            batch.append(job)
        return batch

    def _decode(self, job: Job) -> None:
        job.decoding = monotonic()
        if not job.is_late:
            try:
                job.images = job.decoded()
            except Exception as error:  # the image's own fault, or memory; either way this image's alone
                job.outcome = error.with_traceback(None)  # its frames hold the job, and the job the error
        job.ready = monotonic()
        if job.images is not None:
            with self._lock:
                self._ready.append(job)
            return
        with self._lock:
            self._waiting[job.ticket.bulk] -= 1
        self._finish([job])

    def _infer(self, batch: list[Job]) -> None:
        useful = [job for job in batch if not job.is_late]
        if useful:
            infer(useful)
        with self._lock:
            self._free_calls += 1
            if self._ready or self._closed:
                self._wake(len(self._idle))
        self._finish(batch)

    def _finish(self, jobs: Sequence[Job]) -> None:
        now = monotonic()
        for job in jobs:
            job.finished = now
            if job.outcome is None and not job.ticket.abandoned:
                job.outcome = Expired()
        self._deliver(jobs)
