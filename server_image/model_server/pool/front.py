"""What the routes of a pool call: keys, bodies, the pool, and what is counted of each request; for `app.py`."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from model_server.auth import Authenticator
from model_server.dataplane import Disconnected, log_refusal
from model_server.errors import RequestError, UnknownModel
from model_server.lifecycle import Lifecycle, Phase
from model_server.pool.codecs import name_of
from model_server.pool.pool import Pool
from model_server.pool.telemetry import PoolTelemetry
from model_server.pool.wire import Call, Reported
from model_server.protocols.payload import Answer, Payload
from model_server.statuses import CLIENT_GONE, STATUS_OF
from model_server.tracing import Tracer

_TARGET = re.compile(r"/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[^/:]+))?[/:][a-z]+$")


class PoolPlane:
    """The data plane of a pool: it has no model of its own, and hands each request to the process that has it."""

    #: No path is the pool's own: they all name a model.
    name = ""

    def __init__(
        self,
        pool: Pool,
        telemetry: PoolTelemetry,
        tracer: Tracer,
        authenticator: Authenticator,
        *,
        timeout_seconds: float,
    ) -> None:
        self.pool = pool
        self.authenticator = authenticator
        self.lifecycle = Lifecycle()
        self._telemetry = telemetry
        self._tracer = tracer
        self._timeout = timeout_seconds

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered."""
        return self.lifecycle.phase is Phase.READY

    def confirm(self) -> None:
        """Part of what a server's plane does: a pool does not wait for its first prediction."""

    async def call(
        self,
        codec: Any,
        read: Callable[[], Awaitable[Payload]],
        *,
        headers: Mapping[bytes, bytes],
        identifier: bytes,
        operation: str,
        path: str,
        started: float,
        target: tuple[str, str] | None = None,
    ) -> Answer:
        """Answer one request, as `DataPlane.call`. Raises RequestErrors only, or Disconnected."""
        model, version = target or _target_of(path)
        trace = self._tracer.begin(headers)
        code = CLIENT_GONE
        is_known = True
        try:
            self.authenticator.check(headers)
            payload = await read()
            call = Call(0, version, name_of(codec), path, identifier, list(headers.items()), payload.body)
            answered = await self.pool.call(model, call, deadline=time.monotonic() + self._timeout)
            code = 200
            return Answer(answered.body, answered.content_type, answered.headers)
        except RequestError as error:
            code = STATUS_OF[type(error)].http
            is_known = not isinstance(error, UnknownModel)
            if not isinstance(error.__cause__, Reported):
                log_refusal(error, code, identifier, path)
            raise
        except (Disconnected, asyncio.CancelledError):
            raise
        finally:
            trace.end(operation, code, began=started)
            # What nobody listed gets no series of its own.
            if is_known and (entry := self.pool.find(model)) is not None:
                self._telemetry.answered(model, entry.version, code, time.perf_counter() - started)


def _target_of(path: str) -> tuple[str, str]:
    """The model and version of a path that was answered before."""
    found = _TARGET.search(path)
    return (found["model"], found["version"] or "") if found else ("", "")
