"""Applies a plan: applies objects that are absent or differ, deletes the others, and reports rejected writes."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from model_operator.api.json import Body
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.engine.cache import Cache
from model_operator.engine.events import EventRecorder
from model_operator.errors import ApiError
from model_operator.manifests.drift import applied_hash, has_drifted, needs_apply
from model_operator.manifests.pods import PodSettings
from model_operator.observation.values import Observed
from model_operator.policy.decide import Plan
from model_operator.policy.status.events import EventDraft
from model_operator.ports import Cluster
from model_operator.rendering import EXCLUSIVELY_OWNED_FIELDS, render

LiveObjects = Mapping[tuple[str, str], Body]
#: Not a conflict (409), which is retried at once: here a user must act.
_NOT_OURS = 422


class Children:
    """Writes the objects of ModelDeployments. `missing_kinds` are the kinds that the cluster does not have."""

    def __init__(
        self, cluster: Cluster, cache: Cache, recorder: EventRecorder, settings: PodSettings, missing_kinds: set[str]
    ) -> None:
        self._cluster, self._cache, self._recorder = cluster, cache, recorder
        self._settings, self._missing_kinds = settings, missing_kinds
        #: Inputs of the last pass that needed no write, by key; equal inputs are skipped.
        self._settled: dict[ObjectKey, tuple[Any, ...]] = {}
        #: Generation and message of the last rejected write, by key.
        self._refusals: dict[ObjectKey, tuple[int, str]] = {}

    def refusal(self, resource: ModelDeployment) -> str:
        """Return the object of the resource that could not be written, and why; empty if there is none."""
        generation, message = self._refusals.get(resource.key, (0, ""))
        return message if generation == resource.generation else ""

    def forget(self, key: ObjectKey) -> None:
        """Drop the state of a deleted resource."""
        self._settled.pop(key, None)
        self._refusals.pop(key, None)

    async def write(self, resource: ModelDeployment, plan: Plan, observed: Observed, live: LiveObjects) -> bool:
        """Apply the plan; return whether another pass is needed, which is the case after a write or a rejection.

        Raises:
            ApiError: an object was rejected, or has another owner; the stages after it were not written.
        """
        inputs = (resource.uid, resource.generation, plan, frozenset(self._missing_kinds), _versions(live))
        if self._settled.get(resource.key) == inputs:
            return self._is_over(resource.key)
        stages = list(render(resource, plan, observed, live, self._settings))
        desired = [child for stage in stages for child in stage]
        has_written = False
        for stage in stages:
            has_written |= await self._write_stage(resource, stage, live)
        has_written |= await self._delete_unwanted(resource, desired, live)
        if not has_written:
            self._settled[resource.key] = inputs
        return self._is_over(resource.key) or has_written

    async def _write_stage(self, resource: ModelDeployment, stage: Sequence[Body], live: LiveObjects) -> bool:
        """Write the objects that need it, concurrently; return whether there were any.

        Raises:
            ApiError: that of the first rejected object. The others of the stage are written nevertheless.
        """
        found = [(child, live.get((child["kind"], child["metadata"]["name"]))) for child in stage]
        writes = [
            self._apply(resource, child, existing)
            for child, existing in found
            if child["kind"] not in self._missing_kinds and self._needs_apply(child, existing)
        ]
        if len(writes) == 1:
            await writes[0]
        elif writes:
            for outcome in await asyncio.gather(*writes, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
        return bool(writes)

    def _is_over(self, key: ObjectKey) -> bool:
        """Drop the rejection of a resource; return whether there was one, which the status still reports."""
        return self._refusals.pop(key, None) is not None

    async def _apply(self, resource: ModelDeployment, child: Body, existing: Body | None) -> None:
        self._report_drift(resource, child, existing)
        try:
            answer = await (self._create(resource, child) if existing is None else self._cluster.apply(child))
        except ApiError as error:
            if error.is_rejection:
                self._report_rejection(resource, child, error)
            raise
        self._cache.upsert(dict(answer))
        # The response counts as what was sent: comparing them would start a fight with a mutating
        # admission webhook.
        self._cache.verified(answer, applied_hash(child))

    async def _create(self, resource: ModelDeployment, child: Body) -> Body:
        """Create an object that is not in the cache; it may exist nevertheless, and may have another owner."""
        try:
            return await self._cluster.apply_new(child)
        except ApiError as error:
            if not error.is_conflict:
                raise
        kind, name = child["kind"], child["metadata"]["name"]
        found = await self._cluster.find(kind, ObjectKey(resource.key.namespace, name))
        if found is not None and not is_owned(found, resource.uid):
            message = f"a {kind} of this name exists and has another owner{_owner(found)}; delete it, or rename the "
            raise ApiError(_NOT_OURS, "AlreadyExists", message + "ModelDeployment")
        return await self._cluster.apply(child)

    def _report_rejection(self, resource: ModelDeployment, child: Body, error: ApiError) -> None:
        what, why = f"{child['kind']} {child['metadata']['name']}", error.reason or error.status
        text = f"{what} cannot be written: {why}: {error.message}"
        self._refusals[resource.key] = (resource.generation, text)
        self._recorder.record(resource, EventDraft("ApplyFailed", text, is_warning=True))

    def _needs_apply(self, desired: Body, live: Body | None) -> bool:
        desired_hash = applied_hash(desired)
        if live is not None and self._cache.is_verified(live, desired_hash):
            return False
        if needs_apply(desired, live, EXCLUSIVELY_OWNED_FIELDS.get(desired["kind"], ())):
            return True
        if live is not None:
            self._cache.verified(live, desired_hash)
        return False

    def _report_drift(self, resource: ModelDeployment, desired: Body, live: Body | None) -> None:
        if live is None or applied_hash(live) != applied_hash(desired):
            return
        if has_drifted(desired, live, EXCLUSIVELY_OWNED_FIELDS.get(desired["kind"], ())):
            what = f"{desired['kind']} {desired['metadata']['name']}"
            message = f"another writer changed managed fields of the {what}; the operator restores them"
            self._recorder.record(resource, EventDraft("DriftCorrected", message, is_warning=True))

    async def _delete_unwanted(self, resource: ModelDeployment, desired: Sequence[Body], live: LiveObjects) -> bool:
        has_deleted = False
        names = {(child["kind"], child["metadata"]["name"]) for child in desired}
        for (kind, name), child in live.items():
            if (kind, name) in names or kind == "Pod" or "deletionTimestamp" in child["metadata"]:
                continue
            if is_owned(child, resource.uid):
                self._cache.expect_deletion(dict(child))
                child_key = ObjectKey(resource.key.namespace, name)
                await self._cluster.delete(kind, child_key, child["metadata"]["uid"])
                self._cache.remove(dict(child))
                has_deleted = True
        return has_deleted


def _versions(children: LiveObjects) -> Mapping[tuple[str, str], str]:
    """Return the versions of the rendered objects; pods are not rendered, and change all the time."""
    return {key: body["metadata"]["resourceVersion"] for key, body in children.items() if key[0] != "Pod"}


def _owner(child: Body) -> str:
    """Return the owner of an object in parentheses; empty if it has none."""
    owners = child["metadata"].get("ownerReferences") or ()
    return "".join(f" (the {owner['kind']} {owner['name']})" for owner in owners[:1])


def is_owned(child: Body, uid: str) -> bool:
    """Whether an object belongs to the ModelDeployment of this uid."""
    references = child["metadata"].get("ownerReferences") or ()
    return any(reference.get("uid") == uid for reference in references)
