"""The whole operator against an API server and controllers; pods are Ready as soon as they are there.

The API server is the sandbox's, or a real one (see `control_planes`).
"""

from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from operator_in_cluster import Api, Operator, api_of, control_plane, operator
from waiting import eventually

from model_operator.clients.kinds import BY_KIND, RESOURCE

MODEL = {"storageUri": "s3://models/fraud/1"}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[tuple[Api, Operator]]:
    """One control plane and one operator for all tests; each has resources of its own."""
    async with (
        control_plane() as cluster,
        api_of(cluster) as api,
        operator(cluster) as running,
    ):
        yield api, running


async def healthy(api: Api, name: str, revision_is_not: str = "") -> str:
    async def look() -> str:
        status = await api.status(name)
        is_live = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
        revision = str(status.get("stableRevision", ""))
        return revision if is_live and revision != revision_is_not else ""

    return str(await eventually(look, f"{name} is Ready"))


async def test_a_create_costs_its_children_and_two_looks_at_readiness(stage: tuple[Api, Operator]) -> None:
    api, running = stage
    await api.create("fraud", model=MODEL)
    await healthy(api, "fraud")
    before = await running.requests()
    await api.create("spam", model=MODEL)
    await healthy(api, "spam")
    spent = await running.requests() - before
    assert spent.pop(("create", "Event"), 0) <= 2
    # Deployment and front Service; status at the start, when the pod is there, when it is ready, and when it was asked
    # for its model. Two of these may meet in one write.
    assert spent[("apply", "Deployment")] == 1
    assert spent[("apply", "Service")] == 1
    assert spent[("get", RESOURCE.kind)] == 0
    assert spent[("patch-status", RESOURCE.kind)] <= 4


async def test_nothing_is_written_while_nothing_changes() -> None:
    async with control_plane() as cluster, api_of(cluster) as api:
        async with operator(cluster):
            await api.create("fraud", model=MODEL, replicas=2)
            await healthy(api, "fraud")
        version = (await api.get(RESOURCE, "fraud"))["metadata"]["resourceVersion"]
        async with operator(cluster) as again:
            await eventually(lambda: again.knows(1), "the second operator has seen everything")
            await api.create("spam", model=MODEL)
            await healthy(api, "spam")
            writes = {k: n for k, n in (await again.requests()).items() if k[0] not in ("list", "watch")}
            fraud = await api.get(RESOURCE, "fraud")
            assert fraud["metadata"]["resourceVersion"] == version
            assert writes[("apply", "Deployment")] == 1


async def test_a_new_model_replaces_the_old_one(stage: tuple[Api, Operator]) -> None:
    api, _ = stage
    await api.create("replaced", model=MODEL)
    first = await healthy(api, "replaced")
    await api.patch(RESOURCE, "replaced", {"spec": {"model": {"storageUri": "s3://models/fraud/2"}}})
    second = await healthy(api, "replaced", revision_is_not=first)
    service = await api.get(BY_KIND["Service"], "replaced")
    assert service["spec"]["selector"]["modeldeploy.dev/revision"] == second
    old = await api.get(BY_KIND["Deployment"], f"replaced-{first}")
    assert old["spec"]["replicas"] == 0


async def test_a_foreign_write_is_put_right_and_told(stage: tuple[Api, Operator]) -> None:
    api, _ = stage
    await api.create("meddled", model=MODEL)
    revision = await healthy(api, "meddled")
    assert await foreign_writes(api) == 0, "the operator took its own objects for somebody else's"
    await api.patch(BY_KIND["Deployment"], f"meddled-{revision}", {"spec": {"replicas": 5}})

    async def is_right() -> bool:
        return bool((await api.get(BY_KIND["Deployment"], f"meddled-{revision}"))["spec"]["replicas"] == 1)

    await eventually(is_right, "the size is put right")
    await eventually(lambda: foreign_writes(api), "it is told")


async def test_a_deleted_child_comes_back(stage: tuple[Api, Operator]) -> None:
    api, _ = stage
    await api.create("bereft", model=MODEL)
    await healthy(api, "bereft")
    await api.delete(BY_KIND["Service"], "bereft")

    async def is_back() -> bool:
        return "bereft" in await api.names("Service")

    await eventually(is_back, "the front Service is back")


async def test_a_deleted_resource_leaves_nothing(stage: tuple[Api, Operator]) -> None:
    api, running = stage
    await api.create("deleted", model=MODEL, replicas=2)
    await healthy(api, "deleted")
    before = await running.requests()
    await api.delete(RESOURCE, "deleted")

    async def is_empty() -> bool:
        kinds = ("Deployment", "Pod", "PodDisruptionBudget", "Service")
        return not [name for kind in kinds for name in await api.names(kind) if name.startswith("deleted")]

    await eventually(is_empty, "nothing is left")
    spent = Counter(await running.requests()) - before
    assert not [key for key in spent if key[0] in ("apply", "delete", "patch-status")]


async def foreign_writes(api: Api) -> int:
    events = (await api.call("GET", BY_KIND["Event"].collection("default")))["items"]
    return sum(event["reason"] == "DriftCorrected" for event in events)
