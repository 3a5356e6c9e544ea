"""A judged rollout as `status.analysis` and `status.history` tell it. PURE; what the page is drawn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

Body = Mapping[str, Any]


class NothingToReport(Exception):
    """No rollout of this resource has been judged; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Requests, and bad ones among them."""

    canary: int
    canary_bad: int
    stable: int
    stable_bad: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What was known of one metric at one time. `values` are by side: canary, stable, or the metric's own name."""

    counts: Counts | None
    evidence: float | None
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One look: when, the canary's weight in percent, and what was known of each metric."""

    at: datetime
    weight: int
    metrics: Mapping[str, Numbers]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRollout:
    """One rollout: who was compared with whom, how it ended, how the evidence grew, and the last word on each metric.

    `result` is empty while the rollout is on.
    """

    name: str
    namespace: str
    canary: str
    stable: str
    started: datetime
    ended: datetime | None
    result: str
    reason: str
    message: str
    points: tuple[Point, ...]
    metrics: tuple[Body, ...]

    @property
    def took(self) -> timedelta:
        """From the first evidence to the end, or to the last look."""
        return (self.ended or self.points[-1].at) - self.started

    @classmethod
    def from_body(cls, body: Body) -> Self:
        """Read an object of the API server.

        Raises:
            NothingToReport: its last rollout was not judged.
        """
        metadata, status = body["metadata"], body.get("status") or {}
        analysis = status.get("analysis") or {}
        samples = analysis.get("samples") or analysis.get("trail")  # the first release's word
        if not samples:
            raise NothingToReport(
                f"no rollout of {metadata['name']} was judged yet: change its model with strategy.canary,"
                " and send it requests while the rollout is on"
            )
        started = datetime.fromisoformat(analysis["startedAt"])
        end = _end(status.get("history", ()), analysis["revision"], started)
        is_on = status.get("canaryRevision") == analysis["revision"]
        return cls(
            name=metadata["name"],
            namespace=metadata.get("namespace", ""),
            canary=analysis["revision"],
            stable=analysis["stable"],
            started=started,
            ended=datetime.fromisoformat(end["at"]) if end else None,
            result=str(end.get("result", "")),
            reason=str(end.get("reason", "")),
            message=str(end.get("message", "")) or (str(status.get("message", "")) if is_on else ""),
            points=tuple(_point(raw) for raw in samples),
            metrics=tuple(analysis["metrics"]),
        )


def _end(history: Sequence[Body], revision: str, started: datetime) -> Body:
    """Return how the rollout ended; nothing while it is on."""
    ends = (one for one in history if one["revision"] == revision and datetime.fromisoformat(one["at"]) >= started)
    return next(ends, {})


def _point(raw: Body) -> Point:
    metrics = {name: _numbers(name, numbers) for name, numbers in raw["metrics"].items()}
    return Point(at=datetime.fromisoformat(raw["at"]), weight=raw["weight"], metrics=metrics)


def _numbers(name: str, raw: Body) -> Numbers:
    value = raw.get("value")
    by_side = value if isinstance(value, Mapping) else {} if value is None else {name: value}
    counts = raw.get("counts")
    return Numbers(
        counts=Counts(**dict(zip(Counts.__slots__, counts, strict=True))) if counts else None,
        evidence=raw.get("evidence"),
        values={side: float(one) for side, one in by_side.items()},
    )
