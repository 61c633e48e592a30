"""Decoding and inference on threads: bounded queues in, batches through the engine, outcomes out.

Every thread does what is most urgent: it runs the engine on all images that are ready when a call is free, and decodes
the next image otherwise. So an idle service answers an image on one thread without waiting for company, and a busy one
fills its batches while the engine works. Where each core has an engine call of its own, a thread takes its share of what is
waiting, decodes it and runs the engine on it, and no image is handed over. An image that can't be decoded never reaches a
batch.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from time import monotonic

from runtime.engines.interface import Engine
from runtime.engines.selection import CPU, ON_CPU
from runtime.gate import MAX_BATCH
from serving.deciding.job import Job, infer
from serving.deciding.turns import Turns
from serving.exceptions import Expired
from serving.settings import Settings

_FEW = 16

_AHEAD = 2  # batches that are decoded before the engine can take them
_MOMENT = 0.02  # seconds after which what a thread has decoded for itself is decided on, though more is waiting


def suitable_batch(engine: Engine, asked: int) -> int:
    """The most images of one call to an engine: as many as are asked for, or for 0 as many as suit it.

    That is the largest batch that it was built for, and few on a CPU, where an image takes as long in any batch of more
    and all of a batch wait for its last.
    """
    if asked:
        return asked
    return max(engine.batches, default=_FEW if engine.name == CPU else MAX_BATCH)


def suited(engine: Engine, settings: Settings, deliver: Callable[[Sequence[Job]], None]) -> Pipeline:
    """The pipeline of a service: where the cores are the engine's, one call for each, threads decode for themselves."""
    own = (
        engine.name in ON_CPU
        and settings.engine_threads == 1
        and settings.engine_calls == settings.decode_threads
        and settings.batch_wait_ms == 0
    )
    return Pipeline(
        deliver,
        threads=0 if own else settings.decode_threads,
        engine_calls=settings.engine_calls,
        max_batch=suitable_batch(engine, settings.max_batch),
        batch_wait=settings.batch_wait_ms / 1e3,
        own=own,
    )


class Pipeline:
    """Threads that turn jobs into outcomes.

    Args:
        deliver: called on one of the threads with jobs that have their outcome, a batch at a time.
        threads: how many images are decoded at the same time, beside the running engine calls.
        engine_calls: how many batches the engine runs at the same time.
        max_batch: most images of one engine call.
        batch_wait: seconds that an image may wait for others to fill its batch.
        own: whether the thread of an engine call decodes its images itself; `threads` are none then.
    """

    def __init__(
        self,
        deliver: Callable[[Sequence[Job]], None],
        *,
        threads: int,
        engine_calls: int = 1,
        max_batch: int = MAX_BATCH,
        batch_wait: float = 0.0,
        own: bool = False,
    ) -> None:
        self.max_batch = max_batch
        self._own = own
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
            if not isinstance(work, Job):
                self._infer(work)
            elif self._own:
                self._infer(self._share(work))
            else:
                self._decode(work)
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
                if (job := self._taken()) is not None:
                    self._free_calls -= self._own
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

    def _taken(self) -> Job | None:
        """The next job to decode, which waits no longer where its thread has the engine call for it."""
        job = self._file()
        if job is not None and self._own:
            self._waiting[job.ticket.bulk] -= job.size
        return job

    def _share(self, first: Job) -> list[Job]:
        """The share of what is waiting of the thread that took a job: decoded, as far as that takes but a moment."""
        start, batch, size = monotonic(), [], 0
        with self._lock:
            share = math.ceil((first.size + sum(self._waiting.values())) / (self._free_calls + 1))
        job: Job | None = first
        while job is not None:
            self._try_to_decode(job)
            if job.images is None:
                self._finish([job])
            else:
                batch.append(job)
                size += job.size
            if size >= min(share, self.max_batch) or monotonic() - start > _MOMENT:
                break
            with self._lock:
                job = self._taken()
        return batch

    def _decode(self, job: Job) -> None:
        self._try_to_decode(job)
        if job.images is not None:
            with self._lock:
                self._ready.append(job)
            return
        with self._lock:
            self._waiting[job.ticket.bulk] -= job.size
        self._finish([job])

    @staticmethod
    def _try_to_decode(job: Job) -> None:
        job.decoding = monotonic()
        if not job.is_late:
            try:
                job.images = job.decoded()
            except Exception as error:  # the image's own fault, or memory; either way this image's alone
                job.outcome = error.with_traceback(None)  # its frames hold the job, and the job the error
        job.ready = monotonic()

    def _infer(self, batch: list[Job]) -> None:
        calls = list(self._calls([job for job in batch if not job.is_late]))
        for call in calls:
            infer(call)
        with self._lock:
            self._free_calls += 1
            if self._ready or self._closed:
                self._wake(len(self._idle))
        for finished in (*calls, [job for job in batch if not job.started]):
            if finished:
                self._finish(finished)

    def _calls(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """Jobs as engine calls, of one gate and at most `max_batch` images each, in their order."""
        call: list[Job] = []
        for job in jobs:
            if call and (job.gate is not call[0].gate or sum(each.size for each in call) + job.size > self.max_batch):
                yield call
                call = []
            call.append(job)
        if call:
            yield call

    def _finish(self, jobs: Sequence[Job]) -> None:
        now = monotonic()
        for job in jobs:
            job.finished = now
            if job.outcome is None and not job.ticket.abandoned:
                job.outcome = Expired()
        self._deliver(jobs)
