"""One reconcile of one ModelDeployment: observe, decide, persist the intent, act, report."""

import json
import logging
from datetime import timedelta

from model_operator.api.json import Body
from model_operator.api.merge_patch import merge_patch
from model_operator.api.resource import ModelDeployment, ObjectKey, version_of
from model_operator.api.status import Phase, RequestAnswer, status_to_body
from model_operator.api.values import replace
from model_operator.api.version import KIND
from model_operator.engine.activation import Activation
from model_operator.engine.applier import Children, LiveObjects
from model_operator.engine.cache import Cache
from model_operator.engine.events import EventRecorder
from model_operator.engine.gate_poller import GatePoller
from model_operator.engine.metrics_collector import MetricsCollector
from model_operator.engine.notifier import Notifier
from model_operator.engine.replayer import Replayer
from model_operator.engine.retraining import Retrainer
from model_operator.engine.startup_events import StartupEvents
from model_operator.errors import InvalidSpec
from model_operator.manifests.pods import PodSettings
from model_operator.manifests.strategic_merge import check_overlay
from model_operator.observation.observe import observe
from model_operator.observation.values import Observed
from model_operator.policy.admission import Admission
from model_operator.policy.decide import Decision, decide
from model_operator.policy.rollout.sleep import check_schedules
from model_operator.policy.rollout.undo import undo
from model_operator.policy.status.audit import decisions
from model_operator.policy.status.events import EventDraft
from model_operator.policy.status.invalid_spec import (
    INTERNAL_ERROR,
    internal_error_patch,
    invalid_spec_patch,
    reason_of,
)
from model_operator.policy.status.report import waits_for_model
from model_operator.ports import Clock, Cluster
from model_operator.routers import FrontAddress, router_for

log = logging.getLogger(__name__)
#: One line for each decision, as JSON; `logs.py` says where it goes.
audit = logging.getLogger("model_operator.audit")


