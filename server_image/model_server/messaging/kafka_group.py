"""What a group of Kafka has committed, with the metadata of the commit; `kafka_broker.py` marks copies by it.

https://kafka.apache.org/protocol#The_Messages_OffsetFetch. aiokafka reads the same answer without its error: a
coordinator that is still loading then looks like a group that has committed nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError, NoError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata

from model_server.messaging.broker import CALL_SECONDS

_RETRY_SECONDS = 0.2


class CommittedOffsets:
    """Asks the coordinator of one group, by a client of its own."""

    def __init__(self, group: str, client: AIOKafkaClient) -> None:
        self._group, self._client = group, client

    async def start(self) -> None:
        """Learn which servers there are."""
        await self._client.bootstrap()

    async def stop(self) -> None:
        """Let the connections go."""
        await self._client.close()

    async def of(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        """What is committed of these partitions; one that is not there has no commit. Raises KafkaError, TimeoutError.

        A coordinator that moves or loads is asked again.
        """
        async with asyncio.timeout(CALL_SECONDS):
            while True:
                try:
                    return await self._ask(partitions)
                except KafkaError as error:
                    if not error.retriable:
                        raise
                await asyncio.sleep(_RETRY_SECONDS)
                await self._client.force_metadata_update()

    async def _ask(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        numbers: dict[str, list[int]] = defaultdict(list)
        for topic, number in partitions:
            numbers[topic].append(number)
        node = await self._client.coordinator_lookup(CoordinationType.GROUP, self._group)
        answer = await self._client.send(node, OffsetFetchRequest(self._group, list(numbers.items())))
        _raise_for(getattr(answer, "error_code", 0))
        found: dict[TopicPartition, OffsetAndMetadata] = {}
        for topic, committed in answer.topics:
            for number, offset, metadata, code in committed:
                _raise_for(code)
                if offset >= 0:
                    found[TopicPartition(topic, number)] = OffsetAndMetadata(offset, metadata)
        return found


def _raise_for(code: int) -> None:
    error = for_code(code)
    if error is not NoError:
        raise error
