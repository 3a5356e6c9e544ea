"""Connections to the server behind the meter: kept while they are fresh, one request at a time on each.

Answers are passed on piece by piece, as they come, so that streams of tokens reach the client without delay.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

from model_server.errors import DeadlineExceeded, RequestError, UpstreamFailed
from model_server.meter.exchange import Exchange
from model_server.meter.head import LAST_CHUNK, chunk, response_head

#: Seconds after which an idle connection is not used again: servers close theirs, some after two seconds, and a request
#: that meets the close has to be sent again.
FRESH_SECONDS = 1.0
CONNECT_SECONDS = 2.0
#: Idle connections that are kept.
MOST_IDLE = 64
MOST_HEAD_BYTES = 65_536
#: Statuses of answers, all of which are counted: every one that HTTP has (RFC 9110, 15).
STATUSES = range(200, 600)


class Upstream:
    """The server behind, as one worker sees it."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._loop = asyncio.get_running_loop()
        self._idle: list[UpstreamConnection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, exchange: Exchange, *, anew: bool = False) -> None:
        """Send a request on a connection that is idle, or on a new one; always on a new one where `anew`."""
        now = self._loop.time()
        while self._idle and not anew:
            connection = self._idle.pop()
            if now - connection.idle_since < FRESH_SECONDS and not connection.is_closing:
                connection.serve(exchange, is_reused=True)
                return
            connection.close()
        task = self._loop.create_task(self._connect(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def keep(self, connection: UpstreamConnection) -> None:
        """A connection has answered and is idle."""
        if len(self._idle) >= MOST_IDLE:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is closed."""
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _connect(self, exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(self), self.host, self.port
                )
        except (OSError, TimeoutError) as error:
            told = getattr(error, "strerror", None) or str(error) or "it does not answer"
            exchange.front.fail(
                exchange, UpstreamFailed(f"the server behind port {self.port} cannot be reached: {told}")
            )
            return
        if exchange.answered:  # its client went away, or it took too long
            connection.close()
            return
        connection.serve(exchange, is_reused=False)


class UpstreamConnection(asyncio.Protocol):
    """One connection to the server behind."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._is_reused = self._has_answered = False
        self.idle_since = 0.0
        self._out: list[bytes] = []
        self._begin_answer()

    # --- what the pool and exchanges ask

    @property
    def is_closing(self) -> bool:
        """Whether the connection takes no further request."""
        return self._transport.is_closing()

    def serve(self, exchange: Exchange, *, is_reused: bool) -> None:
        """Send a request."""
        self._exchange, exchange.connection = exchange, self
        self._is_reused, self._has_answered = is_reused, False
        self.push()
        exchange.front.sent()

    def push(self) -> None:
        """Send what more has come of the request."""
        if self._exchange is not None and self._exchange.out:
            self._transport.write(self._exchange.take())

    def close(self) -> None:
        """End the connection; its exchange, if it has one, is over."""
        self._exchange = None
        self._transport.abort()

    def pause(self) -> None:
        """The client takes nothing at the moment."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """The client takes more."""
        self._transport.resume_reading()

    # --- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.front.hold()

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.front.release()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # nothing was asked
            self._transport.abort()
            return
        self._has_answered = True
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break(f"the server behind answered what is no HTTP: {error}")
            return
        if self._problem:
            self._break(self._problem)
            return
        if self._head_bytes > MOST_HEAD_BYTES:
            self._break(f"the head or the trailer of the answer has more than {MOST_HEAD_BYTES} bytes")
            return
        if self._has_head:
            exchange.deadline = exchange.front.next_deadline()
        if self._out:
            exchange.status = self._status
            exchange.front.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()
        if self._is_over:
            self._finish(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.forget(self)
        exchange = self._exchange
        if exchange is None:
            return
        self._exchange = exchange.connection = None
        if self._has_head and self._ends_with_connection and exc is None:
            self._reusable = False
            if self._is_chunked:
                exchange.front.write(LAST_CHUNK)
            exchange.front.finish(exchange)
        elif self._is_reused and not self._has_answered and exchange.rewind():
            # The server has closed a connection that it had kept, before it read the request.
            self._upstream.send(exchange, anew=True)
        else:
            exchange.front.fail(exchange, UpstreamFailed("the server behind broke off before its answer was complete"))

    def _break(self, message: str) -> None:
        exchange, self._exchange = self._exchange, None
        self._out.clear()
        self._transport.abort()
        if exchange is not None:
            exchange.connection = None
            exchange.front.fail(exchange, UpstreamFailed(message))

    def _finish(self, exchange: Exchange) -> None:
        self._exchange = exchange.connection = None
        is_reusable = self._reusable and exchange.received and not self._transport.is_closing()
        self._begin_answer()
        if is_reusable:
            self._upstream.keep(self)
        else:
            self._transport.abort()
        exchange.front.finish(exchange)

    # --- httptools

    def _begin_answer(self) -> None:
        self._reason, self._problem = b"", ""
        self._fields: list[tuple[bytes, bytes]] = []
        self._has_head = self._is_over = self._is_chunked = self._ends_with_connection = self._is_interim = False
        self._reusable = False
        #: What has come since the last piece of a body.
        self._head_bytes = self._status = 0

    def on_message_begin(self) -> None:
        if self._is_over:
            # A second answer to one request is nobody's.
            self._reusable = False

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        status = self._parser.get_status_code()
        if exchange is None or self._is_over:
            return
        if status < 200:
            self._is_interim = True
            return
        self._has_head = True
        if status not in STATUSES:
            self._problem = f"the answer has the status {status}, which HTTP does not have"
            return
        if any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in self._fields):
            self._problem = "the answer has another transfer coding than chunked"
            return
        names = dict(self._fields)
        has_body = exchange.method != b"HEAD" and status not in (204, 304)
        is_framed = b"content-length" in names or b"transfer-encoding" in names
        self._ends_with_connection = has_body and not is_framed
        self._reusable = self._parser.should_keep_alive() and not self._ends_with_connection
        is_sized = b"content-length" in names and b"transfer-encoding" not in names
        self._is_chunked = has_body and not is_sized and not exchange.is_http10
        if has_body and not is_sized and exchange.is_http10:
            exchange.keep_alive = False
        self._status = status
        close = exchange.front.closes_after(exchange)
        fields = self._fields
        self._out.append(
            response_head(status, self._reason, fields, exchange.identifier, chunked=self._is_chunked, close=close)
        )
        if exchange.method == b"HEAD":
            # The parser would wait for the body that the head tells of.
            self._is_over, self._reusable = True, False

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        exchange = self._exchange
        if exchange is None or self._is_over:
            return
        self._out.append(chunk(body) if self._is_chunked else body)
        if exchange.response_body is not None:
            exchange.add_answer(body)

    def on_message_complete(self) -> None:
        if self._is_over:
            return
        if self._is_interim:
            self._begin_answer()
            return
        if self._is_chunked:
            self._out.append(LAST_CHUNK)
        self._is_over = True


def overdue(exchange: Exchange, seconds: float) -> RequestError:
    """The error for a server behind that does not answer in time."""
    return DeadlineExceeded(f"the server behind did not answer within {seconds:g} s")
