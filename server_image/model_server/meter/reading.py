"""Reads the requests of a client from the bytes of its connection; for `front.py`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import httptools

from model_server.meter.exchange import Client, Exchange
from model_server.meter.head import without_offer

#: Requests on one connection that were sent before the answers to earlier ones.
MOST_PIPELINED = 32


class RequestReader:
    """The requests of one connection, in `line`: the first is being answered, the last may still be received.

    `head_bytes`: what has come since the last head or piece of a body. `since`: since when a head is waited for.
    """

    def __init__(self, client: Client, record: Callable[[Exchange], None]) -> None:
        self.line: deque[Exchange] = deque()
        self.head_bytes = 0
        self._client, self._record = client, record
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._fields: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._is_receiving = False
        self.since = self._loop.time()

    @property
    def is_idle(self) -> bool:
        """Whether requests have come, and nothing of a next one."""
        return bool(self._target) and not self._is_receiving and not self.head_bytes

    @property
    def is_ahead(self) -> bool:
        """Whether more requests wait than may."""
        return len(self.line) > MOST_PIPELINED

    def feed(self, data: bytes) -> None:
        """Read what has come. Raises HttpParserError."""
        self.head_bytes += len(data)
        while not self.is_ahead:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_offer() + data[upgrade.args[0] :]
            else:
                return

    def _without_offer(self) -> bytes:
        """Take the last request back, and return its head without the offer of another protocol.

        None is spoken here, and who offers one can do without. The parser took the body for the beginning of it: it is
        read again, by a new parser.
        """
        offered = self.line.pop()
        if offered.method == b"CONNECT":
            raise httptools.HttpParserError("there is no tunnel here")
        self._parser = httptools.HttpRequestParser(self)
        version = b"1.0" if offered.is_http10 else b"1.1"
        fields = b"".join(b"%b: %b\r\n" % one for one in without_offer(offered.fields))
        return b"%b %b HTTP/%b\r\n%b\r\n" % (offered.method, offered.target, version, fields)

    # --- httptools

    def on_message_begin(self) -> None:
        self._fields, self._target, self._is_receiving = [], b"", True
        if not self.line:
            self.since = self._loop.time()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser, fields = self._parser, self._fields
        exchange = Exchange(self._client, parser.get_method(), self._target, fields)
        exchange.is_http10 = parser.get_http_version() != "1.1"
        exchange.keep_alive = parser.should_keep_alive()
        host: bytes | None = None
        for name, value in fields:
            if name == b"content-length":
                exchange.length = int(value)
            elif name == b"transfer-encoding":
                exchange.chunked = True
                if value.lower() != b"chunked":
                    exchange.problem = "the body has another transfer coding than chunked"
            elif name == b"host":
                if host is not None and host != value:
                    exchange.problem = "the request has two hosts"
                host = value
            elif name == b"expect":
                exchange.expects = value.lower() == b"100-continue"
        # Fields of a trailer are nobody's: among those of the head they would be passed on as such.
        self._fields = []
        self.head_bytes = 0
        self._record(exchange)
        self.line.append(exchange)

    def on_body(self, body: bytes) -> None:
        self.head_bytes = 0
        exchange = self.line[-1]
        if not exchange.answered:
            exchange.add(body)

    def on_message_complete(self) -> None:
        self._is_receiving = False
        self.line[-1].complete()
        self.line[-1].deadline = self._client.next_deadline()
