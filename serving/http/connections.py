"""uvicorn's HTTP protocol with what it lacks: bounds on how long a client may take to send and to read, on headers, and on
connections.

An application only hears of a request when its headers are complete, so a client that sends them slowly, or without end, can
be stopped nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.exceptions import TOO_MANY_CONNECTIONS
from serving.http.errors import Refusal
from serving.http.middleware import HEALTH, Observed
from serving.internals import HttpProtocol, use_http_protocol
from serving.metrics import metrics
from serving.settings import Settings


def _last_answer(status: bytes, code: str, message: str) -> bytes:
    """An error as it goes over the wire, before the connection is closed."""
    body = b'{"error":{"code":"%s","message":"%s"}}' % (code.encode(), message.encode())
    head = b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


_TOO_SLOW = _last_answer(b"408 Request Timeout", "too_slow", "the request took too long to arrive")
_HEADERS_TOO_LARGE = _last_answer(
    b"431 Request Header Fields Too Large", "headers_too_large", "the headers have more than 65,536 bytes"
)
_MALFORMED = _last_answer(b"400 Bad Request", "malformed_http", "what was sent is no HTTP request")

_MOST_OF_HEADERS = 65_536  # bytes, of the path too
_LINGER = 1  # seconds that an idle connection stands when the service ends
_FIELD = 4  # bytes of a header beside its name and value: a colon, a space, the line's end


class BoundedProtocol(HttpProtocol):
    """Refuses connections beyond a number, and ends those on which a client takes too long to send, or to read."""

    settings: ClassVar[Settings] = Settings()
    _busy: ClassVar[Observed | Refusal] = Refusal(TOO_MANY_CONNECTIONS)

    _timer: asyncio.TimerHandle | None = None
    _awaited: tuple[float, Callable[[], None]] | None = None  # what is to come, within how long and what else
    _moved = False  # whether that changed since the timer was set
    _unread: asyncio.TimerHandle | None = None  # ends a connection whose client does not read
    _answering: Any = None  # the request whose answer is being made
    _messages = 0  # that have begun
    _is_last = False  # whether the next answer is the connection's last
    _heading = False  # whether the last one's headers are still to come
    _head = 0  # bytes of its headers, those of one that is not complete aside
    _part = 0  # bytes since it began, but for those that came with what was before

    @classmethod
    def install(cls, settings: Settings, routes: Sequence[BaseRoute] = ()) -> None:
        """Make it the protocol of the uvicorn servers that this process configures from now on."""
        cls.settings = settings
        cls._busy = Observed(Refusal(TOO_MANY_CONNECTIONS), settings.access_log, routes)
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
        if self._answering is not None:
            self._answering.disconnected = True  # uvicorn tells the last request alone, also if many came at once
            self._answering.message_event.set()
        self._wait_no_longer()
        self._set_timer()
        self._is_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        message = self._messages if self._heading else None
        super().data_received(data)
        if self._moved:  # most requests come whole, and need no timer
            self._set_timer()
        if self._heading and message == self._messages:
            self._part += len(data)
            if self._part > _MOST_OF_HEADERS:
                self._refuse_headers()
        elif self._is_idle():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _is_idle(self) -> bool:
        """Whether an answer was given, and what came since was the rest of its request, or nothing that begins another.

        What comes ends uvicorn's timer of idle connections, and only the end of an answer sets it again.
        """
        return (
            self._awaited is None
            and self.cycle is not None
            and self.cycle.response_complete
            and not self.pipeline
            and self.timeout_keep_alive_task is None
            and not self.transport.is_closing()
        )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._messages += 1
        self._heading, self._head, self._part = True, 0, 0
        self._wait(self.settings.header_timeout, self._headers_too_slow)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + _FIELD)
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        """Add to the headers' bytes; an error that the parser hears of ends the connection."""
        self._head += size
        if self._head > _MOST_OF_HEADERS:
            raise ValueError

    def on_headers_complete(self) -> None:
        self._heading = False
        super().on_headers_complete()
        if not self.pipeline:
            self._answering = self.cycle
        if self._is_last and self.cycle is not None:
            self.cycle.keep_alive = False
        self._wait(self.settings.body_timeout, self._body_too_slow)

    def on_message_complete(self) -> None:
        self._wait_no_longer()
        super().on_message_complete()

    def send_400_response(self, _: str) -> None:
        """What uvicorn calls when the parser finds no HTTP, or :meth:`_count` too much of it."""
        if self._head > _MOST_OF_HEADERS:
            self._refuse_headers()
        else:
            self._refuse("malformed_http", _MALFORMED)

    def _refuse_headers(self) -> None:
        self._refuse("headers_too_large", _HEADERS_TOO_LARGE)

    def _refuse(self, code: str, answer: bytes) -> None:
        """Answer, unless another answer is on its way, and close."""
        metrics().error(code)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(answer)
        self._close()

    def pause_writing(self) -> None:
        """What the transport calls when much of what was written has not been taken."""
        super().pause_writing()
        self._must_be_read()

    def resume_writing(self) -> None:
        self._is_read()
        super().resume_writing()
        if self.transport.is_closing():  # the rest is to be taken too
            self._must_be_read()

    def on_response_complete(self) -> None:
        self._answering = self.pipeline[-1][0] if self.pipeline else None  # the next one
        super().on_response_complete()
        if self.transport.is_closing():
            self._must_be_read()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._must_be_read()

    def shutdown(self) -> None:
        """What uvicorn calls when it ends: the next answer is the connection's last, and an idle one waits for it a little.

        Closed at once, it would lose a request that is on its way, and no client knows then whether it was decided on.
        """
        self._is_last = True
        self.timeout_keep_alive = min(self.timeout_keep_alive, _LINGER)
        if self.cycle is None or self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False

    def _close(self) -> None:
        self.transport.close()  # once what was written is taken
        self._must_be_read()

    def _must_be_read(self) -> None:
        """End the connection if its client does not take in time what was written."""
        if self._unread is None:
            self._unread = self.loop.call_later(self.settings.body_timeout, self._unread_for_long)

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _unread_for_long(self) -> None:
        metrics().error("too_slow")
        self.transport.abort()

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
        self._close()
