"""One pass over one ModelDeployment: observe, decide, persist the intent, act, report."""

import dataclasses
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from model_operator.api.identity import asked_for
from model_operator.api.merge_patch import merge_patch
from model_operator.api.resource import ModelDeployment, ObjectKey, version_of
from model_operator.api.status import Phase, status_to_body
from model_operator.api.version import KIND
from model_operator.engine.applier import Children, Found
from model_operator.engine.cache import Cache
from model_operator.engine.events import EventRecorder
from model_operator.engine.gate_poller import GatePoller
from model_operator.engine.metrics_collector import MetricsCollector
from model_operator.engine.notifier import Notifier
from model_operator.engine.retraining import Retrainer
from model_operator.errors import InvalidSpec
from model_operator.manifests.pods import PodSettings
from model_operator.observation.observe import observe
from model_operator.observation.values import Observed
from model_operator.policy.decide import Decision, decide
from model_operator.policy.status.events import EventDraft
from model_operator.policy.status.invalid_spec import invalid_spec_patch
from model_operator.ports import Clock, Cluster

log = logging.getLogger(__name__)

Body = Mapping[str, Any]


class Reconciler:
    """Makes the cluster what spec, status and what is seen ask for."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        evidence: MetricsCollector,
        recorder: EventRecorder,
        clock: Clock,
        settings: PodSettings,
        missing_kinds: set[str],
        gatekeeper: GatePoller,
        notifier: Notifier,
        retrainer: Retrainer,
    ) -> None:
        self._cluster, self._cache, self._evidence = cluster, cache, evidence
        self._recorder, self._clock, self._missing_kinds = recorder, clock, missing_kinds
        self._gatekeeper, self._notifier, self._retrainer = gatekeeper, notifier, retrainer
        self._children = Children(cluster, cache, recorder, settings, missing_kinds)

    async def reconcile(self, key: ObjectKey) -> timedelta | None:
        """Do one pass; return when to look again at the latest.

        Raises:
            ApiError: a write was refused; the pass has to be repeated.
        """
        body = self._cache.resource(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            self._cache.lost_a_child.discard(key)
            self._children.forget(key)
            await self._mark_terminating(body)
            return None
        if key in self._cache.lost_a_child and not await self._still_exists(key, body):
            return None
        try:
            resource = self._cache.get(key)
        except InvalidSpec as error:
            log.warning("%s/%s: %s", *key, error)
            await self._tell_misunderstood(body, str(error))
            return None
        if resource is None:
            return None
        live = self._cache.children(key)
        observed = self._observe(resource, live)
        if await self._undo(resource, observed):
            return timedelta(0)
        decision = decide(resource, observed, now=self._clock.now(), url=url_of(resource))
        before = resource
        resource, is_overtaken = await self._persist(resource, body, decision)
        has_written = await self._children.write(resource, decision.plan, observed, live)
        self._notifier.notify(before, decision.status)
        for item in decision.news:
            self._recorder.record(resource, item)
        # What we wrote ourselves no watch will tell us again: look once more.
        return timedelta(0) if has_written or is_overtaken else decision.requeue_after

    async def _mark_terminating(self, body: Body | None) -> None:
        """While the children of a resource go before it, its phase says so; ownerReferences do the rest."""
        if body is None or (body.get("status") or {}).get("phase") == Phase.TERMINATING:
            return
        told = {"phase": str(Phase.TERMINATING), "message": "what belongs to it is being deleted"}
        self._cache.upsert(dict(await self._cluster.patch_status(version_of(body), told)))

    async def _tell_misunderstood(self, body: Body, problem: str) -> None:
        """Say in status and by an Event that a spec is not understood; what it asked for before goes on as it is."""
        patch = invalid_spec_patch(body, problem, self._clock.now())
        if patch:
            self._recorder.record_for(body, EventDraft("InvalidSpec", problem, is_warning=True))
            self._cache.upsert(dict(await self._cluster.patch_status(version_of(body), patch)))

    def _observe(self, resource: ModelDeployment, live: Found) -> Observed:
        return observe(
            resource,
            live,
            models=self._evidence.models(resource.key),
            traffic=self._evidence.traffic(resource),
            verdict=self._evidence.verdict(resource),
            missing_kinds=frozenset(self._missing_kinds),
            gates=self._gatekeeper.answers(resource),
            retrain=self._retrainer.view(resource),
            refusal=self._children.refusal(resource.key),
        )

    async def _still_exists(self, key: ObjectKey, body: Body) -> bool:
        """Ask once before a lost child is made again: its resource may be gone, and we merely remember it."""
        found = await self._cluster.find(KIND, key)
        self._cache.lost_a_child.discard(key)
        if found is not None and found["metadata"]["uid"] == body["metadata"]["uid"]:
            return True
        self._cache.remove(dict(body))
        return False

    async def _undo(self, resource: ModelDeployment, observed: Observed) -> bool:
        """Write what the revision that an undo token names was made from back into the spec; return whether."""
        wanted = resource.tokens.get("undo", "")
        revision = wanted.partition("@")[0]
        if not wanted or resource.status.handled_tokens.get("undo") == wanted:
            return False
        source = observed.revision(revision).source
        if source is None:
            known = ", ".join(sorted(observed.revisions)) or "none"
            told = EventDraft("UndoImpossible", f"no revision {revision!r} is kept; kept are: {known}", is_warning=True)
            self._recorder.record(resource, told)
            return False
        patch = merge_patch(asked_for(resource.spec.revision_source), asked_for(source))
        if patch:
            # Repeated after a kill it finds nothing left to patch; only then the token counts as handled.
            self._cache.upsert(dict(await self._cluster.patch_spec(resource, {"spec": patch})))
            return True
        status = dataclasses.replace(resource.status, handled_tokens={**resource.status.handled_tokens, "undo": wanted})
        body = status_to_body(status)
        answer = await self._cluster.patch_status(resource, {"handledTokens": body["handledTokens"]})
        self._cache.upsert(dict(answer))
        return True

    async def _persist(self, resource: ModelDeployment, body: Body, decision: Decision) -> tuple[ModelDeployment, bool]:
        """Write the status if it changed: the intent is on record before anything follows from it.

        Returns the resource as it is now, and whether somebody wrote into it after us.
        """
        if decision.status == resource.status:
            return resource, False
        patch = merge_patch(body.get("status") or {}, status_to_body(decision.status))
        is_overtaken = False
        if patch:
            with self._cache.suppress_echo(resource.key):
                answer = dict(await self._cluster.patch_status(resource, patch))
                version = answer["metadata"]["resourceVersion"]
                is_overtaken = self._cache.upsert_own_write(resource.key, answer)
            resource = dataclasses.replace(resource, resource_version=version)
        return dataclasses.replace(resource, status=decision.status), is_overtaken


def url_of(resource: ModelDeployment) -> str:
    """Return where requests go that pass through the split."""
    gateway = resource.spec.gateway
    if gateway is not None and gateway.hostnames:
        return f"http://{gateway.hostnames[0]}{gateway.path_prefix.rstrip('/')}"
    return f"{resource.spec.server.scheme}://{resource.name}.{resource.key.namespace}.svc"
