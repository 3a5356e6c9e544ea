"""What a pool says of itself: sums for the operator, and a line for each model for people (docs/wire.md).

A page of metrics of a thousand models is a megabyte.
"""

from __future__ import annotations

import time

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from model_server.auth import Authenticator
from model_server.http.keys import required_key
from model_server.pool.entry import Entry, State
from model_server.pool.pool import Pool
from model_server.pool.telemetry import MOST_FAILURES, PoolTelemetry


class _Said(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class PooledFailure(_Said):
    """A model that cannot be loaded or was put aside."""

    name: str
    reason: str


class PoolState(_Said):
    """How many models are in each state, some of those that failed, and what has happened since the pool began."""

    models: dict[str, int]
    failures: list[PooledFailure]
    memory_bytes: int
    budget_bytes: int
    hits: int
    misses: int
    evictions: int
    over_budget: int
    process_ends: int


class ModelState(_Said):
    """One model. `bytes` is what it took to load, 0 where that is not known; `idle_seconds` since its last request."""

    name: str
    version: str
    state: State
    reason: str
    bytes: int
    in_flight: int
    idle_seconds: float | None


def create_router(pool: Pool, telemetry: PoolTelemetry, guard: Authenticator) -> APIRouter:
    """The routes; `guard` lets requests for the metrics in."""
    router = APIRouter(dependencies=required_key(guard))

    @router.get("/pool")
    async def state() -> PoolState:
        sums = telemetry.sums
        return PoolState(
            models=pool.states,
            failures=[PooledFailure(name=name, reason=reason) for name, reason in pool.failures[:MOST_FAILURES]],
            memory_bytes=pool.memory.used_bytes,
            budget_bytes=pool.memory.budget,
            hits=sums.hits,
            misses=sums.misses,
            evictions=sums.evictions,
            over_budget=sums.over_budget,
            process_ends=sums.process_ends,
        )

    @router.get("/pool/models")
    async def models() -> list[ModelState]:
        now = time.monotonic()
        return [_state_of(entry, now) for entry in pool.entries]

    return router


def _state_of(entry: Entry, now: float) -> ModelState:
    return ModelState(
        name=entry.name,
        version=entry.shown_version,
        state=entry.state,
        reason=entry.reason,
        bytes=entry.bytes if entry.is_loaded else 0,
        in_flight=entry.in_flight,
        idle_seconds=round(now - entry.used_at, 1) if entry.used_at else None,
    )
