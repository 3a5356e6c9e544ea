"""The little of HTTP that the routes need: a request that was read whole, a response, and their limits."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from model_server.errors import MalformedRequest, RequestTimeout, RequestTooLarge, UnsupportedMediaType
from model_server.tracing import NO_TRACE, Trace

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

JSON = b"application/json"
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What a stranger may send."""

    max_bytes: int
    max_rows: int
    timeout_seconds: float


class Disconnected(Exception):
    """The client went away before its request was whole: there is nobody to answer."""


@dataclass(slots=True)
class Request:
    """A request whose body has arrived."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    id: bytes
    body: bytes = b""
    params: dict[str, str] = field(default_factory=dict)
    trace: Trace = NO_TRACE

    def json(self) -> Any:
        """The body as JSON. Raises UnsupportedMediaType or MalformedRequest with the place of the fault."""
        encoding = self.headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding != b"identity":
            raise UnsupportedMediaType(
                f"content-encoding {encoding.decode('latin-1')!r} is not read here", hint="Send it plain."
            )
        media_type = self.headers.get(b"content-type", JSON).split(b";")[0].strip().lower()
        if media_type != JSON:
            raise UnsupportedMediaType(
                f"content-type {media_type.decode('latin-1')!r} is not read here",
                hint="Send application/json, with curl: -H 'content-type: application/json'",
            )
        return parse_json(self.body)


def parse_json(text: bytes) -> Any:
    """A JSON document. Raises MalformedRequest with the place of the fault."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is not JSON: {error}" if text else "the body is empty") from None


@dataclass(slots=True)
class Response:
    """A whole answer."""

    status: int
    body: bytes
    media_type: bytes = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


def json_response(document: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(status, orjson.dumps(document))


class RequestIds:
    """The client's `x-request-id` when it is short and printable, else a new one: a random prefix and a count."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6).encode()
        self._count = itertools.count(1)

    def of(self, headers: dict[bytes, bytes]) -> bytes:
        """The id of a request."""
        given = headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return b"%s-%x" % (self._prefix, next(self._count))


class SlowBodies:
    """Cuts requests whose body takes too long. One look a second at all of them costs less than a timer each."""

    INTERVAL_SECONDS = 1.0

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._look: asyncio.TimerHandle | None = None

    def enter(self, task: asyncio.Task[Any], now: float) -> None:
        """A task begins to wait for a body."""
        self._reading[task] = now
        if self._look is None:
            self._arm(task.get_loop())

    def leave(self, task: asyncio.Task[Any]) -> None:
        """The body is there, or the client is gone."""
        del self._reading[task]

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look = loop.call_later(min(self.INTERVAL_SECONDS, self._timeout), self._cut, loop)

    def _cut(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look = None
        late = time.perf_counter() - self._timeout
        for task, began in self._reading.items():
            if began <= late:
                task.cancel()
        if self._reading:
            self._arm(loop)


async def read_body(request: Request, receive: Receive, limits: RequestLimits, slow: SlowBodies, began: float) -> bytes:
    """The whole body. Raises RequestTooLarge (at once if declared so), RequestTimeout, Disconnected."""
    declared = request.headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limits.max_bytes:
        raise RequestTooLarge(f"the body has {int(declared)} bytes, and {limits.max_bytes} are allowed")
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - ASGI servers run applications in tasks
    slow.enter(task, began)
    try:
        return await _collect(receive, limits.max_bytes)
    except asyncio.CancelledError:
        task.uncancel()
        raise RequestTimeout(f"the body did not arrive within {limits.timeout_seconds:g} s") from None
    finally:
        slow.leave(task)


async def _collect(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise RequestTooLarge(f"the body has more than {limit} bytes")
        if not message.get("more_body", False):
            return b"".join((*chunks, chunk)) if chunks else chunk
        chunks.append(chunk)
