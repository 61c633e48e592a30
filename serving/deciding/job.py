"""What is decided on: images on their way from a request to their decisions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
import numpy.typing as npt

from runtime import Decision, Gate
from serving.exceptions import Expired, RequestError
from serving.metrics import metrics

logger = logging.getLogger("oodgate")

Images = npt.NDArray[np.uint8]


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


def measure(jobs: Sequence[Job]) -> None:
    """Enter into the metrics a batch that has its decisions, or jobs that were ended without the engine."""
    images = 0
    for job in jobs:
        if job.started:
            images += job.size
            metrics().stage("decode", job.ready - job.decoding)
            metrics().stage("queue", job.started - job.submitted - (job.ready - job.decoding))
        elif not isinstance(job.outcome, Exception) or job.is_late:
            metrics().dropped("abandoned" if job.ticket.abandoned else "late", job.size)
    if images:
        started = next(job for job in jobs if job.started)
        metrics().batch(images, started.finished - started.started)


def decisions_of(*jobs: Job) -> list[Decision]:
    """All decisions of finished jobs.

    Raises:
        the first error among the outcomes.
    """
    decisions: list[Decision] = []
    for job in jobs:
        if isinstance(job.outcome, Expired):
            raise expired()
        if isinstance(job.outcome, Exception):
            raise job.outcome
        decisions += job.outcome or []
    return decisions


def expired() -> RequestError:
    """The answer to a request that has waited for too long."""
    return RequestError(503, "deadline_exceeded", "the answer would have come too late", retry_after="1")
