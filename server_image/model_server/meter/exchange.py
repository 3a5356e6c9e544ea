"""One request and its answer, between the connection of a client and one to the server behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from model_server.errors import RequestError
from model_server.key_limits import unlimited
from model_server.meter.head import LAST_CHUNK, Fields, chunk

#: Of a request that is kept for a second attempt, and that waits for a connection.
MOST_KEPT = 65_536
#: Of a body that is recorded, for the input log or as feedback.
MOST_RECORDED = 262_144


def _grown(pieces: list[bytes], data: bytes, size: int) -> list[bytes] | None:
    if size > MOST_RECORDED:
        return None
    pieces.append(data)
    return pieces


class Client(Protocol):
    """The connection of a client, as the one to the server behind sees it; `front.py` has the only one."""

    def write(self, data: bytes) -> None:
        """Write a piece of the answer."""

    def sent(self) -> None:
        """The request is on its way."""

    def hold(self) -> None:
        """The server behind takes nothing at the moment."""

    def release(self) -> None:
        """The server behind takes more."""

    def next_deadline(self) -> float:
        """When the next piece of what is open has to have come, in the loop's time."""

    def closes_after(self, exchange: Exchange) -> bool:
        """Whether the connection ends with this answer."""

    def finish(self, exchange: Exchange) -> None:
        """The answer of the server behind is complete."""

    def answer(self, exchange: Exchange, status: int, content_type: bytes, body: bytes) -> None:
        """Answer a request without the server behind."""

    def fail(self, exchange: Exchange, error: RequestError) -> None:
        """Answer a request with an error, or end the connection where its answer has begun."""

    def look(self, now: float) -> None:
        """End what takes too long."""

    def retire(self) -> None:
        """The meter drains: end the connection unless a request is being answered."""


class Connection(Protocol):
    """A connection to the server behind, as the one of a client sees it; `upstream.py` has the only one."""

    def push(self) -> None:
        """Send what more has come of the request."""

    def close(self) -> None:
        """End the connection: nobody waits for the answer."""

    def pause(self) -> None:
        """The client takes nothing at the moment."""

    def resume(self) -> None:
        """The client takes more."""


class Exchange:
    """A request whose head is complete.

    `received`: its body is complete; `answered`: its answer is wholly written; `status`: of the answer, 0 before it.
    """

    __slots__ = (
        "answered",
        "begun",
        "chunked",
        "connection",
        "counted",
        "deadline",
        "expects",
        "fields",
        "front",
        "identifier",
        "is_http10",
        "is_local",
        "is_sampled",
        "keep_alive",
        "kept",
        "leave",
        "length",
        "method",
        "out",
        "problem",
        "received",
        "request_body",
        "response_body",
        "response_size",
        "size",
        "started",
        "status",
        "target",
    )

    def __init__(self, front: Client, method: bytes, target: bytes, fields: Fields) -> None:
        self.front, self.method, self.target, self.fields = front, method, target, fields
        self.started = time.perf_counter()
        self.identifier = b""
        self.is_http10 = self.chunked = self.expects = self.begun = self.counted = False
        self.keep_alive, self.received, self.answered = True, False, False
        #: Why the request cannot be passed on; empty if it can.
        self.problem = ""
        self.status = self.length = self.size = 0
        self.deadline = 0.0
        self.out: list[bytes] = []
        #: What was sent to the server behind, for a second attempt; None where it was too much.
        self.kept: list[bytes] | None = []
        self.connection: Connection | None = None
        self.leave: Callable[[], None] = unlimited
        #: Answered by the meter itself, when its body is complete.
        self.is_local = self.is_sampled = False
        #: Bodies as they came, of a request that is recorded; None for the others, and for those that are too large.
        self.request_body: list[bytes] | None = None
        self.response_body: list[bytes] | None = None
        self.response_size = 0

    @property
    def path(self) -> bytes:
        """The path that is asked for, without the query."""
        return self.target.partition(b"?")[0]

    def add(self, data: bytes) -> None:
        """A piece of the request's body has come."""
        self.size += len(data)
        self.out.append(chunk(data) if self.chunked else data)
        if self.request_body is not None:
            self.request_body = _grown(self.request_body, data, self.size)

    def add_answer(self, data: bytes) -> None:
        """A piece of the answer's body has come."""
        if self.response_body is not None:
            self.response_size += len(data)
            self.response_body = _grown(self.response_body, data, self.response_size)

    def complete(self) -> None:
        """The request's body is complete."""
        self.received = True
        if self.chunked:
            self.out.append(LAST_CHUNK)

    def take(self) -> bytes:
        """What is to be sent to the server behind, and was not taken yet."""
        data = self.out[0] if len(self.out) == 1 else b"".join(self.out)
        self.out.clear()
        if self.kept is not None:
            self.kept.append(data)
            if len(data) > MOST_KEPT or sum(map(len, self.kept)) > MOST_KEPT:
                self.kept = None
        return data

    def rewind(self) -> bool:
        """Make what was sent the next to be taken, for another connection; False where it was too much to keep."""
        if self.kept is None:
            return False
        self.out = [*self.kept, *self.out]
        self.kept = []
        return True
