"""What a ModelBatch or a ModelPool cannot carry out is told in its status, once, as a ModelDeployment tells it."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from rollout_world import World

from model_operator.api.batch import BATCH_KIND
from model_operator.api.names import BATCH, POOL
from model_operator.api.pool import POOL_KIND
from model_operator.api.resource import ObjectKey
from model_operator.engine.batches.cache import OwnerCache
from model_operator.engine.batches.reconcile import BatchReconciler
from model_operator.engine.events import EventRecorder
from model_operator.engine.pools.reconcile import PoolReconciler
from model_operator.engine.queue import WorkQueue
from model_operator.engine.worker import PassOutcome, run_pass
from model_operator.errors import ApiError
from model_operator.manifests.pod_policy import PodPolicy
from model_operator.manifests.pods import PodSettings
from model_operator.manifests.strategic_merge import check_overlay
from model_operator.policy.admission import Admission
from model_operator.testing import InMemoryCluster, merge, snapshot

KEY = ObjectKey("team", "night")
BATCH_SPEC = {
    "model": {"storageUri": "s3://models/fraud", "sha256": "0" * 64},
    "input": {"uri": "s3://tables/in.csv"},
    "output": {"uri": "s3://scores/out"},
}
POOL_SPEC = {"models": [{"name": "a", "storageUri": "s3://models/a", "sha256": "0" * 64}]}
TYPO = {"spec": {"nodeSelectr": {"disk": "ssd"}}}
#: What an API server answers about a field that is in no schema: neither 422 nor 400.
SENTENCE = "failed to create typed patch object: .spec.template.spec.nodeSelectr: field not declared in schema"


class Cluster(InMemoryCluster):
    """A cluster that knows the fields of pods."""

    async def apply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if "nodeSelectr" in body.get("spec", {}).get("template", {}).get("spec", {}):
            raise ApiError(500, "InternalError", SENTENCE)
        return await super().apply(body)

    async def merge(self, kind: str, key: ObjectKey, patch: Any, version: str, subresource: str = "") -> dict[str, Any]:
        existing = self.objects[kind, *key]
        if existing["metadata"]["resourceVersion"] != version:
            raise ApiError(409, "Conflict", "the object has been modified")
        return snapshot(self._store(merge(dict(existing), patch)))


class Owner:
    """One object of a kind, its queue and its reconciler, in a cluster of its own."""

    def __init__(self, kind: str, spec: Mapping[str, Any]) -> None:
        world = World()
        self.kind, self.queue, self.cluster = kind, WorkQueue(), Cluster(world.clock)
        self.cache = OwnerCache(kind, BATCH if kind == BATCH_KIND else POOL)
        self.recorder = EventRecorder(self.cluster, world.clock, "operator")
        admission = Admission(settings=PodSettings(image="server:1"), pods=PodPolicy())
        common = (self.recorder, world.clock, admission)
        self.reconciler: BatchReconciler | PoolReconciler
        if kind == BATCH_KIND:
            self.reconciler = BatchReconciler(
                self.cluster, self.cache, lambda _: (None, {}), *common, {}, self.queue.add
            )
        else:
            self.reconciler = PoolReconciler(self.cluster, self.cache, *common, {})
        self._spec = spec
        self.write({})

    def write(self, pod_template: Any) -> None:
        """Write the object as a user does."""
        old = self.cluster.objects.get((self.kind, *KEY), {})
        metadata = {"name": KEY.name, "namespace": KEY.namespace, "creationTimestamp": "2026-01-01T12:00:00Z"}
        spec = {**self._spec, "server": {"podTemplate": pod_template}}
        about = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": self.kind, "metadata": metadata}
        self.cache.upsert(snapshot(self.cluster._store({**about, "status": old.get("status", {}), "spec": spec})))

    async def work(self) -> PassOutcome:
        """Do passes until one ends without another at once."""
        outcome = PassOutcome.OK
        for _ in range(5):
            outcome = await run_pass(self.queue, KEY, self.reconciler, self.kind)
        self.queue.close()
        return outcome

    @property
    def valid(self) -> tuple[str, str, str]:
        """Status, reason and message of the condition SpecValid."""
        (found,) = (one for one in self.status["conditions"] if one["type"] == "SpecValid")
        return found["status"], found["reason"], found["message"]

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.objects[self.kind, *KEY]["status"]
        return found

    async def events(self) -> list[str]:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await self.recorder.run()
        return [one["reason"] for one in self.cluster.events if one["type"] == "Warning"]


@pytest.fixture(params=[(BATCH_KIND, BATCH_SPEC, "Job"), (POOL_KIND, POOL_SPEC, "Deployment")], ids=["batch", "pool"])
def owner_and_child(request: pytest.FixtureRequest) -> tuple[Owner, str]:
    kind, spec, child = request.param
    return Owner(kind, spec), child


async def test_a_field_that_no_pod_has_is_told_once_and_is_over_when_it_is_corrected(
    owner_and_child: tuple[Owner, str],
) -> None:
    owner, child = owner_and_child
    owner.write(TYPO)
    assert await owner.work() is PassOutcome.ERROR, "it is tried again, with growing delays"
    told = f"{child} night cannot be written: {SENTENCE}"
    assert owner.valid == ("False", "ApplyFailed", told)
    assert owner.status["message"] == told
    version = owner.cluster.version
    await owner.work()
    assert owner.cluster.version == version, "it was told already"
    assert await owner.events() == ["ApplyFailed"]
    owner.write({})
    assert await owner.work() is PassOutcome.OK
    assert owner.valid[0] == "True"
    assert owner.cluster.of_kind(child)


@pytest.mark.parametrize("levels", [101, 253, 255, 1_000])
@pytest.mark.parametrize("field", ["affinity", "nodeSelector"])
async def test_what_is_nested_too_deeply_is_refused_by_name(
    owner_and_child: tuple[Owner, str], field: str, levels: int
) -> None:
    owner, child = owner_and_child
    owner.write({"spec": {field: nested(levels)}})
    assert await owner.work() is PassOutcome.OK
    status, reason, message = owner.valid
    assert (status, reason) == ("False", "InvalidSpec")
    assert message.startswith(f"spec.server.podTemplate.spec.{field}.a.a.a")
    assert message.endswith(" is nested more than 100 levels deep; no field of a pod is")
    assert owner.cluster.of_kind(child) == []


@pytest.mark.parametrize("levels", [101, 253, 255, 1_000])
@pytest.mark.parametrize("field", ["affinity", "nodeSelector"])
async def test_what_is_nested_too_deeply_in_a_model_deployment_is_refused_by_name(field: str, levels: int) -> None:
    world = World()
    server = {"podTemplate": {"spec": {field: nested(levels)}}}
    key = world.cluster.create("shop", {"model": {"storageUri": "s3://models/shop/1"}})
    spec = world.cluster.objects["ModelDeployment", *key]["spec"]
    spec["server"] = server
    await world.operate(key)
    message = world.status(key)["message"]
    assert message.startswith(f"the spec is invalid: spec.server.podTemplate.spec.{field}.a.a.a")
    assert message.endswith(" is nested more than 100 levels deep; no field of a pod is")


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels - 1):
        found = {"a": found}
    return found


def test_a_long_name_above_many_values_is_checked_at_once() -> None:
    """Whoever writes the path of each value copies a hundred gigabytes."""
    check_overlay({"spec": {"x" * 500_000: [[]] * 200_000}}, "spec.server.podTemplate")
