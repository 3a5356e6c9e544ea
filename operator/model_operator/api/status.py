"""`status` of a ModelDeployment as one frozen value.

Facts from which the rest follows: the operator persists them before it acts on them, so that a
restart between any two writes repeats the same step and no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from model_operator.api.times import format_time, parse_time

Body = Mapping[str, Any]


class Phase(StrEnum):
    """Where a model is in its life."""

    PENDING = "Pending"  # the first revision is not ready yet
    PROGRESSING = "Progressing"  # a new revision is on its way
    PAUSED = "Paused"  # the rollout waits; pauseConditions say for what
    PROMOTING = "Promoting"  # the new revision takes all traffic, then the old one drains
    ROLLING_BACK = "RollingBack"  # the traffic goes back to stable
    HEALTHY = "Healthy"  # stable serves what the spec asks for
    DEGRADED = "Degraded"  # stable serves, or should, but the spec's revision failed
    TERMINATING = "Terminating"  # the resource is being deleted


class Mode(StrEnum):
    """How a rollout goes about its steps."""

    STEPS = "Steps"  # the strategy's steps, in order
    FAST = "Fast"  # back to a revision that was live before: no steps
    RESCUE = "Rescue"  # stable serves nobody: only the steps that need no traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Percent of the traffic for the canary: asked for, told to the router, and counted."""

    desired: int = 0
    applied: int = 0
    applied_at: datetime | None = None
    programmed_at: datetime | None = None
    observed: float | None = None
    verified: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseCondition:
    """Why the rollout waits, and since when."""

    reason: str
    start_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """Why a rollout went back: one word and one sentence."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFailure:
    """Why pods of a revision do not serve. `permanent` is known to the operator alone."""

    revision: str
    reason: str
    message: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """How the rollout of one revision ended."""

    revision: str
    result: str
    reason: str
    at: datetime
    message: str = ""
    version: str = ""
    uri: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """The model as its server reported it."""

    uri: str = ""
    version: str = ""
    format: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The object at a storage URI: its fingerprint is another one when its bytes are."""

    uri: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """A request to train a model again, and when its hook accepted it.

    `job` is the name of the Job where the hook is one; `problem` is why it was not taken at the last try, or why
    the Job failed.
    """

    requested_at: datetime
    reason: str
    revision: str
    notified_at: datetime | None = None
    job: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredAnnotation:
    """An annotation of ours that has no effect: its full name, its value, and why."""

    name: str
    value: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition, as Kubernetes writes them. `status` is True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: datetime
    observed_generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is, and what the operator has decided to do next."""

    observed_generation: int = 0
    phase: Phase = Phase.PENDING
    message: str = ""
    url: str = ""
    replicas: int = 0
    ready_replicas: int = 0
    selector: str = ""
    stable: str = ""
    canary: str = ""
    aborted: str = ""
    previous: str = ""
    model: ModelInfo | None = None
    source: Source | None = None
    retraining: Retraining | None = None
    mode: Mode = Mode.STEPS
    step: str = ""
    step_index: int = 0
    steps_hash: str = ""
    step_started_at: datetime | None = None
    rollout_started_at: datetime | None = None
    rollout_replicas: int = 0
    progressed_at: datetime | None = None
    endpoints_lost_at: datetime | None = None
    drain_started_at: datetime | None = None
    weights: Weights = field(default_factory=Weights)
    pauses: tuple[PauseCondition, ...] = ()
    rollback: Rollback | None = None
    analysis: Body | None = None
    evaluation: Body | None = None
    pod_failures: tuple[PodFailure, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    handled_tokens: Mapping[str, str] = field(default_factory=dict)
    ignored_annotations: tuple[IgnoredAnnotation, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @property
    def revisions(self) -> Set[str]:
        """The names of all revisions that the status speaks of."""
        named = (self.stable, self.canary, self.aborted, self.previous, *(entry.revision for entry in self.history))
        return frozenset(filter(None, named))

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of this type, if there is one."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


def status_from_body(body: Body) -> Status:
    """Read `status`; an absent one is that of a resource nobody has looked at yet."""
    weights = body.get("weights", {})
    rollback = body.get("rollback")
    return Status(
        observed_generation=body.get("observedGeneration", 0),
        phase=Phase(body.get("phase", "Pending")),
        message=body.get("message", ""),
        url=body.get("url", ""),
        replicas=body.get("replicas", 0),
        ready_replicas=body.get("readyReplicas", 0),
        selector=body.get("selector", ""),
        stable=body.get("stableRevision", ""),
        canary=body.get("canaryRevision", ""),
        aborted=body.get("abortedRevision", ""),
        previous=body.get("previousRevision", ""),
        model=ModelInfo(**body["model"]) if body.get("model") else None,
        source=_source(body["source"]) if body.get("source") else None,
        retraining=_retraining(body["retraining"]) if body.get("retraining") else None,
        mode=Mode(body.get("mode", "Steps")),
        step=body.get("step", ""),
        step_index=body.get("currentStepIndex", 0),
        steps_hash=body.get("currentStepHash", ""),
        step_started_at=_time(body.get("stepStartedAt")),
        rollout_started_at=_time(body.get("rolloutStartedAt")),
        rollout_replicas=body.get("rolloutReplicas", 0),
        progressed_at=_time(body.get("progressedAt")),
        endpoints_lost_at=_time(body.get("endpointsLostAt")),
        drain_started_at=_time(body.get("drainStartedAt")),
        weights=Weights(
            desired=weights.get("desired", 0),
            applied=weights.get("applied", 0),
            applied_at=_time(weights.get("appliedAt")),
            programmed_at=_time(weights.get("programmedAt")),
            observed=weights.get("observed"),
            verified=weights.get("verified"),
        ),
        pauses=tuple(
            PauseCondition(reason=raw["reason"], start_time=parse_time(raw["startTime"]))
            for raw in body.get("pauseConditions", ())
        ),
        rollback=Rollback(reason=rollback["reason"], message=rollback["message"]) if rollback else None,
        analysis=body.get("analysis"),
        evaluation=body.get("evaluation"),
        pod_failures=tuple(
            PodFailure(
                revision=raw["revision"],
                reason=raw["reason"],
                message=raw.get("message", ""),
                count=raw.get("count", 1),
            )
            for raw in body.get("podFailures", ())
        ),
        history=tuple(HistoryEntry(**{**raw, "at": parse_time(raw["at"])}) for raw in body.get("history", ())),
        handled_tokens=dict(body.get("handledTokens", {})),
        ignored_annotations=tuple(IgnoredAnnotation(**raw) for raw in body.get("ignoredAnnotations", ())),
        conditions=tuple(
            Condition(
                type=raw["type"],
                status=raw["status"],
                reason=raw["reason"],
                message=raw["message"],
                last_transition_time=parse_time(raw["lastTransitionTime"]),
                observed_generation=raw.get("observedGeneration", 0),
            )
            for raw in body.get("conditions", ())
        ),
    )


def status_to_body(status: Status) -> dict[str, Any]:
    """Write `status` as the CRD has it; what is absent or empty is left out, but for the weights."""
    weights = status.weights
    rolling = bool(status.canary)
    body: dict[str, Any] = {
        "observedGeneration": status.observed_generation,
        "phase": str(status.phase),
        "message": status.message,
        "url": status.url,
        "selector": status.selector,
        "stableRevision": status.stable,
        "canaryRevision": status.canary,
        "abortedRevision": status.aborted,
        "previousRevision": status.previous,
        "model": _present(vars_of(status.model)) if status.model else None,
        "source": _source_body(status.source) if status.source else None,
        "retraining": _retraining_body(status.retraining) if status.retraining else None,
        "mode": str(status.mode) if rolling else None,
        "step": status.step,
        "currentStepHash": status.steps_hash,
        "stepStartedAt": status.step_started_at,
        "rolloutStartedAt": status.rollout_started_at,
        "rolloutReplicas": status.rollout_replicas or None,
        "progressedAt": status.progressed_at,
        "endpointsLostAt": status.endpoints_lost_at,
        "drainStartedAt": status.drain_started_at,
        "pauseConditions": [
            {"reason": pause.reason, "startTime": format_time(pause.start_time)} for pause in status.pauses
        ],
        "rollback": vars_of(status.rollback) if status.rollback else None,
        "analysis": status.analysis,
        "evaluation": status.evaluation,
        "podFailures": [vars_of(failure) for failure in status.pod_failures],
        "history": [_present({**vars_of(entry), "at": format_time(entry.at)}) for entry in status.history],
        "handledTokens": dict(status.handled_tokens),
        "ignoredAnnotations": [vars_of(ignored) for ignored in status.ignored_annotations],
        "conditions": [_condition_body(condition) for condition in status.conditions],
    }
    body = _present({k: format_time(v) if isinstance(v, datetime) else v for k, v in body.items()})
    body["replicas"] = status.replicas
    body["readyReplicas"] = status.ready_replicas
    if rolling:
        body["currentStepIndex"] = status.step_index
        body["weights"] = _weights_body(weights)
    return body


def _source(raw: Body) -> Source:
    return Source(uri=raw["uri"], fingerprint=raw.get("fingerprint") or raw["mark"])


def _source_body(source: Source) -> dict[str, Any]:
    """Write the fingerprint under the first release's name too: without it a downgrade would be another revision."""
    return {"uri": source.uri, "fingerprint": source.fingerprint, "mark": source.fingerprint}


