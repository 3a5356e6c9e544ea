"""The port of a server that a supervisor started: open when the supervisor says so, closed at once by the drain.

The listening socket is the supervisor's, and the next server's too. Connections that nobody has accepted wait in it, so
that none is lost while one server follows another.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import uvicorn

Connect = Callable[[], asyncio.Protocol]


class Port(Protocol):
    """How clients come in."""

    async def look(self, config: uvicorn.Config, connect: Connect) -> None:
        """A tenth of a second has passed."""

    def close(self) -> None:
        """Accept no more connections."""


class OwnPort:
    """A port that uvicorn opens and closes."""

    async def look(self, config: uvicorn.Config, connect: Connect) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Connections that still come are answered until uvicorn ends."""


class HeldPort:
    """A socket that accepts nothing while the file `hold` is there."""

    def __init__(self, listener: socket.socket, hold: Path) -> None:
        self._listener = listener
        self._hold = hold
        self._server: asyncio.Server | None = None
        self._is_closed = False

    async def look(self, config: uvicorn.Config, connect: Connect) -> None:
        """Begin to accept once the file is gone."""
        if self._server is not None or self._is_closed or self._hold.exists():
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(connect, sock=self._listener, ssl=config.ssl, backlog=config.backlog)

    def close(self) -> None:
        """Leave what waits in the socket to the next server."""
        self._is_closed = True
        if self._server is not None:
            self._server.close()
