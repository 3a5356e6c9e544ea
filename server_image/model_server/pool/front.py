"""What the routes of a pool call: keys, bodies, the pool, and what is counted of each request; for `app.py`."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from model_server.auth import Authenticator
from model_server.errors import RequestError
from model_server.key_limits import KeyLimits, unlimited
from model_server.lifecycle import Lifecycle, Phase
from model_server.open_request import OVER_LIMIT, Disconnected, log_refusal
from model_server.pool.codecs import EXPLAINING, name_of
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
        key_limits: KeyLimits,
        *,
        timeout_seconds: float,
    ) -> None:
        self.pool = pool
        self.authenticator = authenticator
        self._key_limits = key_limits
        self.lifecycle = Lifecycle()
        self._telemetry = telemetry
        self._tracer = tracer
        self._timeout = timeout_seconds

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered."""
        return self.lifecycle.phase is Phase.READY

    @property
    def has_key_limits(self) -> bool:
        """Whether any API key has limits."""
        return bool(self._key_limits)

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
        name = name_of(codec)
        explains = name in EXPLAINING
        trace = self._tracer.begin(headers)
        code, leave = CLIENT_GONE, unlimited
        self._telemetry.begin()
        try:
            leave = self._key_limits.enter(self.authenticator.check(headers))
            payload = await read()
            call = Call(0, version, name, path, identifier, list(headers.items()), payload.body)
            answered = await self.pool.call(model, call, deadline=time.monotonic() + self._timeout)
            code, explains = 200, answered.explains
            return Answer(answered.body, answered.content_type, answered.headers)
        except RequestError as error:
            code = STATUS_OF[type(error)].http
            if isinstance(error.__cause__, Reported):
                explains = error.__cause__.explains
            else:
                log_refusal(error, code, identifier, path)
            raise
        except (Disconnected, asyncio.CancelledError):
            raise
        finally:
            leave()
            self._telemetry.end()
            trace.end(operation, code, began=started)
            # What nobody listed gets no series of its own, and a key over its limit is no evidence about a model.
            entry = self.pool.find(model)
            if entry is not None and code != OVER_LIMIT:
                seconds = time.perf_counter() - started
                self._telemetry.answered(model, entry.version, code, seconds, explains=explains)

    async def explain(self, codec: Any, read: Callable[[], Awaitable[Payload]], **asked: Any) -> Answer:
        """Explain the predictions of one request: as `call`, and counted apart."""
        return await self.call(codec, read, **asked)


def _target_of(path: str) -> tuple[str, str]:
    """The model and version of a path that was answered before."""
    found = _TARGET.search(path)
    return (found["model"], found["version"] or "") if found else ("", "")
