"""The decision on one ModelDeployment: (spec, status, observation, now) -> (status, plan, Events)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter

from model_operator.api.resource import ModelDeployment
from model_operator.api.source import declared_version, moving_model
from model_operator.api.status import Phase, Status, Weights
from model_operator.api.traffic import TrafficSplit
from model_operator.observation.values import Observed
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.evaluation import Evaluation, evaluations
from model_operator.policy.rollout.replica_counts import autoscaler_is_suspended, sizes
from model_operator.policy.rollout.requeue import requeue_after
from model_operator.policy.rollout.routing import front_revision, split_of
from model_operator.policy.rollout.sleep import can_sleep, time_until_relieved
from model_operator.policy.rollout.state_machine import advance
from model_operator.policy.status.events import EventDraft, events
from model_operator.policy.status.report import report

#: Fields of status that are derived from the others or from the observation.
_DERIVED_FIELDS = {
    "observed_generation",
    "message",
    "url",
    "replicas",
    "ready_replicas",
    "selector",
    "model",
    "step",
    "pod_failures",
    "ignored_annotations",
    "conditions",
    "analysis",
    "retraining",
    "weights",
}
_STATE_FIELDS = attrgetter(*(name for name in Status.__struct_fields__ if name not in _DERIVED_FIELDS))
_WEIGHTS = attrgetter(*(name for name in Weights.__struct_fields__ if name not in ("observed", "verified")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby:
    """Activators that take the requests of a model: their port, and their addresses (None: those of before)."""

    port: int
    endpoints: Sequence[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Desired objects: the number of pods of each active revision, the revisions kept at zero, and the routing.

    `front` is the revision that the front Service selects, None for all. `autoscaled` are the
    revisions whose size is left to their autoscaler. `preview` is the revision behind the preview
    Service, empty without one. `target` is the revision of the spec. `evaluations` are the
    Jobs that evaluate revisions on labelled data, `retraining` is the name of the last training Job, which is kept.
    `standby` are the activators that take the requests while no pod does, None if pods do. `registered` has the
    versions of a registered model that revisions of an alias are known to be of.
    """

    target: str
    sizes: Mapping[str, int]
    kept: Sequence[str]
    front: str | None
    split: TrafficSplit
    autoscaled: Sequence[str] = ()
    #: Whether all traffic returns to stable: its autoscaler must not keep it below its size in `sizes`.
    is_returning: bool = False
    preview: str = ""
    evaluations: Sequence[Evaluation] = ()
    retraining: str = ""
    standby: Standby | None = None
    registered: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The status to persist, the plan to apply, the Events to record, and the longest time until the next pass."""

    status: Status
    plan: Plan
    events: Sequence[EventDraft]
    requeue_after: timedelta | None


def decide(resource: ModelDeployment, observed: Observed, *, now: datetime, url: str) -> Decision:
    """Decide on one ModelDeployment.

    The plan follows from the new status alone (and spec, observation, time), never from the
    transition that led to it: an operator that restarts after the status was written makes the same plan.
    """
    before = RolloutContext(resource=resource, status=resource.status, observed=observed, now=now)
    facts = advance(before)
    status = report(before.under(facts), url=url)
    after = before.under(status)
    is_moving = _facts_changed(resource.status, status)
    return Decision(
        status=status,
        plan=plan(after),
        events=tuple(events(resource.status, status)),
        requeue_after=timedelta(0) if is_moving else requeue_after(after),
    )


def plan(s: RolloutContext) -> Plan:
    """Return the desired objects under the current status."""
    replicas = sizes(s)
    return Plan(
        target=s.target,
        sizes=replicas,
        kept=kept_revisions(s, replicas),
        front=front_revision(s),
        split=split_of(s),
        autoscaled=autoscaled(s),
        is_returning=s.status.phase is Phase.ROLLING_BACK or s.is_superseded,
        evaluations=evaluations(s),
        retraining=s.status.retraining.job if s.status.retraining else "",
        preview=s.status.canary if getattr(s.spec.strategy, "preview_service", False) else "",
        standby=standby(s),
        registered=registered_versions(s),
    )


def registered_versions(s: RolloutContext) -> Mapping[str, str]:
    """Return the version of each revision whose URI may name others, as servers reported it or the poll found it."""
    found: dict[str, str] = {}
    for view in s.observed.revisions.values():
        uri = (view.source or {}).get("model", {}).get("storageUri", "")
        version = view.model.version if view.model else ""
        registered = moving_model(uri)
        if registered is not None and registered.may_be(version):
            found[view.revision] = version
    uri = s.spec.model.storage_uri
    if moving_model(uri) and (polled := declared_version(uri, s.target_fingerprint)):
        found[s.target] = polled
    return found


def standby(s: RolloutContext) -> Standby | None:
    """Return the activators that take the requests of a model without a pod, and for a moment next to its first one."""
    sleep = s.status.sleep
    if sleep is None:
        return None
    is_needed = s.status.phase in (Phase.SLEEPING, Phase.WAKING) or time_until_relieved(s) > timedelta(0)
    if not is_needed:
        return None
    return Standby(port=sleep.port, endpoints=s.observed.activator.endpoints)


def autoscaled(s: RolloutContext) -> Sequence[str]:
    """Return the revisions with an autoscaler of their own.

    Where the number of pods splits the traffic, autoscalers are suspended during a rollout. A sleeping model has none.
    """
    if s.spec.autoscaling is None or autoscaler_is_suspended(s) or s.status.phase is Phase.SLEEPING:
        return ()
    if can_sleep(s) and s.spec.autoscaling.max_replicas == 1:
        return ()  # a model that is awake has one pod
    if s.status.canary and s.splits_requests:
        return (s.status.stable, s.status.canary)
    return (s.status.stable,)


def kept_revisions(s: RolloutContext, active: Mapping[str, int]) -> Sequence[str]:
    """Return the old revisions to keep at zero pods for a fast undo: the newest promoted ones.

    A revision that still has ready pods is also kept until they are gone.
    """
    promoted = [entry.revision for entry in s.status.history if entry.result == "Promoted"]
    exist = [r for r in dict.fromkeys(promoted) if r in s.observed.revisions and r not in active]
    kept = exist[: s.spec.revision_history_limit]
    leaving = [v.revision for v in s.observed.revisions.values() if v.ready and v.revision not in active]
    return tuple(dict.fromkeys([*kept, *leaving]))


def _facts_changed(old: Status, new: Status) -> bool:
    """Whether a transition was made, so that the next pass should follow at once."""
    return _STATE_FIELDS(old) != _STATE_FIELDS(new) or _WEIGHTS(old.weights) != _WEIGHTS(new.weights)
