"""Connections that dawdle before their request, or want more than they give: cut here, as uvicorn has no limits."""

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
    """An HTTP/1.1 connection that remembers since when it owes the rest of a request's head, and how much it sent."""

    owes_since: float | None = None
    _fruitless = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client that connects owes a request."""
        super().connection_made(transport)
        self.owes_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Bytes came; those that end no head and are of no body are kept by the parser, so there is a limit."""
        self._fruitless += len(data)
        super().data_received(data)
        if self._fruitless > MOST_HEAD_BYTES and not self.transport.is_closing():
            if self.owes_since is not None and not self.pipeline:
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """The first bytes of a request."""
        self.owes_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self.owes_since = None
        self._fruitless = 0
        super().on_headers_complete()
        if len(self.pipeline) > MOST_PIPELINED:
            # uvicorn goes on reading at each answer, and keeps what waits: a client could fill the memory with it.
            raise ValueError(f"more than {MOST_PIPELINED} requests wait on one connection")

    def on_body(self, body: bytes) -> None:
        """Bytes of a body, which has a limit of its own."""
        self._fruitless = 0
        super().on_body(body)


def cut_slow(connections: Iterable[Any], now: float, timeout_seconds: float) -> int:
    """Close the connections whose head is overdue; how many they were."""
    slow = [connection for connection in connections if _is_late(connection, now, timeout_seconds)]
    for connection in slow:
        connection.transport.close()
    return len(slow)


def _is_late(connection: Any, now: float, timeout_seconds: float) -> bool:
    since = getattr(connection, "owes_since", None)
    return since is not None and now - since > timeout_seconds
