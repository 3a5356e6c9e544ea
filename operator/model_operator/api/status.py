"""`status` of a ModelDeployment as one frozen value.

The operator persists the status before it acts on it, so that a restart between any two writes repeats the same step
and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import field

from model_operator.api.json import Body, JsonObject
from model_operator.api.values import Value

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Phase(StrEnum):
    """Phase of the lifecycle of a model."""

    PENDING = "Pending"  # the first revision is not ready yet
    PROGRESSING = "Progressing"  # a new revision is being rolled out
    PAUSED = "Paused"  # the rollout waits; pauseConditions have the reason
    PROMOTING = "Promoting"  # all traffic shifts to the new revision, then the old one drains
    ROLLING_BACK = "RollingBack"  # the traffic shifts back to stable
    HEALTHY = "Healthy"  # stable is the revision of the spec, and serves
    DEGRADED = "Degraded"  # the revision of the spec failed; stable serves, or should
    SLEEPING = "Sleeping"  # no pod runs, since no request came; the next one wakes the model
    WAKING = "Waking"  # the first pod of a model that slept is not ready yet; requests are held
    TERMINATING = "Terminating"  # the resource is being deleted


class Mode(StrEnum):
    """Which steps a rollout takes."""

    STEPS = "Steps"  # the strategy's steps, in order
    FAST = "Fast"  # rollback to a revision that was live before: no steps
    RESCUE = "Rescue"  # stable has no ready pod: only the steps that need no traffic


class Weights(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Percentage of the traffic for the canary: desired, applied to the router, and observed."""

    desired: int = 0
    applied: int = 0
    applied_at: Time | None = None
    programmed_at: Time | None = None
    observed: float | None = None
    verified: bool | None = None


#: Separates the user from the rest of a request.
REQUESTED_BY = " by "


