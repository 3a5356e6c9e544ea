"""Reads the body of a request, within limits of size and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from model_server.errors import RequestTimeout, RequestTooLarge
from model_server.http.compression import ENCODING, decompressed
from model_server.open_request import Disconnected

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What a client may send."""

    max_bytes: int
    timeout_seconds: float
    #: Answers from this size on are compressed for clients that take it; 0: none.
    gzip_bytes: int = 0


class BodyTimeouts:
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


async def read_body(
    headers: Mapping[bytes, bytes], receive: Receive, limits: RequestLimits, timeouts: BodyTimeouts, began: float
) -> bytes:
    """The whole body. `began` is the `time.perf_counter` of the request's head.

    It comes without its content encoding. Raises RequestTooLarge (at once if declared so), RequestTimeout,
    Disconnected.
    """
    declared = headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limits.max_bytes:
        raise RequestTooLarge(f"the body has {int(declared)} bytes, and {limits.max_bytes} are allowed")
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - ASGI servers run applications in tasks
    timeouts.enter(task, began)
    try:
        body = await _collect(receive, limits.max_bytes)
        if ENCODING in headers:
            return await asyncio.to_thread(decompressed, body, headers, limits.max_bytes)
        return body
    except asyncio.CancelledError:
        task.uncancel()
        raise RequestTimeout(f"the body did not arrive within {limits.timeout_seconds:g} s") from None
    finally:
        timeouts.leave(task)


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
