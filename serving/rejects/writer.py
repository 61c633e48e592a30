"""The way from a request to the store: a sample, a bounded queue, a thread."""

from __future__ import annotations

import io
import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from serving.rejects.store import RejectStore

logger = logging.getLogger("oodgate")

Outcome = Literal["stored", "dropped", "failed"]

_CLEAN_EVERY = 3600.0  # seconds without rejects


@dataclass(frozen=True)
class _Waiting:
    image: bytes | npt.NDArray[np.uint8]
    decision: dict[str, Any]
    predicted: str
    request_id: str

    @property
    def bytes(self) -> int:
        return self.image.nbytes if isinstance(self.image, np.ndarray) else len(self.image)


class RejectWriter:
    """Stores rejects from a thread of its own. Safe to use from several threads.

    Args:
        store: where.
        rate: the share of rejects that are offered to the store, by chance, in [0, 1].
        max_waiting: bytes of images that may wait; what comes on top is dropped, so that a slow disk costs rejects, never
            requests.
        on_outcome: called once for every reject of the sample, from any thread; counts.
    """

    def __init__(
        self,
        store: RejectStore,
        rate: float = 1.0,
        max_waiting: int = 64 * 1024 * 1024,
        on_outcome: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"the rate must be from 0 to 1, found {rate}")
        self._store = store
        self._rate = rate
        self._max_waiting = max_waiting
        self._on_outcome = on_outcome
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="oodgate-rejects", daemon=True)
        self._thread.start()

    def offer(
        self, image: bytes | npt.NDArray[np.uint8], decision: dict[str, Any], predicted: str, request_id: str
    ) -> None:
        """Put a rejected image in the queue, if chance and room allow; never waits.

        Args:
            image: the file as it was received; or uint8 [H, W, 3], RGB, which is stored as PNG.
            decision: as it is answered (:meth:`runtime.Decision.to_dict`).
            predicted: the name of the most probable class.
            request_id: of the request.
        """
        if random.random() >= self._rate:
            return
        if isinstance(image, np.ndarray):
            image = image.copy()  # one of a request's, whose body is not to wait with it
        waiting = _Waiting(image, decision, predicted, request_id)
        with self._changed:
            room = not self._closing and self._bytes + waiting.bytes <= self._max_waiting
            if room:
                self._waiting.append(waiting)
                self._bytes += waiting.bytes
                self._changed.notify()
        if not room:
            self._on_outcome("dropped")

    def close(self, timeout: float = 10.0) -> None:
        """Store what waits, for at most `timeout` seconds; the rest is dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            left, self._waiting = self._waiting, deque()
        for _ in left:
            self._on_outcome("dropped")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing, _CLEAN_EVERY)
                waiting = self._waiting.popleft() if self._waiting else None
                self._bytes -= waiting.bytes if waiting else 0
                if not waiting and self._closing:
                    return
            if waiting:
                self._on_outcome(self._stored(waiting))
            else:
                self._clean()

    def _stored(self, waiting: _Waiting) -> Outcome:
        try:
            image = waiting.image if isinstance(waiting.image, bytes) else _png(waiting.image)
            self._store.save(image, waiting.decision, waiting.predicted, waiting.request_id)
        except Exception as error:  # a full disk or a plugin's own errors: rejects are lost, the service goes on
            logger.error("a rejected image can't be stored: %s", error)
            return "failed"
        return "stored"

    def _clean(self) -> None:
        try:
            self._store.clean()
        except Exception as error:
            logger.error("old rejected images can't be removed: %s", error)


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
