"""What all connections of a meter share: who may ask, what is counted, and whether the server behind is ready."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from model_server.auth import Authenticator, Guards
from model_server.errors import (
    InvalidInput,
    MalformedRequest,
    ModelNotReady,
    Overloaded,
    RequestError,
    RequestTooLarge,
    TooManyRequests,
    UnsupportedMediaType,
)
from model_server.key_limits import KeyLimits, unlimited
from model_server.meter.exchange import MOST_RECORDED, Client, Exchange
from model_server.meter.head import KEYS, plain_path, request_head
from model_server.meter.recording import Bodies, BodyLog, Labels
from model_server.meter.upstream import Upstream
from model_server.request_ids import RequestIds
from model_server.telemetry import CONTENT_TYPE, OPENMETRICS, Telemetry

log = logging.getLogger(__name__)

#: Which refusal an answer of the server behind is, by its status.
_REFUSALS: Mapping[int, type[RequestError]] = {
    400: MalformedRequest,
    413: RequestTooLarge,
    415: UnsupportedMediaType,
    422: InvalidInput,
}
_JSON = b"application/json"
FEEDBACK = b"/feedback"
#: Requests for `/meter/drained` that are kept, each with its connection; kubelet sends one.
MOST_WAITING = 64


class Phase(enum.StrEnum):
    """Where a meter is, in the words of a model server."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may cost; times in seconds."""

    max_bytes: int
    timeout_seconds: float
    header_timeout_seconds: float
    max_open: int


