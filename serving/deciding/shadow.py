"""Shadow mode: a second bundle decides on the same images, and how often it disagrees is a metric."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Literal

import numpy as np

from runtime import Decision, Gate
from runtime.bundle import MODEL
from serving.deciding.job import Job, Ticket
from serving.deciding.pipeline import Pipeline, suitable_batch
from serving.deciding.served import Decided
from serving.exceptions import Expired
from serving.metrics import metrics
from serving.settings import Settings

_MAX_BYTES = 64 * 1024 * 1024  # of image files that wait

Comparison = Literal["agree", "verdict", "label", "dropped", "failed"]


class Shadow:
    """Listens to decisions, and asks another gate about their images.

    It has one thread to decode and one for its engine. An image that finds its queue full, of images or
    bytes, is dropped, so it delays no
    answer but for the processor's time. Requests with an alpha of their own are not compared.

    Args:
        gate: loaded, verified and warmed up.
        settings: of batches, the queue and the deadline.
    """

    def __init__(self, gate: Gate, settings: Settings) -> None:
        spec = gate.manifest.input
        self._gate = gate
        self._shape = (spec.height, spec.width, 3)
        self._max_queue = settings.max_queue
        self._timeout = settings.timeout
        self._served: dict[Job, Decision] = {}
        self._pipeline = Pipeline(self._compare, threads=1, max_batch=suitable_batch(gate.engine, settings.max_batch))
        metrics().bundle("shadow", gate.manifest.model.name, gate.manifest.files[MODEL].sha256, 1)

    def __call__(self, decided: Decided) -> None:
        """Ask about the image of a decision; returns at once."""
        image = decided.image
        if decided.decision is not decided.standard:
            return
        if not isinstance(image, bytes) and image.shape != self._shape:
            metrics().shadow("failed")  # an array at the size of the bundle in service, which is not the shadow's
            return
        full = self._pipeline.waiting(False) >= self._max_queue
        if full or sum(len(job.source) for job in list(self._served) if isinstance(job.source, bytes)) > _MAX_BYTES:
            metrics().shadow("dropped")
            return
        source = image if isinstance(image, bytes) else image[np.newaxis].copy()  # without the rest of its request
        job = Job(Ticket(monotonic() + self._timeout), self._gate, source)
        self._served[job] = decided.decision
        self._pipeline.submit([job])

    def close(self) -> None:
        """Finish what is queued and end the threads."""
        self._pipeline.close()

    def _compare(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            served = self._served.pop(job)
            if isinstance(job.outcome, list):
                metrics().shadow(compare(served, job.outcome[0]))
            else:
                metrics().shadow("dropped" if isinstance(job.outcome, Expired) else "failed")


def compare(served: Decision, shadow: Decision) -> Comparison:
    """In what a shadow's decision differs first: the verdict, or what an accepted image is said to be."""
    if served.decision != shadow.decision:
        return "verdict"
    if None in (served.class_index, shadow.class_index):  # a model without classes says no more
        return "agree"
    if (served.label, served.labels) != (shadow.label, shadow.labels):
        return "label"
    return "agree"
