"""A bundle in service: its gate, who hears its decisions, and how many requests use it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from runtime import Decision, Gate
from runtime.manifest import GateSpec
from runtime.preprocess import Limits
from serving.deciding.job import Images
from serving.exceptions import RequestError

# Bounds on an image that is decoded in a moment.
_SMALL = Limits(max_bytes=64 * 1024, max_pixels=256 * 256)


class Decided(NamedTuple):
    """A decision, and what it was about.

    Attributes:
        decision: the verdict.
        standard: the verdict at the default operating point; `decision` itself, but for requests with an alpha of their
            own.
        image: the bytes of the image file, or uint8 [H, W, 3] where an array was sent.
        request_id: the caller's.
        position: of the image among the request's.
    """

    decision: Decision
    standard: Decision
    image: bytes | Images
    request_id: str
    position: int = 0


Listener = Callable[[Decided], None]


class Served:
    """A bundle in service: its gate, who listens, and how many requests use it.

    Args:
        gate: loaded, verified and warmed up; at the default operating point.
        listeners: called on the event loop with each decision, so they must be quick; what they raise is logged.

    Attributes:
        engine_seconds: how long the engine took for one image, the last time that it had only one.
        longest: seconds that an engine call took, at most.
        failures: batches that the engine failed on since the last that it did not.
        trial: whether it takes a batch now, asked since it failed.
        small: bounds on an image that is decoded in a moment.
    """

    def __init__(self, gate: Gate, listeners: Sequence[Listener] = ()) -> None:
        self.gate = gate
        self.listeners = listeners
        self.engine_seconds = math.inf
        self.longest = 0.0
        self.failures = 0
        self.trial: asyncio.Future[bool] | None = None
        limits = gate.limits
        self.small = Limits(min(limits.max_bytes, _SMALL.max_bytes), min(limits.max_pixels, _SMALL.max_pixels))
        self._uses = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def point(self, alpha: float | None) -> float | None:
        """The operating point `alpha`; None for the default one, whether it was named or not.

        Raises:
            RequestError: 400, none is stored for `alpha`.
        """
        if alpha is not None and alpha not in self.gate.alphas:
            stored = ", ".join(f"{point:g}" for point in self.gate.alphas)
            raise RequestError(400, "unknown_alpha", f"alpha must be one of those stored: {stored}")
        return None if alpha == self.gate.spec.alpha else alpha

    @contextmanager
    def used(self) -> Iterator[None]:
        """For as long as a request needs the listeners."""
        self._uses += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._uses -= 1
            if self._uses == 0:
                self._unused.set()

    async def unused(self) -> None:
        """Wait until no request uses it."""
        await self._unused.wait()


class Use(NamedTuple):
    """What decides on one request, whatever is swapped meanwhile.

    Attributes:
        served: the bundle.
        alpha: the request's operating point; None for the default one.
    """

    served: Served
    alpha: float | None

    @property
    def gate(self) -> Gate:
        """What decides, at the default operating point."""
        return self.served.gate

    @property
    def point(self) -> GateSpec:
        """The gate at the request's operating point."""
        spec = self.gate.spec
        return spec if self.alpha is None else spec.at(self.alpha)
