"""The memory of a pool: makes room for a model, and unloads others; `loading.py` and `pool.py` ask.

Which models go is decided in `eviction.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from model_server.errors import ModelNotReady
from model_server.pool.entry import Entry
from model_server.pool.eviction import SPARE, Resident, Room, expected_bytes, make_room
from model_server.pool.memory import own_bytes
from model_server.pool.process import ProcessEnded, WorkerProcess
from model_server.pool.processes import Processes
from model_server.pool.telemetry import PoolTelemetry
from model_server.pool.wire import NotLoaded, Unload

log = logging.getLogger(__name__)

#: Between two looks for room while all loaded models are busy.
WAIT_SECONDS = 0.05
_TOO_LARGE = "Raise the memory budget of the pool, or serve this model by a ModelDeployment."


def too_large(message: str) -> NotLoaded:
    """What becomes of a model that no budget of this pool holds."""
    return NotLoaded("ModelTooLarge", message, _TOO_LARGE, True)


def mebibytes(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    return f"{count / 2**20:.0f} MiB"


class MemoryBudget:
    """What the pool holds in memory, within a budget of bytes. `entries` are all models by their numbers."""

    def __init__(
        self,
        entries: Mapping[int, Entry],
        processes: Processes,
        telemetry: PoolTelemetry,
        *,
        budget: int,
        timeout_seconds: float,
    ) -> None:
        self.budget = budget
        self._entries = entries
        self._processes = processes
        self._telemetry = telemetry
        self._timeout = timeout_seconds
        #: One load at a time looks for room.
        self._admission = asyncio.Lock()
        #: What loads that are under way will need.
        self._reserved: dict[int, int] = {}

    @property
    def used_bytes(self) -> int:
        """Memory of all processes, and what loads under way will need."""
        processes = sum(one.own_bytes for one in self._processes.alive)
        return own_bytes() + processes + sum(self._reserved.values())

    async def make_room_for(self, entry: Entry) -> None:
        """Unload others until the model fits. Raises ModelNotReady when all that could go are busy."""
        is_told = False
        deadline = time.monotonic() + self._timeout
        while True:
            async with self._admission:
                residents = [one.resident for one in self._loaded_entries()]
                needed = expected_bytes(entry.bytes, residents)
                room = self._room(residents, needed)
                await self._evict(room.evict)
                if not room.is_enough and not residents and not self._reserved:
                    # What freed models have left in pieces: a new process has none of it.
                    await self._processes.renew()
                if room.is_enough or not residents:
                    # With nothing else in memory it is tried: `fit` measures what it really needs.
                    self._reserved[entry.number] = needed
                    return
            if not is_told:
                is_told = True
                self._telemetry.over_budget()
                log.warning("no room: all loaded models are busy", extra={"model": entry.name, "missing": room.missing})
            if time.monotonic() > deadline:
                self._telemetry.refused(entry.name, "memory")
                missing = mebibytes(room.missing)
                raise ModelNotReady(
                    f"model {entry.name!r} does not fit: {missing} are missing, and all others are busy",
                    hint="Try again after a moment; a larger budget, or more replicas, end this.",
                )
            await asyncio.sleep(WAIT_SECONDS)

    async def fit(self, entry: Entry) -> None:
        """Unload others if the model needs more than was expected, and the model itself if it alone is too large."""
        async with self._admission:
            others = [one.resident for one in self._loaded_entries() if one is not entry]
            room = self._room(others, 0)
            await self._evict(room.evict)
            used = self.used_bytes
            if used <= self.budget or any(one.is_busy for one in others):
                return
            if any(one.is_loaded for one in self._loaded_entries() if one is not entry):
                return
            await self.unload(entry)
        self._telemetry.over_budget()
        # Server and libraries count too, and stay: a budget below them holds no model of any size.
        rest = f"{mebibytes(self.used_bytes)} of them without any model"
        entry.failed(
            too_large(
                f"with it alone the pool holds {mebibytes(used)}, {rest}, and its budget is {mebibytes(self.budget)}"
            )
        )

    def release(self, entry: Entry) -> None:
        """Its load is over: what it needs is measured from now on."""
        self._reserved.pop(entry.number, None)

    @property
    def is_making_room(self) -> bool:
        """Whether a load looks for room, which sees to it that the budget is kept."""
        return self._admission.locked()

    def _loaded_entries(self) -> list[Entry]:
        return [one for one in self._entries.values() if one.is_loaded]

    def _room(self, residents: Sequence[Resident], needed: int) -> Room:
        return make_room(residents, used=self.used_bytes, needed=needed, budget=self.budget, spare=SPARE)

    async def _evict(self, numbers: tuple[int, ...]) -> None:
        entries = [self._entries[number] for number in numbers]
        idle = [entry for entry in entries if entry.in_flight == 0]
        for entry in idle:
            self._telemetry.evicted(entry.name)
        await self.unload(*idle)

    async def unload(self, *entries: Entry) -> None:
        """Unload models; those that ended with their process are gone already."""
        by_process: dict[WorkerProcess, list[int]] = {}
        for entry in entries:
            process, entry.process = entry.process, None
            if process is not None and not process.has_ended:
                by_process.setdefault(process, []).append(entry.number)
        asked = (process.ask(Unload(tuple(numbers))) for process, numbers in by_process.items())
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, ProcessEnded):
                raise outcome

    async def shrink(self) -> None:
        """Models grow while they answer: unload what is over the budget."""
        async with self._admission:
            residents = [one.resident for one in self._loaded_entries()]
            room = self._room(residents, 0)
            await self._evict(room.evict)
