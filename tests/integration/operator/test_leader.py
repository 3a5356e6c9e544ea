"""Two operators of which one works: the other takes over when the leader hangs."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from operator_in_cluster import Api, ControlPlane, Operator, api_of, control_plane, operator
from waiting import eventually

from model_operator.clients.kinds import RESOURCE

MODEL = {"storageUri": "s3://models/fraud/1"}
CANARY = {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}


@asynccontextmanager
async def leader_and_standby(cluster: ControlPlane) -> AsyncIterator[tuple[Operator, Operator]]:
    """Two operators, the leader first."""
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(operator(cluster, identity="first", lease_seconds="3"))
        await eventually(leader.leads, "the first operator leads")
        standby = await stack.enter_async_context(operator(cluster, identity="second", lease_seconds="3"))
        await eventually(standby.is_up, "the second operator is up")
        assert not await standby.leads()
        yield leader, standby


async def paused_rollout(api: Api) -> str:
    """A canary that waits for a user; return its revision."""
    await api.create("fraud", model=MODEL, replicas=2, strategy=CANARY)
    await eventually(lambda: is_in_phase(api, "Healthy"), "the first revision serves")
    await api.patch(RESOURCE, "fraud", {"spec": {"model": {"storageUri": "s3://models/fraud/2"}}})
    await eventually(lambda: is_in_phase(api, "Paused"), "the rollout waits for a user")
    return str((await api.status("fraud"))["canaryRevision"])


async def is_in_phase(api: Api, phase: str) -> bool:
    status = await api.status("fraud")
    return bool(status.get("phase") == phase and status.get("readyReplicas"))


async def test_a_leader_that_hangs_is_replaced_and_exits_when_it_goes_on() -> None:
    async with control_plane() as cluster, api_of(cluster) as api, leader_and_standby(cluster) as (leader, standby):
        canary = await paused_rollout(api)
        leader.process.send_signal(signal.SIGSTOP)
        try:
            await eventually(standby.leads, "the standby has taken over")
            promote = {"metadata": {"annotations": {"modeldeploy.dev/promote": f"{canary}@1"}}}
            await api.patch(RESOURCE, "fraud", promote)
            await eventually(lambda: is_in_phase(api, "Healthy"), "the standby finishes the rollout")
        finally:
            leader.process.send_signal(signal.SIGCONT)
        assert await asyncio.wait_for(leader.process.wait(), 60) == 1, "only one operator may write"
        status = await api.status("fraud")
        assert status["stableRevision"] == canary
        assert [entry["result"] for entry in status["history"]] == ["Promoted", "Promoted"]
