"""The ReplicaSet controller: as many pods as asked for, and their numbers in the status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from model_sandbox.cache import Cache, Key
from model_sandbox.client import ApiFailure, Client, Obj
from model_sandbox.controllers import pods as about
from model_sandbox.controllers.base import PODS, Recorder, owner_reference

_BURST = 500


def pod_of(owner: Obj, template: Obj) -> Obj:
    """A pod made from a template, as its controller creates it."""
    metadata = template.get("metadata") or {}
    meta: Obj = {
        "generateName": f"{owner['metadata']['name']}-",
        "namespace": owner["metadata"]["namespace"],
        "ownerReferences": [owner_reference(owner)],
    }
    for name in ("labels", "annotations", "finalizers"):
        if metadata.get(name):
            meta[name] = metadata[name]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}


def status_of(replica_set: Obj, pods: list[Obj], now: datetime) -> tuple[Obj, float | None]:
    """The status, and the seconds after which it changes by time alone."""
    spec = replica_set["spec"]
    min_ready = spec.get("minReadySeconds", 0)
    active = [pod for pod in pods if about.is_active(pod)]
    waits = [about.available_in(pod, min_ready, now) for pod in active]
    labels = (spec.get("template", {}).get("metadata") or {}).get("labels") or {}
    labelled = sum(labels.items() <= (pod["metadata"].get("labels") or {}).items() for pod in active)
    status: Obj = {
        "replicas": len(active),
        "fullyLabeledReplicas": labelled,
        "readyReplicas": sum(wait is not None for wait in waits),
        "availableReplicas": sum(wait == 0 for wait in waits),
        "terminatingReplicas": sum(about.is_terminating(pod) and not about.is_finished(pod) for pod in pods),
        "observedGeneration": replica_set["metadata"]["generation"],
    }
    kept = {"replicas", "observedGeneration", "terminatingReplicas"}
    status = {name: value for name, value in status.items() if value or name in kept}
    conditions = (replica_set.get("status") or {}).get("conditions")
    if conditions:
        status["conditions"] = conditions
    return status, min((wait for wait in waits if wait), default=None)


@dataclass(slots=True)
class ReplicaSets:
    """Keeps the pods of ReplicaSets."""

    _client: Client
    _sets: Cache
    _pods: Cache
    _recorder: Recorder

    async def reconcile(self, key: Key) -> float | None:
        """Create or delete pods, then report."""
        replica_set = self._sets.get(*key)
        if replica_set is None:
            return None
        pods = self._pods.owned(replica_set["metadata"]["uid"])
        if not about.is_terminating(replica_set):
            await self._scale(replica_set, pods)
            pods = self._pods.owned(replica_set["metadata"]["uid"])
        status, again = status_of(replica_set, pods, datetime.now(UTC))
        await self._sets.report(replica_set, status)
        return again

    async def _scale(self, replica_set: Obj, pods: list[Obj]) -> None:
        active = [pod for pod in pods if about.is_active(pod)]
        missing = replica_set["spec"].get("replicas", 1) - len(active)
        if missing > 0:
            body = pod_of(replica_set, replica_set["spec"]["template"])
            for _ in range(min(missing, _BURST)):
                await self._create(replica_set, body)
        for pod in sorted(active, key=about.deletion_rank)[: max(0, -missing)]:
            meta = pod["metadata"]
            path = PODS.path(meta["namespace"], meta["name"])
            try:
                answer = await self._client.send("DELETE", path, {"preconditions": {"uid": meta["uid"]}})
            except ApiFailure as failure:
                if failure.code not in (404, 409):
                    raise
                continue
            if answer.get("kind") == "Pod":
                self._pods.put(answer)
            await self._recorder.event(replica_set, "SuccessfulDelete", f"Deleted pod: {meta['name']}")

    async def _create(self, replica_set: Obj, body: Obj) -> None:
        try:
            pod = await self._pods.create(body)
        except ApiFailure as failure:
            told = f"Error creating: {failure.body.get('message', failure)}"
            await self._recorder.event(replica_set, "FailedCreate", told, kind="Warning")
            raise
        await self._recorder.event(replica_set, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
