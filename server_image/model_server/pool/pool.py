"""The pool: gives each request to the process that has its model, which `loading.py` brings to memory; for `front.py`.

`budget.py` makes room and `watching.py` looks at the processes; all decisions are in `eviction.py` and `quarantine.py`.
Everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from msgspec import structs

from model_server.errors import DeadlineExceeded, ModelNotReady, Overloaded
from model_server.pool.budget import MemoryBudget
from model_server.pool.catalog import Catalog
from model_server.pool.entry import Entry, State
from model_server.pool.loading import Loader
from model_server.pool.process import ProcessEnded
from model_server.pool.processes import Processes
from model_server.pool.quarantine import after_answer, released
from model_server.pool.settings import DOWNLOADS, PoolSettings
from model_server.pool.telemetry import PoolTelemetry
from model_server.pool.watching import Watcher
from model_server.pool.wire import Answered, Call, Describe, Document, Refused, error_of

log = logging.getLogger(__name__)

#: How often a request is given to a process again when the process ended or the model was just unloaded.
ATTEMPTS = 4
#: A pool becomes ready after this time even if models that are loaded before are not.
PRELOAD_SECONDS = 120.0


class Pool:
    """The models of a list, of which some are in memory."""

    def __init__(
        self,
        catalog: Catalog,
        settings: PoolSettings,
        telemetry: PoolTelemetry,
        *,
        environ: Mapping[str, str],
        folder: Path,
        timeout_seconds: float,
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._telemetry = telemetry
        self._downloads = folder / DOWNLOADS
        self._timeout = timeout_seconds
        self._numbers = itertools.count(1)
        self._entries: dict[str, Entry] = {}
        #: Of models that are no longer listed, too, until they are unloaded.
        self._by_number: dict[int, Entry] = {}
        self._watcher = Watcher(self._by_number, telemetry, timeout_seconds=timeout_seconds)
        self._processes = Processes(environ, folder, settings.processes, self._watcher.ended)
        self._memory = MemoryBudget(
            self._by_number,
            self._processes,
            telemetry,
            budget=settings.memory_bytes,
            timeout_seconds=timeout_seconds,
        )
        self._loader = Loader(self._memory, self._processes, telemetry)
        self._tasks: set[asyncio.Task[None]] = set()

    # -- the list --------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Start the processes. Raises StartError."""
        self._take_over()
        await self._processes.begin()
        first = self.entries[: self._settings.preload]
        if first:
            # What cannot be loaded is told when it is asked for, and in the index.
            deadline = time.monotonic() + PRELOAD_SECONDS
            await asyncio.gather(*(self._loader.loaded(entry, deadline) for entry in first), return_exceptions=True)

    @property
    def entries(self) -> list[Entry]:
        """The models of the list."""
        return list(self._entries.values())

    @property
    def states(self) -> dict[str, int]:
        """How many models are in each state."""
        counts = Counter(entry.state for entry in self._entries.values())
        return {state.value: counts[state] for state in State}

    @property
    def failures(self) -> list[tuple[str, str]]:
        """The models that cannot be loaded or were put aside, with the reason of each."""
        return [(one.name, one.fault) for one in self._entries.values() if one.fault]

    @property
    def summary(self) -> str:
        """The pool in one sentence."""
        counts = Counter(entry.state for entry in self._entries.values())
        told = [f"{counts[state]} {state}" for state in (State.LOADED, State.FAILED, State.ASIDE) if counts[state]]
        said = f"a pool of {len(self._entries)} models: {', '.join(told) or 'none is loaded'}"
        return f"{said}; {self._catalog.fault}" if self._catalog.fault else said

    def entry(self, name: str) -> Entry:
        """A model of the list. Raises UnknownModel."""
        found = self._entries.get(name)
        if found is None:
            raise self._catalog.unknown(name)
        return found

    def find(self, name: str) -> Entry | None:
        """A model of the list, None for all others."""
        return self._entries.get(name)

    @property
    def memory(self) -> MemoryBudget:
        """What it holds, and may hold."""
        return self._memory

    @property
    def pids(self) -> list[int]:
        """The processes that hold models."""
        return [process.pid for process in self._processes.alive]

    def refresh(self) -> None:
        """Look whether the list has changed."""
        fault = self._catalog.fault
        if self._catalog.refresh():
            self._take_over()
        elif self._catalog.fault and self._catalog.fault != fault:
            log.error("%s; the models of the last list are served", self._catalog.fault)

    def _take_over(self) -> None:
        listed = self._catalog.models
        gone = [one for one in self._entries.values() if listed.get(one.name) != one.listed]
        for entry in gone:
            del self._entries[entry.name]
            self._do(self._retire(entry))
        new = [one for name, one in listed.items() if name not in self._entries]
        for one in new:
            entry = Entry(next(self._numbers), one)
            self._entries[one.name] = self._by_number[entry.number] = entry
        self._forget_downloads({one.sha256.lower() for one in listed.values()})
        log.info("list of models", extra={"models": len(listed), "new": len(new), "gone": len(gone)})

    def _forget_downloads(self, pins: set[str]) -> None:
        """Delete what the pool has downloaded for pins that are no longer listed; a shared cache is not its own."""
        for folder in self._downloads.glob("*/*"):
            if folder.name not in pins:
                shutil.rmtree(folder, ignore_errors=True)

    async def _retire(self, entry: Entry) -> None:
        """Unload a model that is no longer listed, when it has answered what it has."""
        await entry.idle.wait()
        await self._memory.unload(entry)
        self._by_number.pop(entry.number, None)

    # -- requests --------------------------------------------------------------------------------

    async def call(self, name: str, call: Call, *, deadline: float) -> Answered:
        """Answer a request. Raises RequestErrors."""
        entry = self.entry(name)
        most = entry.listed.concurrency or self._settings.model_concurrency
        if entry.in_flight >= most:
            self._telemetry.refused(name, "concurrency")
            raise Overloaded(
                f"{most} requests wait for model {name!r} already",
                hint="Try again after a moment; other models of this pool answer meanwhile.",
            )
        self._telemetry.looked_up(is_hit=entry.is_loaded)
        answered = await self._ask(entry, call, deadline)
        if entry.is_isolated:
            entry.record = after_answer(entry.record)
            if not entry.is_isolated:
                log.info("trusted again", extra={"model": name})
                self._do(self._leave_isolation(entry))
        return answered

    async def _leave_isolation(self, entry: Entry) -> None:
        """Unload it when it has answered what it has: it is loaded again among the others."""
        await entry.idle.wait()
        await self._memory.unload(entry)

    async def describe(self, name: str, version: str = "") -> bytes:
        """V2's metadata of a model, which is loaded for it. Raises UnknownModel for another version than its own."""
        entry, deadline = self.entry(name), time.monotonic() + self._timeout
        entry.require(version)
        described = await self._ask(entry, Describe(0), deadline)
        # Now it is known in any case.
        entry.require(version)
        return described.body

    async def document(self, name: str) -> bytes:
        """What the OpenAPI document says of a model, which is loaded for it."""
        described = await self._ask(self.entry(name), Document(0), time.monotonic() + self._timeout)
        return described.body

    async def load(self, name: str) -> None:
        """Load a model because somebody wants it loaded, also one that was put aside or has failed."""
        entry = self.entry(name)
        entry.record, entry.failure = released(entry.record), None
        await self._loader.loaded(entry, time.monotonic() + self._timeout)

    async def unload(self, name: str) -> None:
        """Unload a model when it has answered what it has; the next request loads it again."""
        entry = self.entry(name)
        try:
            await asyncio.wait_for(entry.idle.wait(), self._timeout)
        except TimeoutError:
            raise ModelNotReady(f"model {name!r} is busy: it is not unloaded") from None
        await self._memory.unload(entry)

    async def _ask(self, entry: Entry, question: Call | Describe | Document, deadline: float) -> Answered:
        entry.in_flight += 1
        entry.changed()
        entry.used_at = time.monotonic()
        waited = 0.0
        try:
            for _ in range(ATTEMPTS):
                began = time.monotonic()
                is_cold = not entry.is_loaded
                process = await self._loader.loaded(entry, deadline)
                waited += (time.monotonic() - began) * is_cold
                try:
                    # A little later than the process itself gives up.
                    async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic() + 1):
                        reply = await process.ask(structs.replace(question, number=entry.number))
                except ProcessEnded:
                    # A prediction changes nothing: it is asked for again.
                    continue
                except TimeoutError:
                    raise DeadlineExceeded(f"no prediction within {self._timeout:g} s") from None
                if isinstance(reply, Answered):
                    return _timed(reply, waited) if waited else reply
                if not isinstance(reply, Refused):
                    raise TypeError(f"unexpected {reply}")
                error = error_of(reply)
                if not isinstance(error, ModelNotReady):
                    raise error
            raise ModelNotReady(f"the process of model {entry.name!r} ended {ATTEMPTS} times", hint="Try again.")
        finally:
            entry.in_flight -= 1
            entry.changed()

    # -- time ------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """About a second has passed."""
        self.refresh()
        for process in self._processes.alive:
            self._do(self._watcher.check(process))
        used, budget = self._memory.used_bytes, self._memory.budget
        self._telemetry.observed(
            self.states, self.failures, used=used, budget=budget, is_list_wrong=bool(self._catalog.fault)
        )
        if used > budget and not self._memory.is_making_room:
            self._do(self._memory.shrink())

    def _do(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End the processes."""
        for task in self._tasks:
            task.cancel()
        await self._processes.close()


def _timed(answered: Answered, waited: float) -> Answered:
    """The answer with a header that tells how long the request waited for its model to be loaded."""
    # https://www.w3.org/TR/server-timing/
    header = (b"server-timing", b"load;dur=%.1f" % (waited * 1000))
    return structs.replace(answered, headers=[*answered.headers, header])
