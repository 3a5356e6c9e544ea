"""What the list keeps of one ModelDeployment: a few words and numbers, and why it needs attention. PURE."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Self

from modeldeploy.plain import plain
from modeldeploy.rollout import Rollout

Body = Mapping[str, Any]

#: Pauses that end by themselves, or by a field of the spec.
_ENDS_BY_ITSELF = frozenset({"RouterMissing", "ProviderUnavailable", "EvaluationError", "Gate"})
_STRATEGIES = {"canary": "canary", "blueGreen": "blue-green", "abTest": "A/B test", "rollingUpdate": "rolling update"}


class Rank(IntEnum):
    """The order in which models need attention."""

    DEGRADED = 0
    ABORTED = 1
    STALLED = 2
    UNREADABLE = 3
    PAUSED = 4
    FAILING = 5
    BAD_INPUTS = 6
    DRIFTING = 7
    NONE = 9


@dataclass(frozen=True, slots=True)
class Attention:
    """One reason why a person should look, in a word and a sentence."""

    rank: Rank
    word: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One ModelDeployment in the list. `problem` says why the rest is empty."""

    namespace: str
    name: str
    created: datetime | None
    labels: tuple[tuple[str, str], ...] = ()
    strategy: str = ""
    phase: str = "Unknown"
    message: str = ""
    step: str = ""
    weight: int = 0
    stable: str = ""
    canary: str = ""
    version: str = ""
    attention: tuple[Attention, ...] = ()
    problem: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name

    @classmethod
    def from_body(cls, body: Body) -> Self:
        """Read an object of the API server; one of another shape than this version knows says so."""
        metadata = body["metadata"]
        namespace, name = str(metadata.get("namespace", "")), str(metadata["name"])
        try:
            return cls._read(plain(body))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = (
                f"This version of modeldeploy cannot read it ({type(error).__name__}: {error}); upgrade modeldeploy."
            )
            unreadable = Attention(Rank.UNREADABLE, "Unreadable", message)
            return cls(namespace=namespace, name=name, created=None, problem=message, attention=(unreadable,))

    @classmethod
    def _read(cls, body: Body) -> Self:
        rollout, metadata = Rollout.from_body(body), body["metadata"]
        created = metadata.get("creationTimestamp")
        return cls(
            namespace=rollout.namespace,
            name=rollout.name,
            created=datetime.fromisoformat(created) if created else None,
            labels=tuple(sorted((str(key), str(value)) for key, value in (metadata.get("labels") or {}).items())),
            strategy=strategy_of(body),
            phase=str(rollout.phase),
            message=str(rollout.message),
            step=str(rollout.step),
            weight=int(rollout.weight) if rollout.canary else 0,
            stable=str(rollout.stable),
            canary=str(rollout.canary),
            version=str(rollout.version),
            attention=tuple(sorted(_attention(rollout, body), key=lambda one: one.rank)),
        )


def strategy_of(body: Body) -> str:
    """Return the name of the strategy; an unknown one is shown as it is written."""
    strategy = (body.get("spec") or {}).get("strategy") or {}
    return next((_STRATEGIES.get(name, name) for name in strategy), "rolling update")


def waits_for_a_person(rollout: Rollout) -> bool:
    """Whether the rollout goes on only when a person promotes or resumes it."""
    if rollout.is_paused:
        return True
    if rollout.phase != "Paused" or not rollout.pauses or rollout.pauses[0] in _ENDS_BY_ITSELF:
        return False
    return not (rollout.pauses[0] == "PauseStep" and _has_duration(rollout))


def _has_duration(rollout: Rollout) -> bool:
    if not 0 <= rollout.step_index < len(rollout.steps):
        return False
    return bool((rollout.steps[rollout.step_index].get("pause") or {}).get("duration"))


def _attention(rollout: Rollout, body: Body) -> Iterator[Attention]:
    status = body.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    stalled = conditions.get("Stalled", {})
    if rollout.aborted and not rollout.canary:
        message = (status.get("rollback") or {}).get("message") or rollout.message
        yield Attention(Rank.ABORTED, "Aborted", message)
    elif rollout.phase == "RollingBack":
        yield Attention(Rank.ABORTED, "Rolling back", rollout.message)
    elif rollout.phase == "Degraded":
        yield Attention(Rank.DEGRADED, "Degraded", rollout.message)
    elif stalled.get("status") == "True":
        yield Attention(Rank.STALLED, "Stalled", stalled.get("message") or rollout.message)
    if waits_for_a_person(rollout) and not rollout.aborted:
        yield Attention(Rank.PAUSED, "Waits for a person", rollout.message)
    if rollout.failures and rollout.phase != "Degraded" and not rollout.aborted:
        failure = rollout.failures[0]
        yield Attention(Rank.FAILING, "Pods fail", f"{failure.reason}: {failure.message}")
    inputs = conditions.get("DataQuality", {})
    if inputs.get("status") == "False":
        yield Attention(Rank.BAD_INPUTS, "Bad inputs", inputs.get("message") or "")
    if reason := (status.get("retraining") or {}).get("reason"):
        yield Attention(Rank.DRIFTING, "Needs training", reason)
