"""Takes HTTP requests on the ports of models, and passes them on to ready pods.

A body is not read before a pod is there: it waits in the client and in the buffers of its connection, so that a request
that is held costs kilobytes, whatever its size. Each answer closes its connection, so that the client's next one goes
to a pod directly.
"""

from collections.abc import Iterable, Mapping

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from model_operator.activator.gate import CONNECT_SECONDS, Gate, Refused, Unreachable
from model_operator.activator.metrics import Outcome

#: Fields that belong to one connection (RFC 9110, 7.6.1).
_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)
_ADDED_BY_CLIENT = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


class Proxy:
    """Answers requests; `session` belongs to the event loop."""

    def __init__(self, gate: Gate, session: aiohttp.ClientSession) -> None:
        self._gate, self._session = gate, session

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        line = self._gate.line(_port_of(request))
        if line is None:
            return _unavailable("no model has this port")
        if request.method == "CONNECT" or not request.raw_path.startswith("/"):
            # Behind the address of a pod, `a@10.0.0.1:80` would make another address of it.
            return _refusal(400, "the target of the request is no path")
        try:
            with self._gate.counted(line) as ending:
                try:
                    response = await self._gate.pass_on(line, lambda backend: self._forward(request, backend))
                except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                    ending.outcome = Outcome.GONE if request.transport is None else Outcome.BROKEN
                    if request.writer.output_size:
                        raise  # the answer has begun: the end of the connection tells that it is not whole
                    return _refusal(502, f"the pod did not answer: {error or type(error).__name__}")
                ending.outcome = Outcome.ANSWERED
                return response
        except Refused as error:
            return _unavailable(error.message)

    async def _forward(self, request: web.BaseRequest, backend: str) -> web.StreamResponse:
        """Pass a request on, and its answer back, piece by piece."""
        if backend.startswith("https:"):
            return _refusal(400, "the model answers over HTTPS only: write https in place of http")
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        sending = self._session.request(
            request.method,
            URL(backend + request.raw_path, encoded=True),
            headers=_passed(request.raw_headers),
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        )
        try:
            answer = await sending
        except aiohttp.ClientConnectorError as error:
            raise Unreachable from error
        async with answer:
            response = web.StreamResponse(
                status=answer.status, reason=answer.reason, headers=_passed(answer.raw_headers)
            )
            response.force_close()
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response


def session() -> aiohttp.ClientSession:
    """Make a session for pods. It adds nothing to a request, and opens a connection for each: none is half dead."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
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
    response = web.json_response({"error": message}, status=status, headers=headers)
    response.force_close()
    return response


def _port_of(request: web.BaseRequest) -> int:
    """Return the port at which a request came in."""
    address = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return int(address[1]) if address else 0
