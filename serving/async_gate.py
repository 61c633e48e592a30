"""The gate for an event loop: decoding and inference on threads, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from anyio import CapacityLimiter, to_thread

from runtime import Decision, Gate, ImageError


class AsyncGate:
    """A :class:`runtime.Gate` whose work never blocks the event loop.

    Args:
        gate: loaded and verified.
        concurrency: how many images are decoded and classified at the same time; more wait their turn.
    """

    def __init__(self, gate: Gate, concurrency: int) -> None:
        self.gate = gate
        self._limiter = CapacityLimiter(concurrency)

    async def decide(self, image: bytes) -> Decision:
        """Decide on one image file.

        Raises:
            ImageError: no usable image.
            EngineError: the engine failed.
        """
        (decision,) = await to_thread.run_sync(self.gate.decide, [image], limiter=self._limiter)
        return decision

    async def decide_each(self, images: Sequence[bytes]) -> list[Decision | ImageError]:
        """Decide on several image files; one that is no usable image gets its error and spoils no other.

        Raises:
            EngineError: the engine failed.
        """
        return await to_thread.run_sync(self._decide_each, images, limiter=self._limiter)

    def _decide_each(self, images: Sequence[bytes]) -> list[Decision | ImageError]:
        results: list[Decision | ImageError | None] = []
        usable = []
        for image in images:
            try:
                usable.append(self.gate.preprocess(image))
                results.append(None)
            except ImageError as error:
                results.append(error)
        decisions = iter(self.gate.decide(np.stack(usable)) if usable else [])
        return [next(decisions) if result is None else result for result in results]
