"""What a group has committed: a coordinator that is not ready is asked again, and never read as a group that is new."""

from __future__ import annotations

from collections import deque

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.protocol.commit import OffsetFetchResponse_v1, OffsetFetchResponse_v3

from model_server.messaging.kafka_group import CommittedOffsets

NOT_COORDINATOR, LOADING, DENIED = 16, 14, 30
PARTS = [TopicPartition("t", 0), TopicPartition("t", 1)]
GOOD = OffsetFetchResponse_v3(0, [("t", [(0, 7, "taken=9 begun=1", 0), (1, -1, "", 0)])], 0)


class Coordinator:
    """A client whose coordinator answers so, one answer after the other."""

    def __init__(self, *answers):
        self.answers = deque(answers)

    async def coordinator_lookup(self, kind, group):
        return 1

    async def send(self, node, request):
        return self.answers.popleft()

    async def force_metadata_update(self):
        return True


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(OffsetFetchResponse_v3(0, [], LOADING), id="it loads, and says so for the whole answer"),
        pytest.param(OffsetFetchResponse_v3(0, [], NOT_COORDINATOR), id="it is another one by now"),
        pytest.param(OffsetFetchResponse_v1([("t", [(0, -1, "", LOADING)])]), id="it says so for a partition"),
    ],
)
async def test_a_coordinator_that_is_not_ready_is_asked_again(first):
    found = await CommittedOffsets("g", Coordinator(first, GOOD)).of(PARTS)
    assert {partition.partition: tuple(known) for partition, known in found.items()} == {0: (7, "taken=9 begun=1")}


async def test_a_refusal_is_told():
    with pytest.raises(GroupAuthorizationFailedError):
        await CommittedOffsets("g", Coordinator(OffsetFetchResponse_v3(0, [], DENIED))).of(PARTS)
