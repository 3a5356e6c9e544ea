"""Passes connections with TLS on as they are: the key is with the pods, so nothing of them can be read here.

A connection wakes the model with its first byte. Until there is a pod, what it sent is kept, up to some kilobytes.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Coroutine
from typing import Any, cast
from urllib.parse import urlsplit

from model_operator.activator.gate import CONNECT_SECONDS, Gate, Refused, Unreachable
from model_operator.activator.line import Line
from model_operator.activator.metrics import Outcome

#: First byte of a connection with TLS: a record of the handshake (RFC 8446, 5.1).
HANDSHAKE = 0x16
#: A fatal alert, `internal_error`: clients say so in place of a connection that just ends (RFC 8446, 6).
_ALERT = bytes([21, 3, 3, 0, 2, 2, 80])
#: Bytes that are kept of a connection that waits; a ClientHello has one to two thousand.
_MOST_KEPT = 16 * 1024
#: Seconds without a byte after which an answer counts as over, and the longest time until then: the place in the line
#: is for the next one, though the connection stays.
_QUIET, _LONGEST = 0.1, 10.0
#: Seconds without a byte in either direction after which a connection ends.
_IDLE = 900.0


class End(asyncio.Protocol):
    """One end of a connection that is passed on: what it reads goes to the other end, or waits for it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = loop.create_future()
        self.heard_at: float | None = None
        self._clock = loop.time
        self._other: End | None = None
        self._kept = bytearray()
        self._is_at_end = False

    @property
    def is_joined(self) -> bool:
        """Whether there is another end."""
        return self._other is not None

    @property
    def _there(self) -> asyncio.Transport | None:
        """The other end's transport while it is open."""
        there = self._other.transport if self._other is not None else None
        return None if there is None or there.is_closing() else there

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, or keep them."""
        self.heard_at = self._clock()
        if self._other is not None:
            if (there := self._there) is not None:
                there.write(data)
            return
        self._kept += data
        if len(self._kept) >= _MOST_KEPT and self.transport is not None:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Tell the other end that nothing more comes; with both at their end, or without another one, it is over."""
        other, there, self._is_at_end = self._other, self._there, True
        if other is None or there is None or other._is_at_end:
            return False
        there.write_eof()
        return True

    def pause_writing(self) -> None:
        """Read no more from the other end than this one takes."""
        if (there := self._there) is not None:
            there.pause_reading()

    def resume_writing(self) -> None:
        """Read from the other end again."""
        if (there := self._there) is not None:
            there.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other end too."""
        if not self.lost.done():
            self.lost.set_result(None)
        if self._other is not None:
            self._other.close()

    def join(self, other: "End") -> None:
        """Pass on to another end what was kept, and all that comes."""
        self._other, other._other = other, self
        if other.transport is not None and self.transport is not None:
            other.transport.write(bytes(self._kept))
            self._kept.clear()
            self.transport.resume_reading()

    def close(self) -> None:
        """Close it after what was written."""
        if self.transport is not None:
            self.transport.close()

    def refuse(self) -> None:
        """Say to a client of TLS that there is no answer."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(_ALERT)
            self.transport.close()


class Splices:
    """Passes connections on to pods; each has a place in the line until its first answer is over.

    `most` bounds the connections, with those that stay after it, for all models; where those are of several namespaces,
    one may use a half of it.
    """

    def __init__(self, gate: Gate, *, most: int) -> None:
        self._gate, self._most = gate, most
        self._open: Counter[str] = Counter()

    async def carry(self, client: End, line: Line, port: int | None) -> None:
        """Carry a connection until it ends, to `port` of a pod, or to the port of its URL."""
        namespace = line.route.namespace
        self._open[namespace] += 1
        try:
            with self._gate.counted(line) as ending:
                if self._open.total() > self._most or self._open[namespace] > self._gate.share_of(self._most):
                    raise Refused(Outcome.LIMITED, f"{self._open[namespace]} connections are open already")
                pod = await _unless_lost(client, self._gate.pass_on(line, lambda url: _begin(client, url, port)))
                if pod is None:
                    return
                ending.outcome = Outcome.ANSWERED if pod.heard_at is not None else Outcome.BROKEN
            await _until_idle(client, pod)
        except Refused:
            client.refuse()
        finally:
            self._open[namespace] -= 1
            if not self._open[namespace]:
                del self._open[namespace]


async def _unless_lost(client: End, passing: Coroutine[Any, Any, End]) -> End | None:
    """Return the pod's end; None if the client goes away before there is one."""
    task = asyncio.create_task(passing)
    either: set[asyncio.Future[Any]] = {task, client.lost}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() or client.is_joined else None
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _begin(client: End, url: str, port: int | None) -> End:
    """Connect a client with a pod; return the pod's end when its first answer is over.

    Raises:
        Unreachable: there is no connection.
        Refused: the pod has no TLS.
    """
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    if parts.scheme != "https":
        raise Refused(Outcome.FAILED, "the model has no TLS")
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, pod = await loop.create_connection(End, str(parts.hostname), port or parts.port or 443)
    except (OSError, TimeoutError) as error:
        raise Unreachable from error
    client.join(pod)
    until = loop.time() + _LONGEST
    while not pod.lost.done() and loop.time() < until:
        if pod.heard_at is not None and loop.time() - pod.heard_at >= _QUIET:
            break
        await asyncio.sleep(_QUIET)
    return pod


async def _until_idle(client: End, pod: End) -> None:
    """Wait until a connection has ended; end it when nobody has said anything for long."""
    loop = asyncio.get_running_loop()
    try:
        while not pod.lost.done():
            left = max(client.heard_at or 0.0, pod.heard_at or 0.0) + _IDLE - loop.time()
            if left <= 0:
                return
            await asyncio.wait({pod.lost}, timeout=left)
    finally:
        client.close()
        pod.close()
