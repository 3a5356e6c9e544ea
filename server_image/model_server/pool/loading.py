"""Brings a model of a pool to memory, once for all who wait for it; `pool.py` asks for each request."""

from __future__ import annotations

import asyncio
import logging
import time

from model_server.errors import ModelNotReady, ModelPutAside, ModelUnloadable, PredictionError, RequestError
from model_server.pool.budget import WAIT_SECONDS, MemoryBudget, mebibytes, too_large
from model_server.pool.entry import Entry
from model_server.pool.process import ProcessEnded, WorkerProcess
from model_server.pool.processes import Processes
from model_server.pool.quarantine import Standing
from model_server.pool.telemetry import PoolTelemetry
from model_server.pool.wire import Load, Loaded, NotLoaded

log = logging.getLogger(__name__)

#: How far beyond its budget a load may take the pool, times the budget; others are unloaded when it is over.
MOST_OVER = 1.25


class Loader:
    """Loads models, each by one task however many requests wait."""

    def __init__(self, memory: MemoryBudget, processes: Processes, telemetry: PoolTelemetry) -> None:
        self._memory = memory
        self._processes = processes
        self._telemetry = telemetry

    async def loaded(self, entry: Entry, deadline: float) -> WorkerProcess:
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
            await self._memory.make_room_for(entry)
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
                self._memory.release(entry)
                seconds = round(time.monotonic() - began, 3)
                log.info("loaded", extra={"model": entry.name, "version": entry.version, "seconds": seconds})
                await self._memory.fit(entry)
            elif isinstance(reply, NotLoaded):
                outcome = "failed"
                entry.failed(reply)
        except ProcessEnded:
            return None  # `watching.py` has judged it
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
            self._memory.release(entry)
            entry.loading = None
            entry.changed()
            self._telemetry.loaded(entry.name, outcome, time.monotonic() - began)

    async def _watch_memory(self, process: WorkerProcess, entry: Entry) -> None:
        """End a process that a load takes far beyond the budget: else the kernel ends the whole container."""
        budget = self._memory.budget
        most = int(budget * MOST_OVER)
        while True:
            used = self._memory.used_bytes
            if used > most:
                break
            await asyncio.sleep(WAIT_SECONDS)
        entry.failed(
            too_large(f"while it was loaded the pool held {mebibytes(used)}, and its budget is {mebibytes(budget)}")
        )
        self._telemetry.over_budget()
        process.is_condemned = True
        process.kill()