class Reconciler:
    """Reconciles ModelDeployments one at a time."""

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
        replayer: Replayer,
        notifier: Notifier,
        retrainer: Retrainer,
        activation: Activation,
        admission: Admission,
        starts: StartupEvents,
    ) -> None:
        self._cluster, self._cache, self._evidence = cluster, cache, evidence
        self._recorder, self._clock, self._missing_kinds = recorder, clock, missing_kinds
        self._gatekeeper, self._notifier, self._retrainer = gatekeeper, notifier, retrainer
        self._settings, self._admission, self._replayer = settings, admission, replayer
        self._activation, self._starts = activation, starts
        #: uid and generation that the policies allow, by key.
        self._admitted: dict[ObjectKey, tuple[str, int]] = {}
        self._children = Children(cluster, cache, recorder, settings, missing_kinds)

    async def reconcile(self, key: ObjectKey) -> timedelta | None:
        """Reconcile one resource; return the longest time until its next pass, None without a limit.

        Raises:
            ApiError: a write was rejected; the pass must be repeated.
        """
        body = self._cache.resource(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            self._cache.lost_a_child.discard(key)
            self._children.forget(key)
            self._admitted.pop(key, None)
            await self._mark_terminating(body)
            return None
        if key in self._cache.lost_a_child and not await self._still_exists(key, body):
            return None
        try:
            resource = self._cache.get(key)
            if resource is not None:
                check_overlay(resource.spec.server.pod_template, "spec.server.podTemplate")
                check_schedules(resource.spec.autoscaling, self._clock.now())
                self._check_policies(resource)
        except InvalidSpec as error:
            log.warning("%s/%s: %s", *key, error)
            await self._report_invalid(body, error)
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
        for entry in decisions(before, decision.status, self._clock.now()):
            audit.info(json.dumps(entry))
        for item in decision.events:
            self._recorder.record(resource, item)
        if waits_for_model(decision.status):
            self._evidence.ask(key)
        # The cache suppresses watch events of the operator's own writes: make another pass.
        return timedelta(0) if has_written or is_overtaken else decision.requeue_after

    async def _mark_terminating(self, body: Body | None) -> None:
        """Set the phase of a resource that is being deleted; garbage collection deletes its children."""
        if body is None or (body.get("status") or {}).get("phase") == Phase.TERMINATING:
            return
        change = {"phase": str(Phase.TERMINATING), "message": "the objects of this resource are being deleted"}
        self._cache.upsert(dict(await self._cluster.patch_status(version_of(body), change)))

    def _check_policies(self, resource: ModelDeployment) -> None:
        """Check each generation once, since policies do not change while the operator runs.

        Raises:
            NotAllowed: a policy refuses it.
        """
        generation = (resource.uid, resource.generation)
        if self._admitted.get(resource.key) != generation:
            self._admission.check(resource)
            self._admitted[resource.key] = generation

    async def _report_invalid(self, body: Body, error: InvalidSpec) -> None:
        """Report an invalid or refused spec in the status and by an Event; existing objects stay unchanged."""
        patch = invalid_spec_patch(body, error, self._clock.now())
        if patch:
            self._recorder.record_for(body, EventDraft(reason_of(error), str(error), is_warning=True))
            self._cache.upsert(dict(await self._cluster.patch_status(version_of(body), patch)))

    async def report_bug(self, key: ObjectKey, error: Exception) -> None:
        """Report an unexpected error of the operator in the status and by an Event."""
        body = self._cache.resource(key)
        patch = internal_error_patch(body, error, self._clock.now()) if body is not None else {}
        if body is not None and patch:
            self._recorder.record_for(body, EventDraft(INTERNAL_ERROR, patch["message"], is_warning=True))
            self._cache.upsert(dict(await self._cluster.patch_status(version_of(body), patch)))

    def _observe(self, resource: ModelDeployment, live: LiveObjects) -> Observed:
        return observe(
            resource,
            live,
            models=self._evidence.models(resource.key),
            asked=self._evidence.asked(resource.key),
            traffic=self._evidence.traffic(resource),
            verdict=self._evidence.verdict(resource),
            missing_kinds=frozenset(self._missing_kinds),
            gates=self._gatekeeper.answers(resource),
            replay=self._replayer.view(resource),
            retrain=self._retrainer.view(resource),
            settings=self._settings,
            activator=self._activation.view(resource),
            idle_since=self._evidence.idle_since(resource.key),
            refusal=self._children.refusal(resource),
            starting=self._starts.messages(resource.key),
        )

    async def _still_exists(self, key: ObjectKey, body: Body) -> bool:
        """Read the resource before a lost child is created again: it may be deleted, and the cache stale."""
        found = await self._cluster.find(KIND, key)
        self._cache.lost_a_child.discard(key)
        if found is not None and found["metadata"]["uid"] == body["metadata"]["uid"]:
            return True
        self._cache.remove(dict(body))
        return False

    async def _undo(self, resource: ModelDeployment, observed: Observed) -> bool:
        """Do the next write of an undo that a user requested; return whether there was one."""
        following = undo(resource, observed)
        if following is None:
            return False
        if not isinstance(following, RequestAnswer):
            self._cache.upsert(dict(await self._cluster.patch_spec(resource, {"spec": following})))
            return True
        if not following.is_accepted:
            self._recorder.record(resource, EventDraft("UndoImpossible", following.message, is_warning=True))
        status = replace(
            resource.status,
            handled_tokens={**resource.status.handled_tokens, "undo": following.value},
            answers={**resource.status.answers, "undo": following},
        )
        body = status_to_body(status)
        patch = {"handledTokens": body["handledTokens"], "requests": body["requests"]}
        self._cache.upsert(dict(await self._cluster.patch_status(resource, patch)))
        return True

    async def _persist(self, resource: ModelDeployment, body: Body, decision: Decision) -> tuple[ModelDeployment, bool]:
        """Write the status if it changed, so that the intent is persisted before the operator acts on it.

        Returns the new version of the resource, and whether another writer changed it after the operator.
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
            resource = replace(resource, resource_version=version)
        return replace(resource, status=decision.status), is_overtaken


def url_of(resource: ModelDeployment) -> str:
    """Return the URL for requests that pass through the traffic split."""
    front = FrontAddress(resource.name, resource.key.namespace, resource.spec.server.scheme)
    return router_for(resource.spec.routing).url(front)
