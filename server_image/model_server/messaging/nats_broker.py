"""NATS JetStream: a durable pull consumer, and publishing with the stream's acknowledgement.

https://docs.nats.io/nats-concepts/jetstream/consumers. JetStream counts deliveries, and drops a message whose
`Nats-Msg-Id` it has seen within the stream's duplicate window. It keeps no order between consumers of a group.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error, MaxPayloadError
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from model_server.messaging.broker import (
    ACK_SECONDS,
    CALL_SECONDS,
    TAKE_SECONDS,
    BrokerRefused,
    BrokerUnavailable,
    EncryptionMismatch,
    Message,
    MessageTooLarge,
    Outgoing,
    Subscription,
    TopicMissing,
)
from model_server.messaging.connection import Address
from model_server.messaging.headers import as_text, read_headers

#: Error code of JetStream for a message above `max_msg_size` of its stream.
_MESSAGE_TOO_LARGE = 10054
#: How long a pull request waits for messages, in seconds.
_PULL_SECONDS = 5.0
#: The client waits for ever for the end of a connection whose handshake failed.
_CLOSE_SECONDS = 2.0
_REFUSALS = ("authorization violation", "permissions violation", "authentication", "user authentication")


class _Client(Client):
    """A client that shows no credentials to a server without TLS where TLS was asked for: nats-py goes on then."""

    needs_tls = False

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if self.needs_tls and initial_connection and not info.get("tls_required"):
            raise EncryptionMismatch(
                "the NATS server does not require TLS, and the address does",
                hint="Set tls in the configuration of the server, or write nats:// instead of tls://.",
            )
        await super()._process_info(info, initial_connection)


class NatsBroker:
    """One connection to NATS."""

    def __init__(self, address: Address, subscription: Subscription) -> None:
        self._address, self._topics = address, subscription
        self._client: Client | None = None
        self._stream = ""
        # Messages of the pull request, what is still to come of it, and when it ends.
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()
        self._left = 0
        self._ends = 0.0
        # What the server said on the side: why it closed the connection, and which subject it does not allow.
        self._said = ""

    async def open(self) -> None:
        """Connect, find the streams of the subjects, and make the durable consumer if it is not there."""
        await self.close()
        self._said, self._arrived, self._left = "", asyncio.Queue(), 0
        async with self._address.explained(), self._translated():
            self._client = client = _Client()
            client.needs_tls = self._address.is_encrypted
            await client.connect(
                list(self._address.urls),
                name=self._topics.consumer,
                allow_reconnect=False,
                # Each server once: 0 would mean for ever.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                ping_interval=10,
                connect_timeout=int(CALL_SECONDS),
                error_cb=self._listen,
                **self._login(),
            )
            self._jetstream = client.jetstream(timeout=CALL_SECONDS)
            self._stream = await self._stream_of(self._topics.input)
            for subject in (self._topics.output, self._topics.dead_letter):
                await self._stream_of(subject)
            await self._ensure_consumer()
            self._inbox = client.new_inbox()
            await client.subscribe(self._inbox, cb=self._arrived.put, pending_msgs_limit=-1)

    async def take(self, most: int) -> Sequence[Message]:
        """The messages of a pull request. There is one at a time, so that no more are sent than there is room for."""
        client = self._connected()
        async with self._translated():
            if self._left <= 0 or time.monotonic() > self._ends:
                self._left, self._ends = most, time.monotonic() + _PULL_SECONDS + 1
                wish = {"batch": most, "expires": int(_PULL_SECONDS * 1e9)}
                name = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._topics.group}"
                await client.publish(name, json.dumps(wish).encode(), reply=self._inbox)
        found: list[Message] = []
        with suppress(TimeoutError):
            self._sort(await asyncio.wait_for(self._arrived.get(), TAKE_SECONDS), found)
        while not self._arrived.empty() and len(found) < most:
            self._sort(self._arrived.get_nowait(), found)
        return found

    def _sort(self, raw: Msg, found: list[Message]) -> None:
        """Add a message, or note that the pull request has ended. Raises TopicMissing when its consumer has."""
        if raw.reply:
            self._left -= 1
            found.append(_message(raw))
            return
        self._left = 0
        said = (raw.headers or {}).get("Description", "")
        if "deleted" in said.lower():
            raise TopicMissing(f"the durable consumer {self._topics.group!r} was deleted; it is made again")

    async def settle(self, message: Message, outgoing: Outgoing) -> None:
        """Publish, wait for the stream, acknowledge."""
        client = self._connected()
        if outgoing.size > client.max_payload:
            raise MessageTooLarge(outgoing.size, client.max_payload)
        async with self._translated():
            try:
                await self._jetstream.publish(
                    outgoing.topic, outgoing.body, headers=as_text(outgoing.headers) | {"Nats-Msg-Id": outgoing.id}
                )
            except MaxPayloadError:
                raise MessageTooLarge(outgoing.size, client.max_payload) from None
            except NoStreamResponseError:
                raise _missing(outgoing.topic) from None
            except APIError as error:
                if error.err_code == _MESSAGE_TOO_LARGE:
                    raise MessageTooLarge(outgoing.size, await self._max_message_size(outgoing.topic)) from None
                raise
            await message.receipt.ack()

    async def release(self, messages: Sequence[Message]) -> None:
        """Ask for another delivery at once."""
        self._connected()
        async with self._translated():
            for message in messages:
                await message.receipt.nak()

    async def extend(self, messages: Sequence[Message]) -> None:
        """Begin the time for the acknowledgement anew."""
        self._connected()
        async with self._translated():
            for message in messages:
                await message.receipt.in_progress()

    async def lag(self) -> int | None:
        """Messages that were not delivered yet, and those that were and are not acknowledged."""
        self._connected()
        async with self._translated():
            info = await self._jetstream.consumer_info(self._stream, self._topics.group)
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    async def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            with suppress(Exception):
                await asyncio.wait_for(client.close(), _CLOSE_SECONDS)

    def _login(self) -> dict[str, Any]:
        given = self._address.credentials()
        login: dict[str, Any] = {"user": given.username or None, "password": given.password or None}
        if given.token:
            login = {"token": given.token}
        # For nats:// too: a server may require TLS, which the client learns from its greeting.
        return {**login, "tls": self._address.encryption.context()}

    def _connected(self) -> Client:
        if self._client is None or not self._client.is_connected:
            raise self._unavailable("the connection is closed")
        return self._client

    async def _stream_of(self, subject: str) -> str:
        try:
            return await self._jetstream.find_stream_name_by_subject(subject)
        except NotFoundError:
            raise _missing(subject) from None

    async def _ensure_consumer(self) -> None:
        wanted = ConsumerConfig(
            durable_name=self._topics.group,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_SECONDS,
            # Unlimited: JetStream would drop what exceeds it without a word; dead letters are the consumer's own.
            max_deliver=-1,
            max_ack_pending=-1,
            filter_subject=self._topics.input,
        )
        try:
            found = await self._jetstream.consumer_info(self._stream, self._topics.group)
        except NotFoundError:
            found = await self._jetstream.add_consumer(self._stream, wanted)
        self._check(found)

    def _check(self, found: ConsumerInfo) -> None:
        """Raise TopicMissing for a durable consumer of the same name that reads something else."""
        config, group = found.config, self._topics.group
        name = f"the durable consumer {group!r} of the stream {self._stream!r}"
        hint = "Choose another group, or delete that consumer."
        if config.filter_subject != self._topics.input:
            raise TopicMissing(f"{name} reads {config.filter_subject!r}, not {self._topics.input!r}", hint=hint)
        if config.ack_policy != AckPolicy.EXPLICIT or config.deliver_subject or (config.max_deliver or -1) > 0:
            raise TopicMissing(
                f"{name} is not a pull consumer with explicit acknowledgements and unlimited deliveries", hint=hint
            )

    async def _max_message_size(self, subject: str) -> int:
        info = await self._jetstream.stream_info(await self._stream_of(subject))
        return info.config.max_msg_size or 0

    async def _listen(self, error: Exception) -> None:
        self._said = str(error) or type(error).__name__

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except ServiceUnavailableError:
            raise TopicMissing(
                "the server has no JetStream", hint="Start it with -js, or enable it in its configuration."
            ) from None
        except (Error, OSError, TimeoutError) as error:
            raise self._unavailable(str(error) or type(error).__name__) from None

    def _unavailable(self, what: str) -> BrokerUnavailable | BrokerRefused:
        said = self._said or what
        # A server that does not allow a subject says so on the side, and does not answer.
        if any(word in f"{said} {what}".lower() for word in _REFUSALS):
            return BrokerRefused(f"NATS at {self._address.shown} refuses: {said}", hint=self._address.hint)
        return BrokerUnavailable(f"NATS at {self._address.shown} does not answer: {said}")


def _message(raw: Msg) -> Message:
    metadata = raw.metadata
    return Message(
        body=raw.data,
        headers=read_headers((raw.headers or {}).items()),
        position=f"{metadata.stream}:{metadata.sequence.stream}",
        deliveries=metadata.num_delivered or 1,
        receipt=raw,
    )


def _missing(subject: str) -> TopicMissing:
    return TopicMissing(
        f"no stream of JetStream has the subject {subject!r}",
        hint=f"Create one, such as: nats stream add --subjects {subject}",
    )
