"""Kafka: a consumer of a group, and an idempotent producer.

https://kafka.apache.org/documentation/#design_consumerposition. Messages of one key are in one partition, and are
answered in their order, with the same key. Offsets are committed for messages that are finished (`offsets.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    MessageSizeTooLargeError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

from model_server.messaging.broker import (
    CALL_SECONDS,
    TAKE_SECONDS,
    Message,
    MessageRefused,
    MessageTooLarge,
    Outgoing,
    Subscription,
    TopicMissing,
)
from model_server.messaging.connection import Address
from model_server.messaging.headers import as_text, read_headers
from model_server.messaging.kafka_connection import client_options, see, translated
from model_server.messaging.kafka_group import CommittedOffsets
from model_server.messaging.kafka_producer import INVALID_RECORD, Writer
from model_server.messaging.offsets import PartitionOffsets

#: How long a consumer may hold its messages before others get its partitions, in milliseconds.
_POLL_MILLISECONDS = 30 * 60 * 1000
_CLOSE_SECONDS = 15.0
#: How long a rebalance waits for messages that are taken, in seconds: a consumer that answers none is thrown out.
_REVOKE_SECONDS = 5.0
#: How long to wait for the position in a partition, which is known unless its leader is away, in seconds.
_POSITION_SECONDS = 0.1

_Receipt = tuple[TopicPartition, PartitionOffsets, int]


class KafkaBroker(ConsumerRebalanceListener):  # type: ignore[misc]
    """A consumer, a producer, and a client for what the group has committed, of one cluster."""

    def __init__(self, address: Address, subscription: Subscription) -> None:
        self._address, self._topics = address, subscription
        self._parts: dict[TopicPartition, PartitionOffsets] = {}
        self._clients: list[Any] = []
        self._committed: dict[TopicPartition, Any] = {}
        self._rebalances = 0

    async def open(self) -> None:
        """Connect, see that the topics exist, and join the group."""
        await self.close()
        async with self._address.explained(), translated(self._address):
            options = client_options(self._address, self._topics.consumer)
            await see(self._address, options)
            self._group = await self._started(CommittedOffsets(self._topics.group, AIOKafkaClient(**options)))
            self._writer = await self._started(Writer(options))
            self._consumer = await self._started(
                AIOKafkaConsumer(
                    **options,
                    group_id=self._topics.group,
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",
                    # Messages of a transaction that was aborted were never sent, as far as its producer knows.
                    isolation_level="read_committed",
                    max_poll_interval_ms=_POLL_MILLISECONDS,
                    fetch_max_wait_ms=100,
                    # So soon are messages of added partitions read.
                    metadata_max_age_ms=60_000,
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
        async with translated(self._address):
            found = await self._consumer.getmany(timeout_ms=int(TAKE_SECONDS * 1000), max_records=most)
            begins = {partition: records[0].offset for partition, records in found.items()}
            if not await self._resume(begins or await self._positions()):
                return ()
            if not found:
                await self._reach()
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
        headers.append(("message-id", outgoing.id.encode()))
        async with translated(self._address):
            try:
                sending = self._writer.write(outgoing.topic, outgoing.body, outgoing.key, headers)
                await asyncio.wait_for(sending, CALL_SECONDS * 3)
            except MessageSizeTooLargeError:
                raise MessageTooLarge(outgoing.size, None) from None
            except INVALID_RECORD:
                raise _refused(outgoing) from None
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
        async with translated(self._address):
            partitions = [TopicPartition(topic, number) for number in self._consumer.partitions_for_topic(topic) or ()]
            if not partitions:
                if topic not in await self._consumer.topics():
                    raise _missing(topic)
                return None
            ends: dict[TopicPartition, int] = await self._consumer.end_offsets(partitions)
            begins: dict[TopicPartition, int] = await self._consumer.beginning_offsets(partitions)
            committed = await self._group.of(partitions)
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
                await asyncio.wait_for(client.stop(), _CLOSE_SECONDS)
        self._parts.clear()
        self._committed = {}

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Others get partitions: finish what is taken of them, for a while, and commit. What is left comes to them."""
        deadline = time.monotonic() + _REVOKE_SECONDS
        parts = [part for partition in revoked if (part := self._parts.get(partition)) is not None]
        while any(part.is_open for part in parts) and time.monotonic() < deadline:  # noqa: ASYNC110 - rare and short
            await asyncio.sleep(0.02)
        for part in parts:
            part.hand_over()
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
        committed = await self._group.of(new)
        if self._rebalances != rebalances or await self._goes_back(begins, committed):
            return False
        for partition in new:
            if (known := committed.get(partition)) is not None:
                self._parts[partition] = PartitionOffsets.resumed(known.offset, known.metadata)
            else:
                self._parts[partition] = PartitionOffsets(begins[partition], begins[partition])
        return True

    async def _goes_back(self, begins: Mapping[TopicPartition, int], committed: Mapping[TopicPartition, Any]) -> bool:
        """Whether the client begins before what is committed, which is put right.

        It does so when a coordinator that was loading did not tell it the offset, and would read the whole topic again.
        An offset behind the end is another matter: the topic is a new one of the same name.
        """
        behind = [partition for partition, known in committed.items() if begins[partition] < known.offset]
        ends: Mapping[TopicPartition, int] = await self._consumer.end_offsets(behind) if behind else {}
        wrong = {partition: committed[partition].offset for partition in behind}
        wrong = {partition: offset for partition, offset in wrong.items() if offset <= ends[partition]}
        if wrong:
            # What was fetched with it is given up, and fetched again.
            for partition, begin in begins.items():
                if partition in self._consumer.assignment():
                    self._consumer.seek(partition, wrong.get(partition, begin))
        return bool(wrong)

    async def _positions(self) -> Mapping[TopicPartition, int]:
        """Where the client goes on in each partition, as far as it knows."""
        found: dict[TopicPartition, int] = {}
        for partition in self._consumer.assignment():
            with suppress(IllegalStateError, TimeoutError):
                found[partition] = await asyncio.wait_for(self._consumer.position(partition), _POSITION_SECONDS)
        return found

    async def _reach(self) -> None:
        """Go past offsets without a message, such as the ends of transactions: the lag would never come to 0."""
        for partition, position in (await self._positions()).items():
            if (part := self._parts.get(partition)) is not None:
                part.reach(position)

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


def _refused(outgoing: Outgoing) -> MessageRefused:
    topic = outgoing.topic
    if outgoing.key is not None:
        return MessageRefused(f"Kafka refuses the message for the topic {topic!r} (INVALID_RECORD)")
    return MessageRefused(
        f"Kafka refuses a message without a key for the topic {topic!r} (INVALID_RECORD), as topics with"
        " cleanup.policy=compact do. An answer has the key of the message that it answers: send messages with a key,"
        " or set cleanup.policy=delete",
        hint=f"Such as: kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=delete",
    )


def _missing(topic: str) -> TopicMissing:
    return TopicMissing(
        f"there is no topic {topic!r}, or none that this user may describe",
        hint=f"Create it, such as: kafka-topics.sh --create --topic {topic}",
    )
