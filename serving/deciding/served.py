"""A bundle in service: its gate at every operating point, who hears its decisions, and how many requests use it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from runtime import Decision, Gate
from runtime.preprocess import Limits
from serving.deciding.pipeline import Images
from serving.http.errors import RequestError

# Bounds on an image that is decoded in a moment.
_SMALL = Limits(max_bytes=64 * 1024, max_pixels=256 * 256)


class Decided(NamedTuple):
    """A decision, and what it was about.

    Attributes:
        decision: the verdict.
        image: the bytes of the image file, or uint8 [H, W, 3] where an array was sent.
        request_id: the caller's.
        gate: which decided.
        standard: the same bundle's gate at the default operating point; `gate` itself, but for requests with an alpha of
            their own.
    """

    decision: Decision
    image: bytes | Images
    request_id: str
    gate: Gate
    standard: Gate


Listener = Callable[[Decided], None]


class Served:
    """A bundle in service: its gate at every operating point, who listens, and how many requests use it.

    Args:
        gate: loaded, verified and warmed up; at the default operating point.
        listeners: called on the event loop with each decision, so they must be quick; what they raise is logged.

    Attributes:
        engine_seconds: how long the engine took for one image, the last time that it had only one.
        small: bounds on an image that is decoded in a moment.
    """

    def __init__(self, gate: Gate, listeners: Sequence[Listener] = ()) -> None:
        spec = gate.manifest.gate
        assert spec is not None
        self.gate = gate
        self.listeners = listeners
        self.engine_seconds = math.inf
        limits = gate.limits
        self.small = Limits(min(limits.max_bytes, _SMALL.max_bytes), min(limits.max_pixels, _SMALL.max_pixels))
        self._points = {alpha: gate if alpha == spec.alpha else gate.at(alpha) for alpha in spec.alphas}
        self._uses = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def at(self, alpha: float | None) -> Gate:
        """The gate at the operating point `alpha`, the default one for None; the same object each time.

        Raises:
            RequestError: 400, none is stored for `alpha`.
        """
        if alpha is None:
            return self.gate
        if alpha not in self._points:
            stored = ", ".join(f"{point:g}" for point in self._points)
            raise RequestError(400, "unknown_alpha", f"alpha must be one of those stored: {stored}")
        return self._points[alpha]

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
        gate: at the request's operating point.
        served: whose gate it is.
    """

    gate: Gate
    served: Served
