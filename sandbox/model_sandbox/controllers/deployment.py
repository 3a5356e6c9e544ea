"""The Deployment controller: ReplicaSets by revision, rolled and reported as `kubectl rollout` expects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from model_sandbox.cache import Cache, Key, key_of
from model_sandbox.client import ApiFailure, Client, Obj
from model_sandbox.controllers import rollout
from model_sandbox.controllers.base import (
    REPLICASETS,
    Recorder,
    owner_reference,
    parse_time,
    set_condition,
    stamp,
)


@dataclass(slots=True)
class Deployments:
    """Keeps the ReplicaSets of Deployments."""

    _client: Client
    _deployments: Cache
    _sets: Cache
    _recorder: Recorder

    async def reconcile(self, key: Key) -> float | None:
        """One step of a rollout; the next comes with the next change of a ReplicaSet."""
        deployment = self._deployments.get(*key)
        if deployment is None:
            return None
        owned = self._sets.owned(deployment["metadata"]["uid"])
        template = deployment["spec"]["template"]
        matching = [one for one in owned if rollout.same_template(one["spec"]["template"], template)]
        new = min(matching, key=lambda one: one["metadata"]["creationTimestamp"], default=None)
        old = [one for one in owned if one is not new]
        if deployment["metadata"].get("deletionTimestamp"):
            return await self._report(deployment, new, owned)
        paused = deployment["spec"].get("paused", False)
        if paused or rollout.is_resized(deployment, owned):
            if new is not None or not paused:
                new = await self._new_set(deployment, new, old, create=False)
            await self._resize(deployment, rollout.resized(deployment, new, old))
        elif deployment["spec"]["strategy"].get("type") == "Recreate":
            new = await self._recreate(deployment, new, old)
        else:
            new = await self._new_set(deployment, new, old, create=True)
            if new is not None:
                await self._resize(deployment, rollout.rolling_sizes(deployment, new, old))
        deployment = self._deployments.get(*key) or deployment
        owned = self._sets.owned(deployment["metadata"]["uid"])
        new = self._fresh(new)
        again = await self._report(deployment, new, owned)
        if not paused:
            await self._clean(
                deployment, [one for one in owned if new is None or one["metadata"]["uid"] != new["metadata"]["uid"]]
            )
        return again

    def _fresh(self, replica_set: Obj | None) -> Obj | None:
        if replica_set is None:
            return None
        meta = replica_set["metadata"]
        return self._sets.get(meta["namespace"], meta["name"]) or replica_set

    async def _recreate(self, deployment: Obj, new: Obj | None, old: Sequence[Obj]) -> Obj | None:
        """All old pods go before the first new one comes."""
        sizes = {one["metadata"]["name"]: 0 for one in old if rollout.size_of(one)}
        await self._resize(deployment, sizes)
        left = sum(
            status.get("replicas", 0) + status.get("terminatingReplicas", 0)
            for status in ((self._fresh(one) or one).get("status") or {} for one in old)
        )
        if sizes or left:
            return new
        new = await self._new_set(deployment, new, old, create=True)
        wanted = deployment["spec"].get("replicas", 1)
        if new is not None and rollout.size_of(new) != wanted:
            await self._resize(deployment, {new["metadata"]["name"]: wanted})
        return new

    async def _new_set(self, deployment: Obj, new: Obj | None, old: Sequence[Obj], *, create: bool) -> Obj | None:
        """The ReplicaSet of the current template, with its revision and annotations right."""
        newest = max((rollout.revision_of(one) for one in old), default=0) + 1
        if new is None:
            return await self._create(deployment, old, newest) if create else None
        annotations = dict(new["metadata"].get("annotations") or {})
        wanted = {**annotations, **rollout.copied_annotations(deployment)}
        if rollout.revision_of(new) < newest:
            before = annotations.get(rollout.REVISION)
            if before:
                history = annotations.get(rollout.HISTORY)
                wanted[rollout.HISTORY] = f"{history},{before}" if history else before
            wanted[rollout.REVISION] = str(newest)
        patch: Obj = {}
        if wanted != annotations:
            patch["metadata"] = {"annotations": wanted}
        min_ready = deployment["spec"].get("minReadySeconds", 0)
        if new["spec"].get("minReadySeconds", 0) != min_ready:
            patch["spec"] = {"minReadySeconds": min_ready}
        if patch:
            new = await self._sets.merge(key_of(new), patch)
        await self._mark(deployment, wanted.get(rollout.REVISION, ""), found=new)
        return new

    async def _create(self, deployment: Obj, old: Sequence[Obj], revision: int) -> Obj | None:
        metadata, spec = deployment["metadata"], deployment["spec"]
        collisions = (deployment.get("status") or {}).get("collisionCount", 0)
        digest = rollout.template_hash(spec["template"], collisions)
        template = {**spec["template"], "metadata": dict(spec["template"].get("metadata") or {})}
        template["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), rollout.HASH_LABEL: digest}
        selector = spec["selector"]
        matched = {**(selector.get("matchLabels") or {}), rollout.HASH_LABEL: digest}
        replicas = spec.get("replicas", 1)
        surge, _ = rollout.limits(deployment)
        if spec["strategy"].get("type") == "RollingUpdate":
            room = replicas + surge - sum(map(rollout.size_of, old))
            size = max(0, min(replicas, room))
        else:
            size = replicas
        body: Obj = {
            "metadata": {
                "name": f"{metadata['name']}-{digest}",
                "namespace": metadata["namespace"],
                "labels": template["metadata"]["labels"],
                "annotations": {
                    **rollout.copied_annotations(deployment),
                    rollout.REVISION: str(revision),
                    **self._sizes(deployment),
                },
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {
                "replicas": size,
                "selector": {**selector, "matchLabels": matched},
                "template": template,
            },
        }
        if spec.get("minReadySeconds"):
            body["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        try:
            new = await self._sets.create(body)
        except ApiFailure as failure:
            if failure.code == 409 and self._sets.get(metadata["namespace"], body["metadata"]["name"]) is not None:
                status = {**(deployment.get("status") or {}), "collisionCount": collisions + 1}
                await self._deployments.report(deployment, status)
            raise
        await self._mark(deployment, str(revision), created=new)
        if size:
            told = f"Scaled up replica set {new['metadata']['name']} from 0 to {size}"
            await self._recorder.event(deployment, "ScalingReplicaSet", told)
        return new

    def _sizes(self, deployment: Obj) -> dict[str, str]:
        replicas = deployment["spec"].get("replicas", 1)
        most = replicas + rollout.limits(deployment)[0]
        return {rollout.DESIRED: str(replicas), rollout.MAXIMUM: str(most if replicas else 0)}

    async def _mark(
        self, deployment: Obj, revision: str, *, created: Obj | None = None, found: Obj | None = None
    ) -> None:
        """Write the revision, and that a set was created or found, into the Deployment."""
        metadata = deployment["metadata"]
        marked = not revision or (metadata.get("annotations") or {}).get(rollout.REVISION) == revision
        conditions = list((deployment.get("status") or {}).get("conditions") or [])
        progressing = any(one["type"] == "Progressing" for one in conditions)
        about = created or found
        if about is None or (marked and created is None and progressing):
            return
        if not marked:
            annotations = {**(metadata.get("annotations") or {}), rollout.REVISION: revision}
            deployment = {**deployment, "metadata": {**metadata, "annotations": annotations}}
        name = about["metadata"]["name"]
        reason, told = ("NewReplicaSetCreated", f'Created new replica set "{name}"')
        if created is None:
            reason, told = ("FoundNewReplicaSet", f'Found new replica set "{name}"')
        status = dict(deployment.get("status") or {})
        if created is not None or not progressing:
            entry = {"type": "Progressing", "status": "True", "reason": reason, "message": told}
            status["conditions"] = set_condition(conditions, entry, stamp(), extra={"lastUpdateTime": stamp()})
        await self._deployments.replace({**deployment, "status": status}, "status")

    async def _resize(self, deployment: Obj, sizes: dict[str, int]) -> None:
        namespace = deployment["metadata"]["namespace"]
        for one in self._sets.owned(deployment["metadata"]["uid"]):
            name = one["metadata"]["name"]
            size, before = sizes.get(name, rollout.size_of(one)), rollout.size_of(one)
            annotations = one["metadata"].get("annotations") or {}
            marks = self._sizes(deployment)
            if size == before and (not size or marks.items() <= annotations.items()):
                continue
            patch = {"metadata": {"annotations": marks}, "spec": {"replicas": size}}
            await self._sets.merge((namespace, name), patch)
            if size != before:
                word = "up" if size > before else "down"
                told = f"Scaled {word} replica set {name} from {before} to {size}"
                await self._recorder.event(deployment, "ScalingReplicaSet", told)

    async def _clean(self, deployment: Obj, old: list[Obj]) -> None:
        """Delete what is beyond revisionHistoryLimit."""
        limit = deployment["spec"].get("revisionHistoryLimit", 10)
        if not rollout.is_complete(deployment, deployment.get("status") or {}):
            return
        empty = [
            one
            for one in old
            if not rollout.size_of(one)
            and not (one.get("status") or {}).get("replicas")
            and not one["metadata"].get("deletionTimestamp")
        ]
        for one in sorted(empty, key=rollout.revision_of)[: max(0, len(empty) - limit)]:
            meta = one["metadata"]
            await self._client.delete(REPLICASETS.path(meta["namespace"], meta["name"]))

    async def _report(self, deployment: Obj, new: Obj | None, sets: Sequence[Obj]) -> float | None:
        now = datetime.now(UTC)
        status = rollout.status_of(deployment, new, sets)
        conditions, again = _conditions(deployment, status, new, now)
        if conditions:
            status["conditions"] = conditions
        await self._deployments.report(deployment, status)
        return again


def _conditions(deployment: Obj, status: Obj, new: Obj | None, now: datetime) -> tuple[list[Obj], float | None]:
    """The conditions of a Deployment, and when to look again for its deadline."""
    spec, before = deployment["spec"], deployment.get("status") or {}
    conditions = list(before.get("conditions") or [])
    replicas = spec.get("replicas", 1)
    _, unavailable = rollout.limits(deployment)
    enough = status.get("availableReplicas", 0) >= replicas - unavailable
    entry = {
        "type": "Available",
        "status": "True" if enough else "False",
        "reason": "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        "message": f"Deployment {'has' if enough else 'does not have'} minimum availability.",
    }
    conditions = set_condition(conditions, entry, stamp(now), extra={"lastUpdateTime": stamp(now)})
    if spec.get("progressDeadlineSeconds") in (None, 2147483647):
        return [one for one in conditions if one["type"] != "Progressing"], None
    progress, again = _progress(deployment, status, new, now)
    if progress is not None:
        extra = {"lastUpdateTime": stamp(now)}
        current = next((one for one in conditions if one["type"] == "Progressing"), {})
        moved = any(current.get(name) != progress[name] for name in ("status", "reason", "message"))
        if moved or _advanced(status, before):
            kept = [one for one in conditions if one["type"] != "Progressing"]
            same = current.get("status") == progress["status"]
            since = current["lastTransitionTime"] if same else stamp(now)
            conditions = [*kept, {**progress, "lastTransitionTime": since, **extra}]
    return conditions, again


def _advanced(status: Obj, before: Obj) -> bool:
    """Whether more new pods, or fewer old ones, are there than before."""
    old, now_old = (one.get("replicas", 0) - one.get("updatedReplicas", 0) for one in (before, status))
    names = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return now_old < old or any(status.get(name, 0) > before.get(name, 0) for name in names)


def _progress(deployment: Obj, status: Obj, new: Obj | None, now: datetime) -> tuple[Obj | None, float | None]:
    name = f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{deployment["metadata"]["name"]}"'
    before = deployment.get("status") or {}
    current = next((one for one in before.get("conditions") or [] if one["type"] == "Progressing"), None)

    def entry(held: str, reason: str, told: str) -> Obj:
        return {"type": "Progressing", "status": held, "reason": reason, "message": told}

    if deployment["spec"].get("paused"):
        if current is not None and current["reason"] == "DeploymentPaused":
            return None, None
        return entry("Unknown", "DeploymentPaused", "Deployment is paused"), None
    if current is not None and current["reason"] == "DeploymentPaused":
        return entry("Unknown", "DeploymentResumed", "Deployment is resumed"), 0.01
    done = current is not None and current["reason"] == "NewReplicaSetAvailable"
    if done and status.get("updatedReplicas", 0) == status.get("replicas", 0):
        return None, None
    if rollout.is_complete(deployment, status) and new is not None:
        return entry("True", "NewReplicaSetAvailable", f"{name} has successfully progressed."), None
    if current is None:
        return None, None
    if _advanced(status, before) or (current["reason"] == "DeploymentResumed" and new is None):
        return entry("True", "ReplicaSetUpdated", f"{name} is progressing."), None
    if done or current["reason"] == "ProgressDeadlineExceeded":
        return None, None
    deadline = parse_time(current["lastUpdateTime"]) + timedelta(seconds=deployment["spec"]["progressDeadlineSeconds"])
    if now >= deadline:
        return entry("False", "ProgressDeadlineExceeded", f"{name} has timed out progressing."), None
    return None, (deadline - now).total_seconds() + 0.5