def _notified_at(raw: Body) -> datetime | None:
    """Read when the hook took a request; the first release kept only that it did."""
    text = raw.get("notifiedAt") or (raw["requestedAt"] if raw.get("told") else None)
    return _time(text)


def _retraining(raw: Body) -> Retraining:
    return Retraining(
        requested_at=parse_time(raw["requestedAt"]),
        reason=raw["reason"],
        revision=raw["revision"],
        notified_at=_notified_at(raw),
        job=raw.get("job", ""),
        problem=raw.get("problem", ""),
    )


def _retraining_body(known: Retraining) -> dict[str, Any]:
    return {
        "requestedAt": format_time(known.requested_at),
        "reason": known.reason,
        "revision": known.revision,
        "told": known.notified_at is not None,  # the word of the first release, for a downgrade
        **_present(
            {
                "notifiedAt": known.notified_at and format_time(known.notified_at),
                "job": known.job,
                "problem": known.problem,
            }
        ),
    }


def vars_of(value: Any) -> dict[str, Any]:
    """Return the fields of a slotted dataclass by name (they are spelled alike on the wire)."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _weights_body(weights: Weights) -> dict[str, Any]:
    optional = {
        "appliedAt": weights.applied_at and format_time(weights.applied_at),
        "programmedAt": weights.programmed_at and format_time(weights.programmed_at),
        "observed": weights.observed,
        "verified": weights.verified,
    }
    present = {name: value for name, value in optional.items() if value is not None}
    return {"desired": weights.desired, "applied": weights.applied, **present}


def _condition_body(condition: Condition) -> dict[str, Any]:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": format_time(condition.last_transition_time),
        "observedGeneration": condition.observed_generation,
    }


def _present(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value not in (None, "", [], {})}


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text)
