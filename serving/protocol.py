"""uvicorn's HTTP protocol with what it lacks: bounds on how long a client may take to send, and on connections.

An application only hears of a request when its headers are complete, so a client that sends them slowly can be stopped
nowhere else.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.metrics import metrics
from serving.settings import Settings


class BoundedProtocol(HttpToolsProtocol):
    """Refuses connections beyond a number, and ends those whose request does not arrive in time."""

    settings: ClassVar[Settings] = Settings()

    _timer: asyncio.TimerHandle | None = None

    @classmethod
    def install(cls, settings: Settings) -> None:
        """Make it the protocol of the uvicorn servers that this process configures from now on."""
        cls.settings = settings
        uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{cls.__module__}:{cls.__name__}"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            self._refuse(b"503 Service Unavailable", b"too_many_connections", b"retry-after: 1\r\n")
        else:
            self._wait(self.settings.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait(self.settings.header_timeout)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._wait(self.settings.body_timeout)

    def on_message_complete(self) -> None:
        self._wait(None)
        super().on_message_complete()

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self._refuse(b"408 Request Timeout", b"too_slow", b"")
        else:
            self.transport.close()

    def _refuse(self, status: bytes, code: bytes, header: bytes) -> None:
        metrics().error(code.decode())
        body = b'{"error":{"code":"%s","message":"%s"}}' % (code, status)
        head = b"HTTP/1.1 %s\r\n%sconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (status, header, len(body)) + body)
        self.transport.close()
