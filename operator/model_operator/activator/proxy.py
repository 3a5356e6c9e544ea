"""Takes requests on the ports of models, and passes them on to ready pods.

A body is not read before a pod is there: it waits in the client and in the buffers of its connection, so that a request
that is held costs kilobytes, whatever its size. Each answer closes its connection, so that the client's next one goes
to a pod directly.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from model_operator.activator.line import CannotStart, Line, LineFull
from model_operator.activator.metrics import Metrics, Outcome
from model_operator.activator.table import Table

#: Fields that belong to one connection (RFC 9110, 7.6.1).
_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)
_CONNECT_SECONDS = 5.0
#: Seconds before another pod is tried after one that could not be reached.
_AGAIN = 0.1
_ADDED_BY_CLIENT = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


class Refused(Exception):
    """A request that no pod answers: the outcome, and a sentence for the client."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome, self.message = outcome, message


class Proxy:
    """Answers requests; `session` belongs to the event loop. `most_held` bounds what waits, for all models."""

    def __init__(
        self, table: Table, metrics: Metrics, session: aiohttp.ClientSession, *, hold_seconds: float, most_held: int
    ) -> None:
        self._table, self._metrics, self._session = table, metrics, session
        self._hold_seconds, self._most_held = hold_seconds, most_held

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        line = self._table.line(_port_of(request))
        if line is None:
            return _unavailable("no model has this port")
        outcome = Outcome.GONE
        try:
            response = await self._answer(request, line)
            outcome = Outcome.ANSWERED
            return response
        except Refused as error:
            outcome = error.outcome
            return _unavailable(error.message)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            outcome = Outcome.GONE if request.transport is None else Outcome.BROKEN
            if request.writer.output_size:
                raise  # the answer has begun: the end of the connection tells that it is not whole
            return _refusal(502, f"the pod did not answer: {error or type(error).__name__}")
        finally:
            route = line.route
            self._metrics.ended(route.namespace, route.name, outcome)
            self._metrics.held(route.namespace, route.name, line.held)

    async def _answer(self, request: web.BaseRequest, line: Line) -> web.StreamResponse:
        if self._table.held >= self._most_held:
            raise Refused(Outcome.LIMITED, f"{self._most_held} requests wait for models already")
        deadline = time.monotonic() + self._hold_seconds
        while True:
            backend = await self._enter(line, deadline)
            try:
                return await self._forward(request, backend)
            except aiohttp.ClientConnectorError:
                pass  # nothing was sent: the pod is ending, or its node does not answer
            finally:
                line.leave(backend)
            await asyncio.sleep(_AGAIN)

    async def _enter(self, line: Line, deadline: float) -> str:
        waiting = asyncio.create_task(line.enter())
        await asyncio.sleep(0)
        self._metrics.held(line.route.namespace, line.route.name, line.held)
        try:
            return await asyncio.wait_for(waiting, max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            message = f"the model slept, and no pod of it was ready within {self._hold_seconds:g} s"
            raise Refused(Outcome.TIMEOUT, message) from None
        except LineFull as error:
            raise Refused(Outcome.LIMITED, str(error)) from None
        except CannotStart as error:
            raise Refused(Outcome.FAILED, f"the model cannot start: {error}") from None

    async def _forward(self, request: web.BaseRequest, backend: str) -> web.StreamResponse:
        """Pass a request on, and its answer back, piece by piece."""
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        async with self._session.request(
            request.method,
            URL(backend + request.raw_path, encoded=True),
            headers=_passed(request.raw_headers),
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
            ssl=False,
        ) as answer:
            response = web.StreamResponse(
                status=answer.status, reason=answer.reason, headers=_passed(answer.raw_headers)
            )
            response.headers["Connection"] = "close"
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response


def session() -> aiohttp.ClientSession:
    """Make a session for pods. It adds nothing to a request, and opens a connection for each: none is half dead."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_ADDED_BY_CLIENT,
        auto_decompress=False,
    )


def _passed(headers: Iterable[tuple[bytes, bytes]]) -> CIMultiDict[str]:
    """Return the fields that are passed on, in their order."""
    fields = [(name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in headers]
    named = {
        word.strip().lower() for name, value in fields if name.lower() == "connection" for word in value.split(",")
    }
    return CIMultiDict((name, value) for name, value in fields if name.lower() not in _HOP | named)


def _unavailable(message: str) -> web.Response:
    return _refusal(503, message, {"Retry-After": "5"})


def _refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": message}, status=status, headers={"Connection": "close", **(headers or {})})


def _port_of(request: web.BaseRequest) -> int:
    """Return the port at which a request came in."""
    address = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return int(address[1]) if address else 0
