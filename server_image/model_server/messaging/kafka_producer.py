"""Writes to Kafka so that a message which its topic refuses harms no other; `kafka_broker.py` sends by it.

Two things of aiokafka's idempotent producer: the limit of a topic is one of batches, and a batch that is refused fails
all its messages; and the numbers of the refused batch are used up, so that the partition takes no later one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    BrokerResponseError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    kafka_errors,
)


class InvalidRecordError(BrokerResponseError):  # type: ignore[misc]
    """A topic refuses a message for what it is, such as one without a key where messages are compacted by key.

    https://kafka.apache.org/protocol#protocol_error_codes. The client does not know it, and would call it unknown.
    """

    errno = 87
    message = "INVALID_RECORD"


kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)
#: That of the client, where it has one by now.
INVALID_RECORD: type[BrokerResponseError] = kafka_errors[InvalidRecordError.errno]

#: What the client would refuse by itself; the broker knows its own limit.
_MOST_BYTES = 512 * 1024 * 1024
#: Of a batch; a larger message is alone in its own.
_BATCH_BYTES = 16_384
_CLOSE_SECONDS = 15.0
#: The message was not written, and may be sent again.
_REFUSED = (MessageSizeTooLargeError, INVALID_RECORD)
_NOT_WRITTEN = (*_REFUSED, OutOfOrderSequenceNumber, ProducerClosed)


class Writer:
    """An idempotent producer that is replaced after a refusal."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._batch_bytes = _BATCH_BYTES
        self._replacing = asyncio.Lock()

    async def start(self) -> None:
        """Connect."""
        self._producer = await self._started(self._batch_bytes)

    async def stop(self) -> None:
        """Let the connections go."""
        await self._producer.stop()

    async def write(self, topic: str, body: bytes, key: bytes | None, headers: Sequence[tuple[str, bytes]]) -> None:
        """Send one message and wait for all replicas. Raises MessageSizeTooLargeError, INVALID_RECORD, KafkaError."""
        producer = self._producer
        try:
            await producer.send_and_wait(topic, body, key=key, headers=headers)
            return
        except _NOT_WRITTEN as error:
            was_refused = isinstance(error, _REFUSED)
        async with self._replacing:
            alone = await self._started(1)
            try:
                await alone.send_and_wait(topic, body, key=key, headers=headers)
                if was_refused:
                    # It was its company that was refused, and would be so again.
                    self._batch_bytes = 1
            finally:
                await _ended(alone)
                if self._producer is producer:
                    self._producer = await self._started(self._batch_bytes)
                    await _ended(producer)

    async def _started(self, batch_bytes: int) -> Any:
        producer = AIOKafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            max_request_size=_MOST_BYTES,
            max_batch_size=batch_bytes,
            linger_ms=2,
        )
        await producer.start()
        return producer


async def _ended(producer: Any) -> None:
    with suppress(Exception):
        await asyncio.wait_for(producer.stop(), _CLOSE_SECONDS)