class PauseCondition(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Reason and start time of a pause. `message` has the numbers, if any."""

    reason: str
    start_time: Time
    message: str = ""


class RequestAnswer(Value, frozen=True):
    """Response of the operator to the value of a request annotation."""

    value: str
    is_accepted: bool = field(name="accepted")
    message: str

    @property
    def revision(self) -> str:
        """Revision that the request names."""
        return self.value.partition("@")[0]

    @property
    def user(self) -> str:
        """User who made the request (`REVISION@SUFFIX by USER`); empty if the value names none."""
        return self.value.partition(REQUESTED_BY)[2]


class Rollback(Value, frozen=True, kw_only=True):
    """Reason (one CamelCase word) and message of a rollback."""

    reason: str
    message: str


class PodFailure(Value, frozen=True, kw_only=True):
    """A failure that keeps pods of a revision from serving, and the number of these pods."""

    revision: str
    reason: str
    message: str = ""
    count: int = 1


class HistoryEntry(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Result of the rollout of one revision."""

    revision: str
    result: str
    reason: str
    at: Time
    message: str = ""
    version: str = ""
    uri: str = ""
    sha256: str = ""
    requested_by: str = ""


class ModelInfo(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The model as its server reported it."""

    uri: str = ""
    version: str = ""
    format: str = ""
    sha256: str = ""


class ServerInfo(Value, frozen=True, kw_only=True):
    """The server of a revision: its image, and the image that a new revision of the same spec would have."""

    image: str
    current_image: str
    is_outdated: bool = field(name="outdated")


class Source(Value, frozen=True, kw_only=True):
    """The object at a storage URI; its fingerprint changes with its content."""

    uri: str
    fingerprint: str


class Retraining(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A request to train a model again, and the time at which its hook accepted it.

    `job` is the name of the Job if the hook is one; `problem` is the error of the last attempt or of the Job.
    """

    requested_at: Time
    reason: str
    revision: str
    notified_at: Time | None = None
    job: str = ""
    problem: str = ""


class Sleep(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Sleep of a model: the port at which activators take its requests, and its last changes.

    `since` is None while the model is awake. `cause` is that of the last wake, as the beginning of a sentence, and
    `ready_at` the time at which its first pod was available.
    """

    port: int
    since: Time | None = None
    woken_at: Time | None = None
    ready_at: Time | None = None
    cause: str = ""


class IgnoredAnnotation(Value, frozen=True, kw_only=True):
    """An annotation of modeldeploy.dev that has no effect: its full name, its value, and the reason."""

    name: str
    value: str
    message: str


class Condition(Value, frozen=True, kw_only=True):
    """One condition, as Kubernetes writes them. `status` is True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: Time
    observed_generation: int = 0


class Status(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Observed state of a ModelDeployment, and the next action that the operator has decided on."""

    observed_generation: int = 0
    phase: Phase = Phase.PENDING
    message: str = ""
    url: str = ""
    replicas: int = 0
    ready_replicas: int = 0
    selector: str = ""
    stable: str = field(name="stableRevision", default="")
    canary: str = field(name="canaryRevision", default="")
    aborted: str = field(name="abortedRevision", default="")
    previous: str = field(name="previousRevision", default="")
    model: ModelInfo | None = None
    server: ServerInfo | None = None
    source: Source | None = None
    retraining: Retraining | None = None
    sleep: Sleep | None = None
    mode: Mode = Mode.STEPS
    step: str = ""
    step_index: int = field(name="currentStepIndex", default=0)
    steps_hash: str = field(name="currentStepHash", default="")
    step_started_at: Time | None = None
    rollout_started_at: Time | None = None
    rollout_replicas: int = 0
    progressed_at: Time | None = None
    progressed_replicas: int = 0
    endpoints_lost_at: Time | None = None
    drain_started_at: Time | None = None
    weights: Weights = Weights()
    pauses: tuple[PauseCondition, ...] = field(name="pauseConditions", default=())
    rollback: Rollback | None = None
    analysis: Body | None = None
    evaluation: Body | None = None
    replay: Body | None = None
    pod_failures: tuple[PodFailure, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    handled_tokens: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, RequestAnswer] = field(name="requests", default_factory=dict)
    ignored_annotations: tuple[IgnoredAnnotation, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @property
    def revisions(self) -> Set[str]:
        """Names of all revisions in the status."""
        named = (self.stable, self.canary, self.aborted, self.previous, *(entry.revision for entry in self.history))
        return frozenset(filter(None, named))

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of this type, if there is one."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


#: Fields that are always written; the others are omitted when they are absent or empty.
_ALWAYS: Body = {"observedGeneration": 0, "phase": "Pending", "replicas": 0, "readyReplicas": 0}
#: Fields that are always written while there is a canary, and never without one.
_DURING_ROLLOUT: Body = {"mode": "Steps", "currentStepIndex": 0}
_WEIGHTS: Body = {"desired": 0, "applied": 0}
_WHOLE_SECONDS = len("2026-01-01T00:00:00Z")
#: Lists, and the time fields of their items.
_LISTS: Mapping[str, tuple[str, ...]] = {
    "pauseConditions": ("startTime",),
    "podFailures": (),
    "history": ("at",),
    "ignoredAnnotations": (),
    "conditions": ("lastTransitionTime",),
}
_MAYBE_EMPTY = ("model", "analysis", "evaluation", "replay")
_TIMES = ("stepStartedAt", "rolloutStartedAt", "progressedAt", "endpointsLostAt", "drainStartedAt")
_TIMES_OF: Mapping[str, tuple[str, ...]] = {
    "weights": ("appliedAt", "programmedAt"),
    "retraining": ("requestedAt", "notifiedAt"),
    "sleep": ("since", "wokenAt", "readyAt"),
}


def status_from_body(body: Body) -> Status:
    """Read `status`, which is empty before the first reconcile.

    Raises:
        msgspec.ValidationError: a field has another type than in the definition, as in one of a newer operator.
    """
    return msgspec.convert(_from_first_release(body), Status)


def status_to_body(status: Status) -> JsonObject:
    """Write `status` as the definition has it.

    Timestamps have microseconds, so that clocks survive a restart exactly.
    """
    body: JsonObject = {**_ALWAYS, **msgspec.to_builtins(status)}
    _write_microseconds(body, _TIMES)
    for name, times in _TIMES_OF.items():
        if name in body:
            _write_microseconds(body[name], times)
    for name, times in _LISTS.items():
        if name in body:
            body[name] = list(body[name])
            for item in body[name]:
                _write_microseconds(item, times)
    for name in _MAYBE_EMPTY:
        if body.get(name) == {}:
            del body[name]
    weights = {**_WEIGHTS, **body.pop("weights", {})}
    if status.canary:
        return _for_first_release({**_DURING_ROLLOUT, **body, "weights": weights})
    for name in _DURING_ROLLOUT:
        body.pop(name, None)
    return _for_first_release(body)


def _write_microseconds(body: JsonObject, times: Iterable[str]) -> None:
    """Give the fields `times` six digits after the second, also where these are 0, as every release wrote them."""
    for name in times:
        text = body.get(name)
        if text is not None and len(text) == _WHOLE_SECONDS:
            body[name] = f"{text[:-1]}.000000Z"


def _from_first_release(body: Body) -> Body:
    """Return a status with the field names of the first release (`mark`, `told`) replaced by the current ones."""
    source, retraining = body.get("source"), body.get("retraining")
    if source and not source.get("fingerprint"):
        body = {**body, "source": {**source, "fingerprint": source["mark"]}}
    if retraining and retraining.get("told") and not retraining.get("notifiedAt"):
        # The first release recorded that the hook accepted the request, not when.
        body = {**body, "retraining": {**retraining, "notifiedAt": retraining["requestedAt"]}}
    return body


def _for_first_release(body: JsonObject) -> JsonObject:
    """Add the field names of the first release to a status: without them a downgrade would create a revision."""
    if source := body.get("source"):
        source["mark"] = source["fingerprint"]
    if retraining := body.get("retraining"):
        retraining["told"] = "notifiedAt" in retraining
    return body
