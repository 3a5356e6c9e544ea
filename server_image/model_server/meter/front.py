"""The connection of a client: begins its requests, one after the other, and writes their answers."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import cast

import httptools
import orjson

from model_server.errors import MalformedRequest, RequestError, RequestTimeout, RequestTooLarge
from model_server.meter.exchange import MOST_KEPT, Exchange
from model_server.meter.head import response_head
from model_server.meter.meter import Meter
from model_server.meter.reading import RequestReader
from model_server.meter.upstream import overdue
from model_server.statuses import CLIENT_GONE, STATUS_OF, error_document, error_fields

log = logging.getLogger(__name__)

#: Of a head, or of what follows a body; cookies and tokens together need a few thousand.
MOST_HEAD_BYTES = 65_536
# Longer than the idle timeout of the usual proxies (60 s), so that they close first.
KEEP_ALIVE_SECONDS = 75
#: Asked by the preStop hook of the container behind: answered when the meter needs it no more.
DRAINED = b"/meter/drained"
_LINGER_SECONDS = 2.0
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Front(asyncio.Protocol):
    """An HTTP/1.1 connection of a client."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(self, meter.record)
        self._line = self._reader.line
        self._is_advancing = self._discards = False
        #: The server behind takes nothing, reading is paused, the client takes nothing.
        self._holds = self._is_paused = self._is_full = False

    # --- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._meter.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        for exchange in self._line:
            self._abandon(exchange)
        self._line.clear()
        self._meter.gone(self)

    def data_received(self, data: bytes) -> None:
        if self._discards:
            return
        try:
            self._reader.feed(data)
        except httptools.HttpParserError as error:
            self._refuse_all(MalformedRequest(f"the request is no HTTP: {error}"))
            return
        if self._reader.head_bytes > MOST_HEAD_BYTES and not self._transport.is_closing():
            if not self._line:
                self._transport.write(_TOO_LARGE)
            self._transport.close()
            return
        if self._reader.is_ahead:
            self._transport.close()
            return
        self._advance()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._is_full = True
        if self._line and (connection := self._line[0].connection) is not None:
            connection.pause()

    def resume_writing(self) -> None:
        self._is_full = False
        if self._line:
            self._line[0].deadline = self.next_deadline()
        if self._line and (connection := self._line[0].connection) is not None:
            connection.resume()

    # --- what becomes of requests

    def _advance(self) -> None:
        """Go on with the first request, and begin with the next when it is answered."""
        self._is_advancing = True
        while self._line:
            exchange = self._line[0]
            if not exchange.begun:
                self._begin(exchange)
            if not exchange.answered:
                self._push(exchange)
            if not exchange.answered:
                break
            self._line.popleft()
            self._reader.since = self._loop.time()
            if self.closes_after(exchange):
                self._end(is_whole=exchange.received)
                break
        self._is_advancing = False
        self._settle()

    def _begin(self, exchange: Exchange) -> None:
        exchange.begun = True
        exchange.deadline = self.next_deadline()
        meter = self._meter
        try:
            if not exchange.target.startswith(b"/"):
                exchange.problem = "the target of the request is no path"
            if exchange.problem:
                raise MalformedRequest(exchange.problem)
            if exchange.path == DRAINED:
                exchange.deadline = float("inf")
                meter.wait(exchange)
                return
            if (answer := meter.own(exchange)) is not None:
                self.answer(exchange, *answer)
                return
            meter.admit(exchange)
        except RequestError as error:
            self.fail(exchange, error)
            return
        if exchange.expects and not exchange.received:
            self._transport.write(_CONTINUE)
        if not exchange.is_local:
            meter.upstream.send(exchange)

    def _push(self, exchange: Exchange) -> None:
        if exchange.size > self._meter.limits.max_bytes:
            self.fail(exchange, RequestTooLarge(f"the body has more than {self._meter.limits.max_bytes} bytes"))
        elif exchange.is_local:
            exchange.out.clear()
            if exchange.received or exchange.request_body is None:
                self._take_feedback(exchange)
        elif exchange.connection is not None and exchange.out:
            exchange.connection.push()

    def _take_feedback(self, exchange: Exchange) -> None:
        try:
            self._meter.take_feedback(exchange)
        except RequestError as error:
            self.fail(exchange, error)
        else:
            self.answer(exchange, 200, b"application/json", b'{"status":"ok"}')

    def _settle(self) -> None:
        """Read on, or not: a client that is ahead waits in its own buffers."""
        waits = len(self._line) > 1
        if self._line and self._line[0].connection is None and not self._line[0].received:
            waits = waits or sum(map(len, self._line[0].out)) > MOST_KEPT
        wanted = waits or self._holds
        if wanted == self._is_paused or self._transport.is_closing():
            return
        self._is_paused = wanted
        if wanted:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _end(self, *, is_whole: bool) -> None:
        """End the connection; the rest of a request is read first, or its client would not see the answer."""
        for exchange in self._line:
            self._abandon(exchange)
        self._line.clear()
        self._discards = True
        if is_whole or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()
            self._loop.call_later(_LINGER_SECONDS, self._transport.close)

    def _abandon(self, exchange: Exchange) -> None:
        """The client is gone: nobody waits for the answer."""
        if exchange.answered:
            return
        exchange.answered = True
        self._meter.waiting.pop(exchange, None)
        if exchange.connection is not None:
            exchange.connection.close()
            exchange.connection = None
        if exchange.begun:
            self._meter.ended(exchange, CLIENT_GONE, None)

    def _refuse_all(self, error: RequestError) -> None:
        """What came is no HTTP: say so, unless an earlier request is still being answered, and end the connection."""
        for exchange in self._line:
            self._abandon(exchange)
        if not self._line:
            exchange = Exchange(self, b"GET", b"/", [])
            exchange.keep_alive = False
            self._line.append(exchange)
            self._is_advancing = True  # there is no next one
            self.fail(exchange, error)
        self._end(is_whole=False)

    # --- what connections to the server behind call

    def write(self, data: bytes) -> None:
        """Write a piece of the answer."""
        self._transport.write(data)

    def sent(self) -> None:
        """The first request is on its way."""
        self._settle()

    def hold(self) -> None:
        """The server behind takes nothing at the moment."""
        self._holds = True
        self._settle()

    def release(self) -> None:
        """The server behind takes more."""
        self._holds = False
        self._settle()

    def next_deadline(self) -> float:
        """When the next piece of what is open has to have come."""
        return self._meter.next_deadline()

    def closes_after(self, exchange: Exchange) -> bool:
        """Whether the connection ends with this answer."""
        return not exchange.keep_alive or not exchange.received or self._meter.is_draining

    def finish(self, exchange: Exchange) -> None:
        """The answer of the server behind is complete."""
        self._answered(exchange, exchange.status, None)

    def answer(self, exchange: Exchange, status: int, content_type: bytes, body: bytes) -> None:
        """Answer a request here."""
        fields = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        self._write_answer(exchange, status, fields, body)
        self._answered(exchange, status, None)

    def fail(self, exchange: Exchange, error: RequestError) -> None:
        """Answer a request with an error, or end the connection where its answer has begun."""
        if exchange.answered:
            return
        status = STATUS_OF[type(error)].http
        level = logging.WARNING if status >= 500 else logging.INFO
        log.log(level, "%s: %s", error.reason, error.message, extra={"path": exchange.path.decode(errors="replace")})
        if exchange.connection is not None:
            exchange.connection.close()
            exchange.connection = None
        if exchange.status:
            self._answered(exchange, status, error, advances=False)
            self._line.clear()
            self._transport.abort()
            return
        body = orjson.dumps(error_document(error))
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *error_fields(error)]
        self._write_answer(exchange, status, fields, body)
        self._answered(exchange, status, error)

    def _write_answer(self, exchange: Exchange, status: int, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
        reason = HTTPStatus(status).phrase.encode() if status != CLIENT_GONE else b""
        close = self.closes_after(exchange)
        head = response_head(status, reason, fields, exchange.identifier, chunked=False, close=close)
        self._transport.write(head + (b"" if exchange.method == b"HEAD" else body))

    def _answered(self, exchange: Exchange, status: int, error: RequestError | None, *, advances: bool = True) -> None:
        exchange.answered, exchange.status = True, status
        exchange.out.clear()
        self._holds = False
        self._meter.waiting.pop(exchange, None)
        self._meter.ended(exchange, status, error)
        if advances and not self._is_advancing:
            self._advance()

    # --- once in a while

    def look(self, now: float) -> None:
        """End what takes too long: a head, a body, an answer, or the wait for a next request."""
        if not self._line:
            limit = KEEP_ALIVE_SECONDS if self._reader.is_idle else self._meter.limits.header_timeout_seconds
            if now - self._reader.since > limit:
                self._transport.close()
            return
        exchange = self._line[0]
        if now > exchange.deadline:
            seconds = self._meter.limits.timeout_seconds
            if self._is_full:
                # The client does not read its answer: nothing that the server behind could do about it.
                self._transport.abort()
            elif exchange.received or self._holds:
                self.fail(exchange, overdue(exchange, seconds))
            else:
                self.fail(exchange, RequestTimeout(f"the body was not complete within {seconds:g} s"))

    def retire(self) -> None:
        """The meter drains: end the connection unless a request is being answered."""
        if not self._line:
            self._transport.close()
