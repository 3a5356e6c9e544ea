"""Watches the worker processes of a pool: who is under suspicion when one ends, and which does not answer.

`processes.py` tells `ended`, and `pool.py` asks for `check` each second; what is thought of a model is decided in
`quarantine.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from model_server.pool.entry import Entry, State
from model_server.pool.process import ProcessEnded, WorkerProcess
from model_server.pool.quarantine import after_death
from model_server.pool.telemetry import PoolTelemetry
from model_server.pool.wire import Check

log = logging.getLogger(__name__)

#: A process that does not answer a check for so many request timeouts has a call that holds its event loop.
SILENCE_FACTOR = 10


class Watcher:
    """Judges the models of processes that end. `entries` are all models by their numbers."""

    def __init__(self, entries: Mapping[int, Entry], telemetry: PoolTelemetry, *, timeout_seconds: float) -> None:
        self._entries = entries
        self._telemetry = telemetry
        self._timeout = timeout_seconds
        #: When each process was asked that has not answered yet.
        self._unanswered: dict[int, float] = {}

    def ended(self, process: WorkerProcess, is_isolated: bool) -> None:
        """Judge the models that were computing, and forget what the process had in memory."""
        computing = [self._entries[number] for number in process.computing if number in self._entries]
        for entry in self._entries.values():
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

    async def check(self, process: WorkerProcess) -> None:
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
