"""A schedule hears of the end of its runs, whatever the watch brings."""

from datetime import timedelta
from typing import Any

from rollout_world import World

from model_operator.api.batch import BATCH_KIND
from model_operator.api.names import BATCH
from model_operator.api.resource import ObjectKey
from model_operator.engine.batches.cache import OwnerCache
from model_operator.engine.batches.reconcile import BatchReconciler
from model_operator.manifests.pod_policy import PodPolicy
from model_operator.manifests.pods import PodSettings
from model_operator.policy.admission import Admission
from model_operator.testing import merge

KEY = ObjectKey("default", "nightly")
SPEC = {
    "model": {"storageUri": "s3://models/fraud"},
    "input": {"uri": "s3://tables/*.csv"},
    "output": {"uri": "s3://scores/{time}"},
    "schedule": "*/5 * * * *",
}


class Batches:
    """An API server with ModelBatches, whose watch brings nothing."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, dict[str, Any]] = {}
        self._version = 0

    def put(self, body: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        key = ObjectKey("default", body["metadata"]["name"])
        metadata = {
            "uid": f"uid-{key.name}",
            "creationTimestamp": "2026-01-01T12:00:00Z",
            "generation": 1,
            **body["metadata"],
        }
        self.objects[key] = {**body, "metadata": {**metadata, "resourceVersion": str(self._version)}}
        return self.objects[key]

    async def apply_new(self, body: Any) -> dict[str, Any]:
        return self.put(dict(body))

    async def find(self, kind: str, key: ObjectKey) -> dict[str, Any] | None:
        return self.objects.get(key)

    async def delete(self, kind: str, key: ObjectKey, uid: str) -> None:
        del self.objects[key]

    async def merge(self, kind: str, key: ObjectKey, patch: Any, version: str, subresource: str = "") -> dict[str, Any]:
        return self.put(merge(self.objects[key], patch))


async def test_a_run_that_was_held_starts_when_the_active_one_ends() -> None:
    world, cluster, cache = World(), Batches(), OwnerCache(BATCH_KIND, BATCH)
    clock, queued = world.clock, set[ObjectKey]()
    admission = Admission(settings=PodSettings(image="server"), pods=PodPolicy())
    reconciler = BatchReconciler(
        cluster, cache, lambda key: (None, {}), world.recorder, clock, admission, {}, queued.add
    )
    created = clock.now().isoformat().replace("+00:00", "Z")
    metadata = {"name": "nightly", "namespace": "default", "creationTimestamp": created}
    body = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": BATCH_KIND, "metadata": metadata, "spec": SPEC}
    cache.upsert(cluster.put(body))

    clock.advance(timedelta(minutes=5))
    await reconciler.reconcile(KEY)
    (run,) = (key for key in cluster.objects if key != KEY)
    await reconciler.reconcile(KEY)
    clock.advance(timedelta(minutes=5))
    await reconciler.reconcile(KEY)
    status = cluster.objects[KEY]["status"]
    assert status["active"] == [run.name]
    assert "waits for" in status["message"]

    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": run.name,
            "namespace": "default",
            "uid": "job",
            "resourceVersion": "1",
            "labels": {BATCH: run.name},
            "ownerReferences": [{"uid": cluster.objects[run]["metadata"]["uid"], "controller": True}],
        },
        "spec": {"completions": 1, "parallelism": 1, "suspend": False},
        "status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}], "completionTime": created},
    }
    cache.upsert(job)
    queued.clear()
    await reconciler.reconcile(run)
    assert queued == {KEY}
    await reconciler.reconcile(KEY)
    status = cluster.objects[KEY]["status"]
    assert "lastSuccessfulTime" in status
    assert len(cluster.objects) == 3, "the run that was held has started"
