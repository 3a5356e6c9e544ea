"""Closes connections whose request head is late or too large, or that send too many requests ahead.

uvicorn has no such limits. What is subclassed here are its insides, so pyproject.toml has an upper bound for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Of a head, or of what follows a body; cookies and tokens together need a few thousand.
MOST_HEAD_BYTES = 65_536
#: Requests on one connection that were sent before the answers to earlier ones.
MOST_PIPELINED = 32
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Connection(HttpToolsProtocol):
    """An HTTP/1.1 connection that knows when its current request head began, and how many bytes came since.

    `header_started_at` is the loop's time, None once the head is complete.
    """

    header_started_at: float | None = None
    _bytes_without_progress = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client that connects has to send a request."""
        super().connection_made(transport)
        self.header_started_at = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Limit the bytes that end no head and are of no body: the parser keeps them."""
        self._bytes_without_progress += len(data)
        super().data_received(data)
        if self._bytes_without_progress > MOST_HEAD_BYTES and not self.transport.is_closing():
            if self.header_started_at is not None and not self.pipeline:
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """The first bytes of a request."""
        self.header_started_at = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self.header_started_at = None
        self._bytes_without_progress = 0
        super().on_headers_complete()
        if len(self.pipeline) > MOST_PIPELINED:
            # uvicorn goes on reading at each answer, and keeps what waits: a client could fill the memory with it.
            raise ValueError(f"more than {MOST_PIPELINED} requests wait on one connection")

    def on_body(self, body: bytes) -> None:
        """Bytes of a body, which has a limit of its own."""
        self._bytes_without_progress = 0
        super().on_body(body)


def close_overdue(connections: Iterable[Any], now: float, timeout_seconds: float) -> int:
    """Close the connections whose head is overdue; return how many they were."""
    slow = [connection for connection in connections if _is_late(connection, now, timeout_seconds)]
    for connection in slow:
        connection.transport.close()
    return len(slow)


def _is_late(connection: Any, now: float, timeout_seconds: float) -> bool:
    since = getattr(connection, "header_started_at", None)
    return since is not None and now - since > timeout_seconds
