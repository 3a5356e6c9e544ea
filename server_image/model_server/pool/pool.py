"""The pool: brings a model to memory when it is asked for, makes room for it, and gives it the request; for `front.py`.

All decisions are in `eviction.py` and `quarantine.py`. Everything here runs on one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from model_server.errors import (
    DeadlineExceeded,
    ModelNotReady,
    ModelPutAside,
    ModelUnloadable,
    Overloaded,
    PredictionError,
    RequestError,
)
from model_server.pool.catalog import Catalog
from model_server.pool.entry import Entry, Failure, State
from model_server.pool.eviction import SPARE, Resident, Room, expected_bytes, make_room, retry_after
from model_server.pool.memory import own_bytes
from model_server.pool.process import ProcessEnded, WorkerProcess
from model_server.pool.processes import Processes
from model_server.pool.quarantine import Standing, after_answer, after_death, released
from model_server.pool.settings import DOWNLOADS, PoolSettings
from model_server.pool.telemetry import PoolTelemetry
from model_server.pool.wire import (
    Answered,
    Call,
    Check,
    Describe,
    Load,
    Loaded,
    NotLoaded,
    Question,
    Refused,
    Unload,
    error_of,
)

log = logging.getLogger(__name__)

#: How often a request is given to a process again when the process ended or the model was just unloaded.
ATTEMPTS = 4
#: A pool becomes ready after this time even if models that are loaded before are not.
PRELOAD_SECONDS = 120.0
#: Between two looks for room while all loaded models are busy.
WAIT_SECONDS = 0.05
#: How far beyond its budget a load may take the pool, times the budget; others are unloaded when it is over.
MOST_OVER = 1.25
_TOO_LARGE = "Raise the memory budget of the pool, or serve this model by a ModelDeployment."
#: A process that does not answer a check for so many request timeouts has a call that holds its event loop.
SILENCE_FACTOR = 10


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
        self._processes = Processes(environ, folder, settings.processes, self._process_ended)
        self._entries: dict[str, Entry] = {}
        #: Of models that are no longer listed, too, until they are unloaded.
        self._by_number: dict[int, Entry] = {}
        #: One load at a time looks for room.
        self._admission = asyncio.Lock()
        #: What loads that are under way will need.
        self._reserved: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unanswered: dict[int, float] = {}

    # -- the list --------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Start the processes. Raises StartError."""
        self._take_over()
        await self._processes.begin()
        first = self.entries[: self._settings.preload]
        if first:
            # What cannot be loaded is told when it is asked for, and in the index.
            deadline = time.monotonic() + PRELOAD_SECONDS
            await asyncio.gather(*(self._loaded(entry, deadline) for entry in first), return_exceptions=True)

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
        await self._unload(entry)
        self._by_number.pop(entry.number, None)

    # -- requests --------------------------------------------------------------------------------

    async def call(self, name: str, call: Call, *, deadline: float) -> Answered:
        """Answer a request. Raises RequestErrors."""
        entry = self.entry(name)
        if entry.in_flight >= self._settings.model_concurrency:
            self._telemetry.refused(name, "concurrency")
            raise Overloaded(
                f"{self._settings.model_concurrency} requests wait for model {name!r} already",
                hint="Try again after a moment; other models of this pool answer meanwhile.",
            )
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
        await self._unload(entry)

    async def describe(self, name: str) -> bytes:
        """V2's metadata of a model, which is loaded for it."""
        question, deadline = Describe(0), time.monotonic() + self._timeout
        return (await self._ask(self.entry(name), question, deadline)).body

    async def load(self, name: str) -> None:
        """Load a model because somebody wants it loaded, also one that was put aside or has failed."""
        entry = self.entry(name)
        entry.record, entry.failure = released(entry.record), None
        await self._loaded(entry, time.monotonic() + self._timeout)

    async def unload(self, name: str) -> None:
        """Unload a model when it has answered what it has; the next request loads it again."""
        entry = self.entry(name)
        try:
            await asyncio.wait_for(entry.idle.wait(), self._timeout)
        except TimeoutError:
            raise ModelNotReady(f"model {name!r} is busy: it is not unloaded") from None
        await self._unload(entry)

    async def _ask(self, entry: Entry, question: Call | Describe, deadline: float) -> Answered:
        entry.in_flight += 1
        entry.changed()
        entry.used_at = time.monotonic()
        waited = 0.0
        try:
            for _ in range(ATTEMPTS):
                began = time.monotonic()
                is_cold = not entry.is_loaded
                process = await self._loaded(entry, deadline)
                waited += (time.monotonic() - began) * is_cold
                try:
                    # A little later than the process itself gives up.
                    async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic() + 1):
                        reply = await process.ask(_numbered(question, entry.number))
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

    # -- loading ---------------------------------------------------------------------------------

    async def _loaded(self, entry: Entry, deadline: float) -> WorkerProcess:
        """The process that has the model in memory. Raises what says why none has."""
        while not (entry.is_loaded and entry.process is not None):
            self._refuse_hopeless(entry)
            if entry.loading is None:
                entry.loading = asyncio.create_task(self._load(entry), name="load")
                entry.changed()
            try:
                seconds = max(deadline - time.monotonic(), 0)
                error = await asyncio.wait_for(asyncio.shield(entry.loading), seconds)
            except TimeoutError:
                self._telemetry.refused(entry.name, "loading")
                raise ModelNotReady(
                    f"model {entry.name!r} is being loaded, which takes longer than a request may wait",
                    hint="Try again: loading goes on.",
                ) from None
            if error is not None:
                raise error
        return entry.process

    def _refuse_hopeless(self, entry: Entry) -> None:
        if entry.record.standing is Standing.ASIDE:
            self._telemetry.refused(entry.name, "aside")
            raise ModelPutAside(f"model {entry.name!r} is put aside: {entry.record.reason}")
        failure = entry.failure
        if failure is not None and time.monotonic() < failure.until:
            self._telemetry.refused(entry.name, "failed")
            raise ModelUnloadable(
                f"model {entry.name!r} cannot be loaded: {failure.reason}: {failure.message}", hint=failure.hint
            )

    async def _load(self, entry: Entry) -> RequestError | None:
        """Load it; the error for those who wait, None where they may look for themselves how it went."""
        began, outcome = time.monotonic(), "process-ended"
        try:
            await self._make_room(entry)
            process = await self._processes.of(entry)
            watching = asyncio.create_task(self._watch_memory(process, entry), name="memory")
            try:
                reply = await process.ask(Load(entry.number, entry.listed))
            finally:
                watching.cancel()
            if isinstance(reply, Loaded):
                outcome = "loaded"
                entry.process, entry.version, entry.failure = process, reply.version, None
                entry.bytes = max(reply.bytes, entry.bytes if not reply.bytes else 0)
                self._reserved.pop(entry.number, None)
                seconds = round(time.monotonic() - began, 3)
                log.info("loaded", extra={"model": entry.name, "version": entry.version, "seconds": seconds})
                await self._fit(entry)
            elif isinstance(reply, NotLoaded):
                outcome = "failed"
                self._failed(entry, reply)
        except ProcessEnded:
            return None  # `_process_ended` has judged it
        except RequestError as error:
            outcome = "no-room"
            return error
        except Exception:
            log.exception("loading failed", extra={"model": entry.name})
            outcome = "failed"
            return PredictionError("the server failed to load this model")
        else:
            return None
        finally:
            self._reserved.pop(entry.number, None)
            entry.loading = None
            entry.changed()
            self._telemetry.loaded(entry.name, outcome, time.monotonic() - began)

    def _failed(self, entry: Entry, reply: NotLoaded) -> None:
        count = 1 if entry.failure is None else entry.failure.count + 1
        seconds = retry_after(count, is_permanent=reply.is_permanent)
        entry.failure = Failure(
            reason=reply.reason,
            message=reply.message,
            hint=reply.hint,
            until=time.monotonic() + seconds,
            count=count,
        )
        log.error("%s: %s", reply.reason, reply.message, extra={"model": entry.name, "hint": reply.hint})

    # -- memory ----------------------------------------------------------------------------------

    @property
    def used_bytes(self) -> int:
        """Memory of all processes, and what loads under way will need."""
        processes = sum(one.own_bytes for one in self._processes.alive)
        return own_bytes() + processes + sum(self._reserved.values())

    async def _make_room(self, entry: Entry) -> None:
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
                    # With nothing else in memory it is tried: `_fit` measures what it really needs.
                    self._reserved[entry.number] = needed
                    return
            if not is_told:
                is_told = True
                self._telemetry.over_budget()
                log.warning("no room: all loaded models are busy", extra={"model": entry.name, "missing": room.missing})
            if time.monotonic() > deadline:
                self._telemetry.refused(entry.name, "memory")
                raise ModelNotReady(
                    f"model {entry.name!r} does not fit: {room.missing} bytes are missing, and all others are busy",
                    hint="Try again after a moment; a larger budget, or more replicas, end this.",
                )
            await asyncio.sleep(WAIT_SECONDS)

    async def _fit(self, entry: Entry) -> None:
        """Unload others if the model needs more than was expected, and the model itself if it alone is too large."""
        async with self._admission:
            others = [one.resident for one in self._loaded_entries() if one is not entry]
            budget = self._settings.memory_bytes
            room = self._room(others, 0)
            await self._evict(room.evict)
            used = self.used_bytes
            if used <= budget or any(one.is_busy for one in others):
                return
            if any(one.is_loaded for one in self._loaded_entries() if one is not entry):
                return
            await self._unload(entry)
        self._telemetry.over_budget()
        message = f"with it alone the pool holds {used} bytes, and its budget is {budget}"
        self._failed(entry, NotLoaded("ModelTooLarge", message, _TOO_LARGE, True))

    async def _watch_memory(self, process: WorkerProcess, entry: Entry) -> None:
        """End a process that a load takes far beyond the budget: else the kernel ends the whole container."""
        budget = self._settings.memory_bytes
        most = int(budget * MOST_OVER)
        while True:
            used = self.used_bytes
            if used > most:
                break
            await asyncio.sleep(WAIT_SECONDS)
        message = f"while it was loaded the pool held {used} bytes, and its budget is {budget}"
        self._failed(entry, NotLoaded("ModelTooLarge", message, _TOO_LARGE, True))
        self._telemetry.over_budget()
        process.is_condemned = True
        process.kill()

    def _loaded_entries(self) -> list[Entry]:
        return [one for one in self._by_number.values() if one.is_loaded]

    def _room(self, residents: Sequence[Resident], needed: int) -> Room:
        budget = self._settings.memory_bytes
        return make_room(residents, used=self.used_bytes, needed=needed, budget=budget, spare=SPARE)

    async def _evict(self, numbers: tuple[int, ...]) -> None:
        entries = [self._by_number[number] for number in numbers]
        idle = [entry for entry in entries if entry.in_flight == 0]
        for entry in idle:
            self._telemetry.evicted(entry.name)
        await self._unload(*idle)

    async def _unload(self, *entries: Entry) -> None:
        by_process: dict[WorkerProcess, list[int]] = {}
        for entry in entries:
            process, entry.process = entry.process, None
            if process is not None and not process.has_ended:
                by_process.setdefault(process, []).append(entry.number)
        asked = (process.ask(Unload(tuple(numbers))) for process, numbers in by_process.items())
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, ProcessEnded):
                raise outcome

    # -- processes -------------------------------------------------------------------------------

    def _process_ended(self, process: WorkerProcess, is_isolated: bool) -> None:
        """Judge the models that were computing, and forget what the process had in memory."""
        computing = [self._by_number[number] for number in process.computing if number in self._by_number]
        for entry in self._by_number.values():
            if entry.process is process:
                entry.process = None
        for entry in computing if not process.is_condemned else ():
            is_alone = is_isolated and len(computing) == 1
            entry.record = after_death(entry.record, is_alone=is_alone, how=process.how)
        names = [entry.name for entry in computing]
        self._telemetry.process_ended(names)
        log.error(
            "a process ended by %s",
            process.how,
            extra={"computing": names, "aside": [one.name for one in computing if one.state is State.ASIDE]},
        )

    async def tick(self) -> None:
        """About a second has passed."""
        self.refresh()
        for process in self._processes.alive:
            self._do(self._check(process))
        states = self.states
        used, budget = self.used_bytes, self._settings.memory_bytes
        self._telemetry.observed(
            states, self.failures, used=used, budget=budget, is_list_wrong=bool(self._catalog.fault)
        )
        if used > budget and not self._admission.locked():
            self._do(self._shrink())

    async def _shrink(self) -> None:
        """Models grow while they answer: unload what is over the budget."""
        async with self._admission:
            residents = [one.resident for one in self._loaded_entries()]
            room = self._room(residents, 0)
            await self._evict(room.evict)

    async def _check(self, process: WorkerProcess) -> None:
        """End a process with a call that does not return, so that the board names the model."""
        if process.pid in self._unanswered:
            if time.monotonic() - self._unanswered[process.pid] > SILENCE_FACTOR * self._timeout:
                log.error("a process does not answer", extra={"pid": process.pid})
                process.kill()
            return
        self._unanswered[process.pid] = time.monotonic()
        try:
            reply = await process.ask(Check())
            if getattr(reply, "numbers", ()):
                log.error("a call of a model does not return", extra={"pid": process.pid})
                process.kill()
        except ProcessEnded:
            return
        finally:
            self._unanswered.pop(process.pid, None)

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
    return Answered(answered.body, answered.content_type, [*answered.headers, header])


def _numbered(question: Call | Describe, number: int) -> Question:
    if isinstance(question, Describe):
        return Describe(number)
    return Call(
        number, question.version, question.codec, question.path, question.identifier, question.headers, question.body
    )
