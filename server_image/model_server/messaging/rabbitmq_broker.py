"""RabbitMQ: one queue that is read, and two that are written to through the default exchange with publisher confirms.

https://www.rabbitmq.com/docs/confirms. A queue has no groups: its consumers share it. Quorum queues count deliveries;
others only say that a message was delivered before. A queue keeps no order between its consumers.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelNotFoundEntity,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from aiormq.exceptions import ChannelAccessRefused

from model_server.messaging.broker import (
    CALL_SECONDS,
    TAKE_SECONDS,
    BrokerRefused,
    BrokerUnavailable,
    Message,
    MessageTooLarge,
    Outgoing,
    Subscription,
    TopicMissing,
)
from model_server.messaging.connection import Address
from model_server.messaging.headers import as_text, read_headers

#: What RabbitMQ closes a channel with for a message above its `max_message_size`.
_TOO_LARGE = re.compile(r"larger than configured max size (\d+)")
_EVENT_PREFIX = "cloudEvents:"
#: EXTERNAL: RabbitMQ takes the user from the certificate of the client (plug-in rabbitmq_auth_mechanism_ssl).
_MECHANISMS = ("PLAIN", "EXTERNAL")


class RabbitBroker:
    """One connection, with a channel for reading and one for writing."""

    def __init__(self, address: Address, subscription: Subscription) -> None:
        self._address, self._topics = address, subscription
        self._connection: AbstractConnection | None = None
        self._waiting: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        # RabbitMQ does not tell it before a message is too large for it.
        self._most_bytes: int | None = None

    async def open(self) -> None:
        """Connect, see that the queues exist, and have messages sent, so many as may be unacknowledged."""
        await self.close()
        self._waiting = asyncio.Queue()
        async with self._address.explained(), self._translated():
            self._connection = connection = await aio_pika.connect(self._url(), timeout=CALL_SECONDS, **self._tls())
            for name in (self._topics.input, self._topics.output, self._topics.dead_letter):
                await self._see(connection, name)
            self._writer = await connection.channel(publisher_confirms=True, on_return_raises=True)
            self._reader = await connection.channel(publisher_confirms=False)
            await self._reader.set_qos(prefetch_count=self._topics.most, timeout=CALL_SECONDS)
            self._queue = await self._reader.get_queue(self._topics.input, ensure=False)
            await self._queue.consume(self._waiting.put, timeout=CALL_SECONDS)

    async def take(self, most: int) -> Sequence[Message]:
        """What RabbitMQ has sent."""
        self._open()
        found: list[AbstractIncomingMessage] = []
        with suppress(TimeoutError):
            found.append(await asyncio.wait_for(self._waiting.get(), TAKE_SECONDS))
        while found and len(found) < most and not self._waiting.empty():
            found.append(self._waiting.get_nowait())
        return [_message(one) for one in found]

    async def settle(self, message: Message, outgoing: Outgoing) -> None:
        """Publish, wait for the confirmation, acknowledge."""
        self._open()
        if self._most_bytes is not None and len(outgoing.body) > self._most_bytes:
            raise MessageTooLarge(len(outgoing.body), self._most_bytes)
        async with self._translated():
            await self._writer.default_exchange.publish(
                _published(outgoing), routing_key=outgoing.topic, mandatory=True, timeout=CALL_SECONDS
            )
            await message.receipt.ack()

    async def release(self, messages: Sequence[Message]) -> None:
        """Requeue the messages."""
        self._open()
        async with self._translated():
            for message in messages:
                await message.receipt.nack(requeue=True)

    async def extend(self, messages: Sequence[Message]) -> None:
        """Nothing to do: a message is the consumer's as long as its connection lives."""

    async def lag(self) -> int | None:
        """Messages that wait in the queue; those that are delivered are not among them."""
        async with self._translated():
            queue = await self._reader.declare_queue(self._topics.input, passive=True, timeout=CALL_SECONDS)
        count: int | None = queue.declaration_result.message_count
        return count

    async def close(self) -> None:
        """Close the connection; what is not acknowledged goes back to the queue."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed:
            with suppress(Exception):
                await asyncio.wait_for(connection.close(), CALL_SECONDS)

    def _open(self) -> None:
        if self._connection is None or self._connection.is_closed or self._reader.is_closed or self._writer.is_closed:
            raise BrokerUnavailable(f"RabbitMQ at {self._address.shown} has closed the connection")

    def _url(self) -> str:
        given = self._address.credentials()
        host, _, path = self._address.rest.partition("/")
        # No path is the virtual host "/".
        if given.mechanism_of(_MECHANISMS) == "EXTERNAL":
            return f"{self._address.scheme}://{host}/{path}?auth=external"
        user = f"{quote(given.username, safe='')}:{quote(given.password, safe='')}@" if given.username else ""
        return f"{self._address.scheme}://{user}{host}/{path}"

    def _tls(self) -> dict[str, Any]:
        context: ssl.SSLContext | None = self._address.tls
        return {} if context is None else {"ssl": True, "ssl_context": context}

    async def _see(self, connection: AbstractConnection, name: str) -> None:
        """Raise TopicMissing for a queue that does not exist, on a channel of its own: RabbitMQ closes it then."""
        channel: AbstractChannel = await connection.channel()
        try:
            await channel.declare_queue(name, passive=True, timeout=CALL_SECONDS)
        except ChannelNotFoundEntity:
            raise _missing(name) from None
        await channel.close()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        where = f"RabbitMQ at {self._address.shown}"
        try:
            yield
        except (AuthenticationError, ProbableAuthenticationError, ChannelAccessRefused) as error:
            raise BrokerRefused(f"{where} refuses: {_first(error)}", hint=self._address.hint) from None
        except PublishError as error:
            # Given back: no queue has this name any more.
            raise _missing(getattr(error.message, "routing_key", None) or "of the answers") from None
        except DeliveryError as error:
            raise BrokerUnavailable(f"{where} does not take the message: {_first(error)}") from None
        except (AMQPError, OSError, TimeoutError, RuntimeError) as error:
            if limit := _TOO_LARGE.search(str(error)):
                # The channel is closed; at the next delivery the message becomes a dead letter.
                self._most_bytes = int(limit[1])
            raise BrokerUnavailable(f"{where} does not answer: {_first(error)}") from None


def _message(raw: AbstractIncomingMessage) -> Message:
    headers = read_headers((raw.headers or {}).items())
    for name, value in ((b"content-type", raw.content_type), (b"message-id", raw.message_id)):
        if value:
            headers[name] = value.encode("utf-8", "replace")
    count = (raw.headers or {}).get("x-delivery-count")
    before = count if isinstance(count, int) else int(bool(raw.redelivered))
    return Message(body=raw.body, headers=headers, position="", deliveries=1 + before, receipt=raw)


def _published(outgoing: Outgoing) -> aio_pika.Message:
    headers = dict(outgoing.headers)
    kind = headers.pop(b"content-type", b"").decode("latin-1")
    for own in (b"message-id", b"x-delivery-count", b"x-death"):
        headers.pop(own, None)
    return aio_pika.Message(
        outgoing.body,
        headers=dict(as_text(headers, _EVENT_PREFIX)),
        content_type=kind or None,
        message_id=outgoing.id,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


def _missing(name: str) -> TopicMissing:
    return TopicMissing(f"there is no queue {name!r}", hint="Declare it; a durable quorum queue counts deliveries.")


def _first(error: BaseException) -> str:
    return str(error) or type(error).__name__
