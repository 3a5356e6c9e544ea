"""A model of the list as the front knows it: where it is loaded, what it needs, and what is thought of it."""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from dataclasses import dataclass, field
from typing import Literal

from model_server.errors import RequestError, UnknownModel
from model_server.pool.catalog import ListedModel
from model_server.pool.eviction import Resident, retry_after
from model_server.pool.process import WorkerProcess
from model_server.pool.quarantine import Record, Standing
from model_server.pool.wire import NotLoaded

log = logging.getLogger(__name__)


class State(enum.StrEnum):
    """Where a model is, as `/v2/repository/index` and the metrics say it."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"
    ASIDE = "aside"


#: A state in the words of V2's repository API; what is UNAVAILABLE without a reason is loaded when it is asked for.
V2State = Literal["READY", "LOADING", "UNAVAILABLE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why the last load did not succeed, and until when it is not tried again."""

    reason: str
    message: str
    hint: str
    until: float
    count: int


@dataclass(slots=True, eq=False)
class Entry:
    """One model. `number` is its own for ever: a changed entry of the list is another one."""

    number: int
    listed: ListedModel
    process: WorkerProcess | None = None
    #: What it needed when it was last loaded, 0 while that is not known.
    bytes: int = 0
    version: str = ""
    used_at: float = 0.0
    in_flight: int = 0
    #: The load that is under way, which gives the error for those who wait.
    loading: asyncio.Task[RequestError | None] | None = None
    failure: Failure | None = None
    record: Record = field(default_factory=Record)
    #: Set while it has no request and is not being loaded: then it can be unloaded.
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()

    def changed(self) -> None:
        """`in_flight` or `loading` is another."""
        if self.in_flight or self.loading is not None:
            self.idle.clear()
        else:
            self.idle.set()

    def failed(self, reply: NotLoaded) -> None:
        """It could not be loaded, and is not tried again for a while."""
        count = 1 if self.failure is None else self.failure.count + 1
        seconds = retry_after(count, is_permanent=reply.is_permanent)
        until = time.monotonic() + seconds
        self.failure = Failure(reason=reply.reason, message=reply.message, hint=reply.hint, until=until, count=count)
        log.error("%s: %s", reply.reason, reply.message, extra={"model": self.name, "hint": reply.hint})

    @property
    def name(self) -> str:
        """Its name in paths."""
        return self.listed.name

    @property
    def is_loaded(self) -> bool:
        """Whether a process that lives has it in memory."""
        return self.process is not None and not self.process.has_ended

    @property
    def is_isolated(self) -> bool:
        """Whether it has to be alone."""
        return self.record.standing is Standing.SUSPECT

    @property
    def state(self) -> State:
        """Where it is."""
        if self.record.standing is Standing.ASIDE:
            return State.ASIDE
        if self.is_loaded:
            return State.LOADED
        if self.loading is not None:
            return State.LOADING
        return State.UNLOADED if self.failure is None else State.FAILED

    @property
    def answers(self) -> bool:
        """Whether a request is answered, which may load it first."""
        return self.state not in (State.FAILED, State.ASIDE)

    @property
    def v2_state(self) -> V2State:
        """Where it is, in the words of the repository API."""
        return (
            "READY" if self.is_loaded and self.answers else "LOADING" if self.state is State.LOADING else "UNAVAILABLE"
        )

    @property
    def shown_version(self) -> str:
        """Its version, which may be known only when it has been loaded."""
        return self.version or self.listed.version

    def require(self, version: str) -> None:
        """Raise UnknownModel for another version than its own, where one is asked for and its own is known."""
        own = self.shown_version
        if version and own and version != own:
            raise UnknownModel(
                f"version {version!r} of model {self.name!r} is not served here", hint=f"This pool serves {own!r}."
            )

    @property
    def reason(self) -> str:
        """Why it does not answer, "" where it does or would."""
        if self.record.standing is Standing.ASIDE:
            return f"put aside: {self.record.reason}"
        return "" if self.failure is None else f"{self.failure.reason}: {self.failure.message}"

    @property
    def fault(self) -> str:
        """The reason as one word, "" where it answers or would."""
        if self.record.standing is Standing.ASIDE:
            return "ModelPutAside"
        return "" if self.failure is None else self.failure.reason

    @property
    def resident(self) -> Resident:
        """It as eviction sees it."""
        return Resident(number=self.number, bytes=self.bytes, used_at=self.used_at, is_busy=self.in_flight > 0)
