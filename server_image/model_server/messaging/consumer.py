"""Takes messages, lets the data plane answer them, writes the answers; `server.py` runs one in each worker.

A message is acknowledged after the broker has its answer, or has it as a dead letter: whatever ends in between, the
message comes again. At most so many messages are taken as the batcher can use, so that the queue waits in the broker,
and a model that is slow or fails slows the consumer down.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from model_server.dataplane import DataPlane
from model_server.errors import (
    ModelNotReady,
    Overloaded,
    PredictionError,
    RequestError,
    RequestTooLarge,
    UnsupportedMediaType,
)
from model_server.lifecycle import Phase
from model_server.messaging.answers import answered, dead_letter, identify, without_body
from model_server.messaging.broker import (
    ACK_SECONDS,
    Broker,
    BrokerError,
    BrokerRefused,
    Message,
    MessageRefused,
    MessageTooLarge,
    Outgoing,
    Subscription,
)
from model_server.messaging.codec import message_codec
from model_server.messaging.gate import Gate
from model_server.messaging.telemetry import (
    ANSWER_REFUSED,
    ANSWER_TOO_LARGE,
    DELIVERIES_EXHAUSTED,
    Connection,
    StreamTelemetry,
)
from model_server.protocols.payload import Answer, Payload
from model_server.request_ids import RequestIds
from model_server.statuses import STATUS_OF

log = logging.getLogger(__name__)

#: How often to ask for the lag, and to tell the broker which messages are still worked on.
TICK_SECONDS = 5.0
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLimits:
    """What a message may cost."""

    max_bytes: int
    max_deliveries: int
    #: How long messages that were taken are still answered when the server ends.
    drain_seconds: float


class _Released(Exception):
    """The server ends before a message is answered."""


class Consumer:
    """Consumes from one broker until it is stopped."""

    def __init__(
        self,
        broker: Broker,
        subscription: Subscription,
        plane: DataPlane,
        telemetry: StreamTelemetry,
        gate: Gate,
        limits: MessageLimits,
        *,
        revision: str,
    ) -> None:
        self._broker, self._topics = broker, subscription
        self._plane, self._telemetry, self._gate, self._limits = plane, telemetry, gate, limits
        self._revision = revision
        self._ids = RequestIds()
        self._stopping = asyncio.Event()
        self._failure: BrokerError | None = None
        self._flying: dict[asyncio.Task[None], Message] = {}
        self._last_of_key: dict[bytes, asyncio.Task[None]] = {}

    def stop(self) -> None:
        """Take no more messages; `run` returns when those that were taken are answered."""
        self._stopping.set()

    async def run(self) -> None:
        """Consume, and connect again after every failure, until `stop`."""
        wait, told = _FIRST_WAIT, ""
        while not self._is_over:
            if not self._may_consume:
                self._telemetry.connection(Connection.WAITING)
                await self._pause(1.0)
                continue
            opened = math.inf
            try:
                self._telemetry.connection(Connection.AWAY)
                await self._broker.open()
                log.info("consuming", extra={"topic": self._topics.input, "group": self._topics.group})
                self._telemetry.connection(Connection.CONNECTED)
                opened = time.monotonic()
                await self._consume()
            except BrokerError as error:
                # What is refused only after the connection, such as the group, is no new failure each time.
                if time.monotonic() - opened > _LONGEST_WAIT:
                    wait, told = _FIRST_WAIT, ""
                # The same sentence once: a broker may be away for days.
                level = logging.DEBUG if error.message == told else logging.WARNING
                told = error.message
                self._telemetry.problem(error.reason)
                log.log(level, "%s: %s", error.reason, error.message, extra={"hint": error.hint})
            except Exception:
                log.exception("the consumer failed")
            finally:
                self._telemetry.connection(Connection.AWAY)
                self._telemetry.lag(None)
                await self._broker.close()
            if not self._is_over and self._may_consume:
                await self._pause(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads pods, hides nothing
                wait = min(wait * 2, _LONGEST_WAIT)
        self._telemetry.connection(Connection.WAITING)

    @property
    def _is_over(self) -> bool:
        return self._stopping.is_set() or self._plane.lifecycle.is_draining

    @property
    def _may_consume(self) -> bool:
        """Whether the model can answer, and this revision has a share of the traffic."""
        return self._plane.lifecycle.phase is Phase.READY and self._gate.is_open()

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until `stop`."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _consume(self) -> None:
        """Take and answer until there is a reason to end. Raises BrokerError."""
        self._failure = None
        ticks = asyncio.create_task(self._tick())
        looked, is_open = time.monotonic(), True
        try:
            while is_open and not self._is_over:
                free = await self._room()
                if self._failure is not None:
                    raise self._failure
                for message in await self._broker.take(free) if free else ():
                    self._begin(message)
                if time.monotonic() - looked >= 1:
                    looked, is_open = time.monotonic(), self._may_consume
            await self._drain()
        finally:
            for task in (ticks, *self._flying):
                task.cancel()
            await asyncio.gather(ticks, *self._flying, return_exceptions=True)
            self._flying.clear()
            self._last_of_key.clear()

    async def _room(self) -> int:
        """How many messages may be taken. Waits a moment for a quarter of all, which one call of the broker fetches."""
        most = self._topics.most
        if most - len(self._flying) < max(1, most // 4):
            await asyncio.wait(self._flying, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
        return most - len(self._flying)

    def _begin(self, message: Message) -> None:
        if message.deliveries > 1:
            self._telemetry.redelivered()
        before = self._last_of_key.get(message.key) if message.key is not None else None
        task = asyncio.create_task(self._handle(message, before))
        self._flying[task] = message
        if message.key is not None:
            self._last_of_key[message.key] = task
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        message = self._flying.pop(task, None)
        if message is not None and message.key is not None and self._last_of_key.get(message.key) is task:
            del self._last_of_key[message.key]
        if task.cancelled() or (error := task.exception()) is None or isinstance(error, _Released):
            return
        if isinstance(error, BrokerError):
            self._failure = self._failure or error
        else:
            log.error("a message could not be handled", exc_info=error)
            self._failure = self._failure or BrokerError("the consumer failed; it connects again")

    async def _drain(self) -> None:
        """Answer what was taken; give back what takes too long."""
        if self._flying:
            await asyncio.wait(self._flying, timeout=self._limits.drain_seconds)
        if self._failure is not None:
            raise self._failure
        left = list(self._flying.values())
        await self._release(left)

    async def _release(self, messages: Sequence[Message]) -> None:
        if messages:
            await self._broker.release(messages)
        for _ in messages:
            self._telemetry.ended("released")

    async def _handle(self, message: Message, before: asyncio.Task[None] | None) -> None:
        """Answer one message, after that of the same key. Raises BrokerError or _Released."""
        if before is not None:
            await asyncio.wait([before])
            if before.cancelled() or before.exception() is not None:
                # It comes again, and so has this one: behind it.
                await self._release([message])
                raise _Released
        identifier = identify(message, self._ids)
        try:
            answer = await self._answer(message, identifier)
        except _Released:
            await self._release([message])
            raise
        except RequestError as error:
            await self._bury(message, error, error.reason, identifier)
            return
        output = answered(message, answer, self._topics.output, identifier, self._revision)
        try:
            await self._broker.settle(message, output)
        except MessageTooLarge as error:
            failure = PredictionError(f"the answer is too large for the broker: {error.message}")
            await self._bury(message, failure, ANSWER_TOO_LARGE, identifier)
            return
        except MessageRefused as error:
            log.warning("%s", error.message, extra={"hint": error.hint})
            await self._bury(message, PredictionError(error.message), ANSWER_REFUSED, identifier)
            return
        self._telemetry.ended("answered")

    async def _answer(self, message: Message, identifier: bytes) -> Answer:
        """Ask the model, and again while that may help. Raises RequestError when it does not, or _Released."""
        delivered, wait, most = message.deliveries, _FIRST_WAIT, self._limits.max_deliveries
        if delivered > most:
            raise _Exhausted(f"delivered {delivered} times, each time without an end")
        while True:
            try:
                return await self._call(message, identifier)
            except RequestError as error:
                if STATUS_OF[type(error)].http < 500:
                    raise
                # A model that is busy or is being replaced says nothing about the message.
                if not isinstance(error, Overloaded | ModelNotReady):
                    delivered += 1
                if delivered > most:
                    raise
            self._telemetry.retried()
            await self._pause(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, hides nothing
            wait = min(wait * 2, _LONGEST_WAIT)
            if self._is_over:
                raise _Released

    async def _call(self, message: Message, identifier: bytes) -> Answer:
        most = self._limits.max_bytes

        async def read() -> Payload:
            if len(message.body) > most:
                raise RequestTooLarge(f"the message has {len(message.body)} bytes; {most} are read")
            if message.headers.get(b"content-encoding", b"identity").lower() not in (b"identity", b""):
                raise UnsupportedMediaType("a compressed message is not read here", hint="Send it plain.")
            return Payload(message.body, message.headers)

        return await self._plane.call(
            message_codec(),
            read,
            headers=message.headers,
            identifier=identifier,
            operation=f"process {self._topics.input}",
            path=self._topics.input,
            started=time.perf_counter(),
            is_trusted=True,
        )

    async def _bury(self, message: Message, error: RequestError, reason: str, identifier: bytes) -> None:
        """Write a message as a dead letter, without its body where the broker does not take it."""
        topics = self._topics
        letter = dead_letter(message, error, reason, topics.dead_letter, identifier, self._revision, topics.input)
        await self._write_letter(message, letter)
        self._telemetry.ended("dead-lettered", reason)

    async def _write_letter(self, message: Message, letter: Outgoing) -> None:
        try:
            await self._broker.settle(message, letter)
        except MessageTooLarge:
            await self._broker.settle(message, without_body(letter))
        except MessageRefused as error:
            # There is no other place for it: it comes again until the topic takes it.
            raise BrokerRefused(error.message, hint=error.hint) from None

    async def _tick(self) -> None:
        """Ask for the lag, and keep messages that take long; the same failure as any other."""
        held: dict[int, float] = {}
        while True:
            try:
                self._telemetry.lag(await self._broker.lag())
                now = time.monotonic()
                messages = list(self._flying.values())
                held = {id(one): held.get(id(one), now) for one in messages}
                old = [one for one in messages if now - held[id(one)] >= ACK_SECONDS / 4]
                if old:
                    await self._broker.extend(old)
            except BrokerError as error:
                self._failure = self._failure or error
                return
            await asyncio.sleep(TICK_SECONDS)


class _Exhausted(PredictionError):
    """A message that ends the server, or never comes to an end."""

    @property
    def reason(self) -> str:
        return DELIVERIES_EXHAUSTED
