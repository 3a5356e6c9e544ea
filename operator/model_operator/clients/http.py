"""What every client that asks over HTTP has: a session while it is entered, and answers that are read whole."""

from collections.abc import Callable
from typing import Self

import aiohttp

#: How long an idle connection is kept: less than a server keeps it (75 s), so that it never closes one under a request.
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
        auto_decompress=False,
    )


class HttpClient:
    """Holds the session that `make` makes; use it as an async context manager, since sessions belong to a loop."""

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
        """The session of a client that has been entered."""
        if self._session is None:
            raise RuntimeError(f"{type(self).__name__} has to be entered before it is used")
        return self._session


async def body_of(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the whole body, cut after `limit` bytes; one `read` of a stream gives what has arrived by then."""
    pieces, size = [], 0
    while size < limit and (piece := await response.content.read(limit - size)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
