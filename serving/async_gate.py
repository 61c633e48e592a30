"""The gate for an event loop: decoding and inference on threads, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from runtime import Decision, Gate, ImageError

A = TypeVar("A")
R = TypeVar("R")


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
        (decision,) = await self._run(self.gate.decide, [image])
        return decision

    async def decide_each(self, images: Sequence[bytes]) -> list[Decision | ImageError]:
        """Decide on several image files; one that is no usable image gets its error and spoils no other.

        Every image is decoded in a turn of its own, so that a large request does not keep others from theirs.

        Raises:
            EngineError: the engine failed.
        """
        decoded = [await self._run(self.gate.try_preprocess, image) for image in images]
        return await self._run(self.gate.decide_usable, decoded)

    async def _run(self, work: Callable[[A], R], argument: A) -> R:
        return await to_thread.run_sync(work, argument, limiter=self._limiter)
