"""The worker processes of a pool: which one a model belongs to, and a new one for each that ended; for `pool.py`."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from model_server.errors import InternalError
from model_server.pool.entry import Entry
from model_server.pool.process import ProcessEnded, WorkerProcess
from model_server.pool.wire import Check

log = logging.getLogger(__name__)

_ISOLATION = -1


class Processes:
    """`count` processes of models that are trusted, and one of suspects while there are any."""

    def __init__(
        self, environ: Mapping[str, str], folder: Path, count: int, on_end: Callable[[WorkerProcess, bool], None]
    ) -> None:
        self._environ = environ
        self._folder = folder
        self._count = count
        self._on_end = on_end
        self._places: dict[int, WorkerProcess] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._unwanted: set[WorkerProcess] = set()
        self._is_closing = False

    @property
    def alive(self) -> list[WorkerProcess]:
        """Those that run."""
        return [one for one in self._places.values() if not one.has_ended]

    async def begin(self) -> None:
        """Start those of trusted models."""
        started = await asyncio.gather(*(self._at(place) for place in range(self._count)))
        try:
            await asyncio.gather(*(one.ask(Check()) for one in started))
        except ProcessEnded:
            raise InternalError("a process of the pool does not start") from None

    async def of(self, entry: Entry) -> WorkerProcess:
        """The process that the model belongs to, started anew where it has ended."""
        # The same after a restart, and whatever else is in the list.
        place = _ISOLATION if entry.is_isolated else zlib.crc32(entry.name.encode()) % self._count
        return await self._at(place)

    async def _at(self, place: int) -> WorkerProcess:
        async with self._locks.setdefault(place, asyncio.Lock()):
            found = self._places.get(place)
            if found is None or found.has_ended:
                if self._is_closing:
                    raise InternalError("the pool is shutting down")
                folder = self._folder / f"process-{place % (self._count + 1)}"
                is_isolated = place == _ISOLATION
                found = await WorkerProcess.start(
                    self._environ,
                    folder,
                    lambda process: self._ended(process, is_isolated=is_isolated),
                    is_isolated=is_isolated,
                )
                log.info("process started", extra={"pid": found.pid, "isolated": is_isolated})
                self._places[place] = found
            return found

    def _ended(self, process: WorkerProcess, *, is_isolated: bool) -> None:
        if not self._is_closing and process not in self._unwanted:
            self._on_end(process, is_isolated)
        self._unwanted.discard(process)

    async def renew(self) -> bool:
        """End the processes that have had models; whether there were any. For when memory is short and none has one."""
        used = [one for one in self.alive if one.is_used]
        self._unwanted.update(used)
        await asyncio.gather(*(one.close() for one in used))
        return bool(used)

    async def close(self) -> None:
        """End them all."""
        self._is_closing = True
        await asyncio.gather(*(one.close() for one in self._places.values()))