class Meter:
    """One worker's meter; `phase` and `message` are what `/readyz` shows."""

    def __init__(
        self,
        upstream: Upstream,
        telemetry: Telemetry,
        authenticator: Authenticator,
        key_limits: KeyLimits,
        limits: Limits,
        *,
        guards: Guards,
        labels: Labels,
        log: BodyLog | None = None,
        prediction_paths: tuple[str, ...] = (),
    ) -> None:
        self.upstream, self.telemetry, self.limits = upstream, telemetry, limits
        self.phase, self.message = Phase.LOADING, "the server behind has not answered yet"
        self.has_been_ready = False
        self.clients: set[Client] = set()
        self.open: set[Exchange] = set()
        #: Requests for `/meter/drained`, which are answered at the end; the oldest is the first.
        self.waiting: dict[Exchange, None] = {}
        self._authenticator, self._key_limits, self._guards = authenticator, key_limits, guards
        self._labels, self._log = labels, log
        self._paths = tuple(path.encode() for path in prediction_paths)
        self._ids = RequestIds()
        self._loop = asyncio.get_running_loop()
        self._progress = asyncio.Event()

    # --- requests

    def record(self, exchange: Exchange) -> None:
        """Keep the bodies of a request, before they come, where they are needed later."""
        if exchange.method == b"POST" and exchange.path == FEEDBACK:
            exchange.is_local, exchange.request_body = True, []
        elif self._is_prediction(exchange):
            if self._log is not None and self._log.is_sampled():
                exchange.is_sampled, exchange.request_body, exchange.response_body = True, [], []
            elif self._labels.remembers:
                exchange.response_body = []

    def admit(self, exchange: Exchange) -> None:
        """Let a request to the server behind in, and write its head. Raises RequestErrors."""
        fields = dict(exchange.fields)
        exchange.identifier = self._ids.of(fields)
        exchange.counted = not exchange.is_local and self._is_prediction(exchange)
        if exchange.counted:
            self.telemetry.begin()
        asks = self._authenticator.asks
        if asks:
            key = self._authenticator.check({name: fields[name] for name in KEYS & fields.keys()})
            if exchange.counted or exchange.is_local:
                exchange.leave = self._key_limits.enter(key, is_feedback=exchange.is_local)
        if exchange.is_local:
            return
        if not self.has_been_ready:
            raise ModelNotReady(f"the model is not ready: {self.message}")
        if len(self.open) >= self.limits.max_open:
            raise Overloaded(f"{self.limits.max_open} requests are being answered already")
        if exchange.length > self.limits.max_bytes or exchange.size > self.limits.max_bytes:
            raise RequestTooLarge(f"the body has more than {self.limits.max_bytes} bytes")
        if exchange.counted and b"x-modeldeploy-assigned" in fields:
            self.telemetry.assigned()
        head = request_head(
            exchange.method, exchange.target, exchange.fields, exchange.identifier, chunked=exchange.chunked, keys=asks
        )
        exchange.out.insert(0, head)
        self.open.add(exchange)

    def take_feedback(self, exchange: Exchange) -> None:
        """Count a label or a conversion. Raises RequestErrors."""
        if exchange.request_body is None:
            raise RequestTooLarge(f"feedback has at most {MOST_RECORDED} bytes")
        self._labels.receive(b"".join(exchange.request_body))

    def wait(self, exchange: Exchange) -> None:
        """Keep a request for `/meter/drained` until the end.

        Anybody may ask: kubelet sends no key, and from the address of a node others come too. But kubelet asks when the
        pod begins to end, as the last one: until then the oldest makes room for it, and from then on no place is given
        to anybody else.

        Raises:
            Overloaded: the meter drains, and too many wait.
        """
        if len(self.waiting) >= MOST_WAITING:
            error = Overloaded(f"{MOST_WAITING} requests wait for the end of the server already")
            if self.is_draining:
                raise error
            oldest = next(iter(self.waiting))
            oldest.keep_alive = False
            oldest.front.fail(oldest, error)
        self.waiting[exchange] = None

    def ended(self, exchange: Exchange, status: int, error: RequestError | None) -> None:
        """A request is answered, or nobody waits for its answer any more (499)."""
        self.open.discard(exchange)
        if self.phase is Phase.DRAINING:
            self._progress.set()
        exchange.leave()
        exchange.leave = unlimited
        if not exchange.counted:
            return
        exchange.counted = False
        telemetry = self.telemetry
        if isinstance(error, TooManyRequests):  # no evidence about the model
            telemetry.withdraw()
            return
        seconds = time.perf_counter() - exchange.started
        if status >= 400:
            telemetry.failed(seconds)
            refusal = type(error) if error is not None else _REFUSALS.get(status)
            if refusal is not None:
                telemetry.refused(refusal)
        else:
            if not telemetry.has_predicted:
                telemetry.predicted()
            if exchange.response_body is not None or exchange.is_sampled:
                self._remember(exchange)
        telemetry.end(status, seconds)

    def _remember(self, exchange: Exchange) -> None:
        asked, answered = exchange.request_body, exchange.response_body
        if answered is not None and self._labels.remembers:
            self._labels.remember(exchange.identifier, b"".join(answered))
        if not exchange.is_sampled or self._log is None:
            return
        if asked is None or answered is None:
            self._log.drop()
        else:
            self._log.offer(Bodies(exchange.identifier.decode(), b"".join(asked), b"".join(answered)))

    def _is_prediction(self, exchange: Exchange) -> bool:
        if self._paths:
            # As the server behind may read it: `/v1/%63hat` is no way around the limits of keys.
            return exchange.target.startswith(self._paths) or plain_path(exchange.target).startswith(self._paths)
        return exchange.method == b"POST"

    # --- paths of its own

    def own(self, exchange: Exchange) -> tuple[int, bytes, bytes] | None:
        """The status, content type and body of a path that is the meter's own; None for all others.

        Raises RequestErrors.
        """
        path = exchange.path
        if path == b"/livez":
            return 200, _JSON, b'{"status":"ok"}'
        if path == b"/readyz":
            return self._readyz()
        if path == b"/metrics":
            fields = dict(exchange.fields)
            self._guards.metrics.check(fields)
            if b"application/openmetrics-text" in fields.get(b"accept", b""):
                return 200, OPENMETRICS.encode(), self.telemetry.render_openmetrics()
            return 200, CONTENT_TYPE.encode(), self.telemetry.render()
        return None

    def _readyz(self) -> tuple[int, bytes, bytes]:
        phase, message = self.phase, self.message
        is_ready = phase is Phase.READY and self.telemetry.is_ready_everywhere
        if phase is Phase.READY and not is_ready:
            phase, message = Phase.LOADING, "waiting for the other workers"
        return 200 if is_ready else 503, _JSON, orjson.dumps({"phase": phase.value, "message": message})

    # --- its state

    def gone(self, client: Client) -> None:
        """A connection is closed."""
        self.clients.discard(client)
        self._progress.set()

    def report(self, *, is_ready: bool, message: str) -> None:
        """The server behind was looked at. A draining meter stays draining."""
        if self.phase is Phase.DRAINING:
            return
        phase = Phase.READY if is_ready else Phase.LOADING
        if (phase, message) != (self.phase, self.message):
            log.log(logging.INFO if is_ready or not self.has_been_ready else logging.WARNING, message)
        self.phase, self.message = phase, message
        self.has_been_ready = self.has_been_ready or is_ready
        self.telemetry.ready(is_ready)

    def drain(self) -> None:
        """Stop being ready; requests that still come are answered."""
        self.phase, self.message = Phase.DRAINING, "the server is shutting down"
        self.telemetry.ready(False)

    async def finish(self, seconds: float) -> None:
        """Wait until what is open is answered, let the server behind end, and wait for the last bytes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.open:
                    await self._next_end()
        for exchange in list(self.waiting):
            exchange.front.answer(exchange, 200, _JSON, b'{"phase":"drained"}')
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while self.clients:
                    await self._next_end()

    async def _next_end(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    def close(self) -> None:
        """Close what is kept, and write what is left of the input log."""
        self.upstream.close()
        if self._log is not None:
            self._log.close()

    @property
    def is_draining(self) -> bool:
        """True once the end has begun."""
        return self.phase is Phase.DRAINING

    def next_deadline(self) -> float:
        """When the next piece of what is open has to have come, in the loop's time."""
        return self._loop.time() + self.limits.timeout_seconds
