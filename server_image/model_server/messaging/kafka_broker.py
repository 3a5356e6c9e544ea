"""Kafka: a consumer of a group, and an idempotent producer.

https://kafka.apache.org/documentation/#design_consumerposition. Messages of one key are in one partition, and are
answered in their order, with the same key. Offsets are committed for messages that are finished (`offsets.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    CommitFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    MessageSizeTooLargeError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
)
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

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
from model_server.messaging.offsets import PartitionOffsets

#: What the client would refuse by itself; the broker knows its own limit.
_MOST_BYTES = 512 * 1024 * 1024
#: How long a consumer may hold its messages before others get its partitions, in milliseconds.
_POLL_MILLISECONDS = 30 * 60 * 1000
_REFUSALS = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
_CLOSE_SECONDS = 15.0
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
#: How long a rebalance waits for messages that are taken, in seconds: a consumer that answers none is thrown out.
_REVOKE_SECONDS = 5.0

_Receipt = tuple[TopicPartition, PartitionOffsets, int]


class KafkaBroker(ConsumerRebalanceListener):  # type: ignore[misc]
    """A consumer, a producer, and an administrator's client for offsets, of one cluster."""

    def __init__(self, address: Address, subscription: Subscription) -> None:
        self._address, self._topics = address, subscription
        self._parts: dict[TopicPartition, PartitionOffsets] = {}
        self._clients: list[Any] = []
        self._committed: dict[TopicPartition, Any] = {}
        self._rebalances = 0

    async def open(self) -> None:
        """Connect, see that the topics exist, and join the group."""
        await self.close()
        async with self._address.explained(), self._translated():
            options = self._options()
            await self._see(options)
            self._admin = await self._started(AIOKafkaAdminClient(**options))
            self._producer = await self._started(
                AIOKafkaProducer(
                    **options,
                    acks="all",
                    enable_idempotence=True,
                    max_request_size=_MOST_BYTES,
                    linger_ms=2,
                )
            )
            self._consumer = await self._started(
                AIOKafkaConsumer(
                    **options,
                    group_id=self._topics.group,
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",
                    max_poll_interval_ms=_POLL_MILLISECONDS,
                    fetch_max_wait_ms=100,
                )
            )
            # All topics: asking for one by its name may create it.
            known = await self._consumer.topics()
            for topic in (self._topics.input, self._topics.output, self._topics.dead_letter):
                if topic not in known:
                    raise _missing(topic)
            self._consumer.subscribe([self._topics.input], listener=self)

    async def take(self, most: int) -> Sequence[Message]:
        """The next messages of the partitions that are this consumer's."""
        async with self._translated():
            found = await self._consumer.getmany(timeout_ms=int(TAKE_SECONDS * 1000), max_records=most)
            if not await self._resume({partition: records[0].offset for partition, records in found.items()}):
                return ()
            messages = [self._message(partition, record) for partition, records in found.items() for record in records]
            # Before one of them is answered: whoever begins here again has to know that they were delivered.
            if await self._commit():
                return messages
        for message in messages:
            _, part, offset = message.receipt
            part.give_back(offset)
        return ()

    async def settle(self, message: Message, outgoing: Outgoing) -> None:
        """Produce, wait for all replicas, remember the offset as finished."""
        headers = [(name, value.encode("latin-1")) for name, value in as_text(outgoing.headers, "ce_").items()]
        async with self._translated():
            try:
                await asyncio.wait_for(
                    self._producer.send_and_wait(
                        outgoing.topic,
                        outgoing.body,
                        key=outgoing.key,
                        headers=[*headers, ("message-id", outgoing.id.encode())],
                    ),
                    CALL_SECONDS * 3,
                )
            except MessageSizeTooLargeError:
                raise MessageTooLarge(outgoing.size, None) from None
            except UnknownTopicOrPartitionError:
                raise _missing(outgoing.topic) from None
        _, part, offset = message.receipt
        part.finish(offset)

    async def release(self, messages: Sequence[Message]) -> None:
        """Nothing to do: what is not committed is delivered again."""

    async def extend(self, messages: Sequence[Message]) -> None:
        """Nothing to do: partitions are the consumer's as long as it takes part in the group."""

    async def lag(self) -> int | None:
        """Messages behind the committed offset, in all partitions."""
        topic = self._topics.input
        async with self._translated():
            partitions = [TopicPartition(topic, number) for number in self._consumer.partitions_for_topic(topic) or ()]
            if not partitions:
                return None
            ends: dict[TopicPartition, int] = await self._consumer.end_offsets(partitions)
            begins: dict[TopicPartition, int] = await self._consumer.beginning_offsets(partitions)
            committed = await self._committed_offsets(partitions)
        lows = {one: max(committed[one].offset if one in committed else 0, begins[one]) for one in partitions}
        return sum(max(0, end - lows[one]) for one, end in ends.items())

    async def close(self) -> None:
        """Commit what is finished, leave the group, and let the connections go."""
        clients, self._clients = self._clients, []
        if clients:
            with suppress(Exception):
                await asyncio.wait_for(self._commit(), CALL_SECONDS)
        for client in reversed(clients):
            with suppress(Exception):
                stop = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
                await asyncio.wait_for(stop(), _CLOSE_SECONDS)
        self._parts.clear()
        self._committed = {}

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Others get partitions: finish what is taken of them, for a while, and commit. What is left comes to them."""
        deadline = time.monotonic() + _REVOKE_SECONDS
        parts = [part for partition in revoked if (part := self._parts.get(partition)) is not None]
        while any(part.is_open for part in parts) and time.monotonic() < deadline:  # noqa: ASYNC110 - rare and short
            await asyncio.sleep(0.02)
        with suppress(KafkaError, TimeoutError):
            await self._commit()
        for partition in revoked:
            self._parts.pop(partition, None)
        self._rebalances += 1

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Nothing to do: messages may be there before this is called, so `take` finds out what was delivered before."""

    async def _resume(self, begins: Mapping[TopicPartition, int]) -> bool:
        """Find out what was delivered before of new partitions; false if they are shared anew meanwhile."""
        new, rebalances = [partition for partition in begins if partition not in self._parts], self._rebalances
        if not new:
            return True
        committed = await self._committed_offsets(new)
        if self._rebalances != rebalances:
            return False
        for partition in new:
            if (known := committed.get(partition)) is not None:
                self._parts[partition] = PartitionOffsets.resumed(known.offset, known.metadata)
            else:
                self._parts[partition] = PartitionOffsets(begins[partition], begins[partition])
        return True

    async def _committed_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Any]:
        found = await self._admin.list_consumer_group_offsets(self._topics.group, partitions=list(partitions))
        return {partition: one for partition, one in found.items() if one.offset >= 0}

    async def _see(self, options: Mapping[str, Any]) -> None:
        """Connect to one of the servers: the clients would only say that none of them can be reached, and not why."""
        servers = self._address.servers
        rest = {name: value for name, value in options.items() if name != "bootstrap_servers"}
        for host, port in servers:
            try:
                connection = await asyncio.wait_for(create_conn(host, port, **rest), CALL_SECONDS)
            except _REFUSALS:
                raise
            except (KafkaError, OSError, TimeoutError):
                if (host, port) == servers[-1]:
                    raise
                continue
            connection.close()
            return

    async def _started(self, client: Any) -> Any:
        self._clients.append(client)
        await asyncio.wait_for(client.start(), CALL_SECONDS * 2)
        return client

    async def _commit(self) -> bool:
        """Commit what is finished and taken. False if the group rebalances: its members begin at the last commit."""
        mine = self._consumer.assignment()
        offsets = {
            partition: OffsetAndMetadata(part.low, part.metadata)
            for partition, part in self._parts.items()
            if partition in mine
        }
        if offsets and offsets != self._committed:
            try:
                await asyncio.wait_for(self._consumer.commit(offsets), CALL_SECONDS)
            except CommitFailedError:
                return False
            self._committed = offsets
        return True

    def _message(self, partition: TopicPartition, record: ConsumerRecord) -> Message:
        part = self._parts[partition]
        receipt: _Receipt = (partition, part, record.offset)
        return Message(
            body=record.value or b"",
            headers=read_headers(record.headers),
            position=f"{record.topic}:{record.partition}:{record.offset}",
            key=record.key,
            deliveries=part.take(record.offset),
            receipt=receipt,
        )

    def _options(self) -> dict[str, Any]:
        given, context = self._address.credentials(), self._address.tls
        is_encrypted = context is not None
        options: dict[str, Any] = {
            "bootstrap_servers": list(self._address.hosts),
            "client_id": self._topics.consumer,
            "ssl_context": context,
            "request_timeout_ms": int(CALL_SECONDS * 1000),
            "security_protocol": "SSL" if is_encrypted else "PLAINTEXT",
        }
        if given.username:
            options |= {
                "security_protocol": "SASL_SSL" if is_encrypted else "SASL_PLAINTEXT",
                "sasl_mechanism": given.mechanism_of(_MECHANISMS),
                "sasl_plain_username": given.username,
                "sasl_plain_password": given.password,
            }
        return options

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        where = f"Kafka at {self._address.shown}"
        try:
            yield
        except _REFUSALS as error:
            raise BrokerRefused(f"{where} refuses: {error}", hint=self._address.hint) from None
        except (KafkaError, OSError, TimeoutError, ValueError) as error:
            raise BrokerUnavailable(f"{where} does not answer: {error or type(error).__name__}") from None


def _missing(topic: str) -> TopicMissing:
    return TopicMissing(
        f"there is no topic {topic!r}", hint=f"Create it, such as: kafka-topics.sh --create --topic {topic}"
    )
