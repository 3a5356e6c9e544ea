"""Base of the HTTP clients: a session with the lifetime of a context manager, and complete response bodies."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import aiohttp
import msgspec

#: Requests in flight to addresses that users of one namespace name, and to those of all.
OF_ONE, OF_ALL = 32, 1024
#: What decoding the JSON of a stranger raises where it is not in the form: text that is no UTF-8 is no DecodeError.
OTHER_FORM = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
#: Seconds to keep an idle connection: less than servers do (75 s), so that none closes one during a request.
KEPT_SECONDS = 60.0


def session_with_pods(timeout: float) -> aiohttp.ClientSession:
    """Make a session for pods; they are asked a few times a minute, and a kept connection saves making a new one.

    Nothing is unpacked: a pod that answers compressed although it was asked not to could make megabytes of a few bytes.
    """
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS)
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout),
        headers={"Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


def session_with_users(connector: aiohttp.BaseConnector, **options: Any) -> aiohttp.ClientSession:
    """Make a session for addresses that users name. It keeps no cookies.

    One session is for all of them, and a host may set cookies for its whole domain, such as `svc`: the servers of other
    teams would get them.
    """
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), **options)


class HttpClient:
    """Holds the session that `make` creates; use it as an async context manager, since a session belongs to a loop."""

    def __init__(self, make: Callable[[], aiohttp.ClientSession]) -> None:
        self._make = make
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = self._make()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """Session of the client inside its context manager."""
        if self._session is None:
            raise RuntimeError(f"{type(self).__name__} has to be entered before it is used")
        return self._session


async def body_of(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the whole body, truncated after `limit` bytes; a single `read` may return a part of it."""
    pieces, size = [], 0
    while size < limit and (piece := await response.content.read(limit - size)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


async def pieces_of(response: aiohttp.ClientResponse, limit: int) -> AsyncIterator[bytes]:
    """Yield the body as it arrives. Raises ValueError behind `limit` bytes."""
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > limit:
            raise ValueError(f"the answer has more than {limit} bytes")
        yield piece
