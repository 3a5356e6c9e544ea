"""Connections that dawdle before their request: cut here, as uvicorn has no limit for a request's head."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """An HTTP/1.1 connection that remembers since when it owes the rest of a request's head."""

    owes_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client that connects owes a request."""
        super().connection_made(transport)
        self.owes_since = self.loop.time()

    def on_message_begin(self) -> None:
        """The first bytes of a request."""
        self.owes_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self.owes_since = None
        super().on_headers_complete()


def cut_slow(connections: Iterable[Any], now: float, timeout_seconds: float) -> int:
    """Close the connections whose head is overdue; how many they were."""
    slow = [connection for connection in connections if _is_late(connection, now, timeout_seconds)]
    for connection in slow:
        connection.transport.close()
    return len(slow)


def _is_late(connection: Any, now: float, timeout_seconds: float) -> bool:
    since = getattr(connection, "owes_since", None)
    return since is not None and now - since > timeout_seconds
