"""uvicorn's HTTP protocol with what it lacks: bounds on how long a client may take to send, and on connections.

An application only hears of a request when its headers are complete, so a client that sends them slowly can be stopped
nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.exceptions import TOO_MANY_CONNECTIONS
from serving.http.errors import Refusal
from serving.http.middleware import HEALTH
from serving.internals import HttpProtocol, use_http_protocol
from serving.metrics import metrics
from serving.settings import Settings


def _last_answer(status: bytes, code: str, message: str) -> bytes:
    """An error as it goes over the wire, before the connection is closed."""
    body = b'{"error":{"code":"%s","message":"%s"}}' % (code.encode(), message.encode())
    head = b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


_TOO_SLOW = _last_answer(b"408 Request Timeout", "too_slow", "the request took too long to arrive")
_MALFORMED = _last_answer(b"400 Bad Request", "malformed_http", "what was sent is no HTTP request")


class BoundedProtocol(HttpProtocol):
    """Refuses connections beyond a number, and ends those whose request does not arrive in time."""

    settings: ClassVar[Settings] = Settings()
    _busy: ClassVar[Refusal] = Refusal(TOO_MANY_CONNECTIONS)

    _timer: asyncio.TimerHandle | None = None
    _awaited: tuple[float, Callable[[], None]] | None = None  # what is to come, within how long and what else
    _moved = False  # whether that changed since the timer was set

    @classmethod
    def install(cls, settings: Settings) -> None:
        """Make it the protocol of the uvicorn servers that this process configures from now on."""
        cls.settings = settings
        use_http_protocol(cls)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive = self.settings.keep_alive
        if len(self.connections) > self.settings.max_connections:
            self.app = self._only_probes(self.app)
        if len(self.connections) > 2 * self.settings.max_connections:
            metrics().error(TOO_MANY_CONNECTIONS.code)
            transport.abort()
        else:
            self._wait(self.settings.header_timeout, self._headers_too_slow)
            self._set_timer()

    def _only_probes(self, app: ASGIApp) -> ASGIApp:
        """Whether the service is well is told however many are connected; all else is refused."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await (app if scope.get("path") in HEALTH else self._busy)(scope, receive, send)

        return answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_longer()
        self._set_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._moved:  # most requests come whole, and need no timer
            self._set_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait(self.settings.header_timeout, self._headers_too_slow)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._wait(self.settings.body_timeout, self._body_too_slow)

    def on_message_complete(self) -> None:
        self._wait_no_longer()
        super().on_message_complete()

    def send_400_response(self, _: str) -> None:
        """What uvicorn calls when the parser finds no HTTP."""
        metrics().error("malformed_http")
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_MALFORMED)
        self.transport.close()

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._awaited, self._moved = (seconds, then), True

    def _wait_no_longer(self) -> None:
        self._awaited, self._moved = None, True

    def _set_timer(self) -> None:
        self._moved = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._awaited is not None:
            self._timer = self.loop.call_later(*self._awaited)

    def _headers_too_slow(self) -> None:
        self._too_slow(can_answer=self.cycle is None or self.cycle.response_complete)

    def _body_too_slow(self) -> None:
        self._too_slow(can_answer=not self.cycle.response_started)

    def _too_slow(self, can_answer: bool) -> None:
        metrics().error("too_slow")
        if can_answer:
            self.transport.write(_TOO_SLOW)  # else another answer is on its way, or was given before the body had come
        self.transport.close()
