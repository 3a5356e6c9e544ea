"""One ModelDeployment as its status tells it. PURE; what every command reads instead of raw JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

Body = Mapping[str, Any]

GROUP = "modeldeploy.dev"


class Verdict(StrEnum):
    """What a machine wants to know of a rollout."""

    HEALTHY = "Healthy"  # the newest spec is live and serving
    FAILED = "Failed"  # it will not become so without a person
    WAITING = "Waiting"  # it may still become so


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why pods of one revision do not serve."""

    revision: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server of the stable revision: its image, and the image that a new revision of the same spec would have."""

    image: str
    current_image: str
    is_outdated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """How the rollout of one revision ended."""

    revision: str
    version: str
    result: str
    reason: str
    message: str
    at: str
    requested_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One ModelDeployment. Revisions are hashes, empty where there is none; weights are percent.

    `is_asked`: a user requested an undo or a retry that the operator has not answered yet.
    """

    name: str
    namespace: str
    phase: str
    message: str
    is_current: bool
    is_ready: bool
    is_paused: bool
    stable: str
    canary: str
    aborted: str
    step: str
    step_index: int
    step_started_at: datetime | None
    steps: tuple[Body, ...]
    weight: int
    version: str
    url: str
    pauses: tuple[str, ...]
    failures: tuple[Failure, ...]
    history: tuple[Past, ...]
    metrics: tuple[Body, ...] = ()
    is_asked: bool = False
    server: Server | None = None

    @classmethod
    def from_body(cls, body: Body) -> Self:
        """Read an object of the API server; one without status is one that nobody has looked at yet."""
        metadata, spec, status = body["metadata"], body.get("spec", {}), body.get("status") or {}
        started = status.get("stepStartedAt")
        return cls(
            name=metadata["name"],
            namespace=metadata.get("namespace", ""),
            phase=status.get("phase", "Pending"),
            message=status.get("message", ""),
            is_current=status.get("observedGeneration") == metadata.get("generation"),
            is_ready=_condition(status, "Ready") == "True",
            is_paused=bool(spec.get("paused")),
            stable=status.get("stableRevision", ""),
            canary=status.get("canaryRevision", ""),
            aborted=status.get("abortedRevision", ""),
            step=status.get("step", ""),
            step_index=status.get("currentStepIndex", 0),
            step_started_at=datetime.fromisoformat(started) if started else None,
            steps=tuple((spec.get("strategy", {}).get("canary") or {}).get("steps", ())),
            weight=status.get("weights", {}).get("desired", 0),
            version=status.get("model", {}).get("version", ""),
            url=status.get("url", ""),
            pauses=tuple(one["reason"] for one in status.get("pauseConditions", ())),
            failures=tuple(
                Failure(revision=one["revision"], reason=one["reason"], message=one.get("message", ""))
                for one in status.get("podFailures", ())
            ),
            history=tuple(_past(one) for one in status.get("history", ())),
            metrics=tuple((status.get("analysis") or {}).get("metrics", ())),
            is_asked=_is_asked(metadata.get("annotations") or {}, status),
            server=_server(status.get("server")),
        )

    @property
    def verdict(self) -> Verdict:
        """Healthy, failed, or still on its way."""
        if not self.is_current or self.is_asked:
            return Verdict.WAITING
        if self.is_ready:
            return Verdict.HEALTHY
        return Verdict.FAILED if self.phase == "Degraded" else Verdict.WAITING

    @property
    def other_failures(self) -> tuple[Failure, ...]:
        """The failures of pods that `message` does not tell already."""
        return tuple(one for one in self.failures if f"{one.reason}: {one.message}" not in self.message)

    def weight_of(self, revision: str) -> int:
        """Percent of the traffic that a revision is to take."""
        if revision == self.canary:
            return self.weight
        return 100 - (self.weight if self.canary else 0) if revision == self.stable else 0


def _is_asked(annotations: Body, status: Body) -> bool:
    """Whether a request was not answered yet: annotations change no generation."""
    answered = status.get("handledTokens") or {}
    asked = {word: annotations.get(f"{GROUP}/{word}") for word in ("undo", "retry")}
    return any(value and answered.get(word) != value for word, value in asked.items())


def _condition(status: Body, type_: str) -> str:
    return next((str(one["status"]) for one in status.get("conditions", ()) if one["type"] == type_), "Unknown")


def _server(raw: Body | None) -> Server | None:
    if not raw:
        return None
    return Server(image=raw["image"], current_image=raw["currentImage"], is_outdated=raw["outdated"])


def _past(raw: Body) -> Past:
    return Past(
        revision=raw["revision"],
        version=raw.get("version", ""),
        result=raw["result"],
        reason=raw.get("reason", ""),
        message=raw.get("message", ""),
        at=raw.get("at", ""),
        requested_by=raw.get("requestedBy", ""),
    )
