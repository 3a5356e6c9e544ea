"""The revisions of a model: what each serves, with how many pods, why pods fail, and whether undo leads back. PURE."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modeldeploy.dashboard.exposition import Series
from modeldeploy.dashboard.view.pods import Pod, ready_of
from modeldeploy.rollout import Failure, Rollout

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One revision. `role` is stable, canary, aborted or earlier; `digest` is the artifact's SHA-256."""

    name: str
    role: str
    weight: str
    version: str
    uri: str
    digest: str
    image: str
    ready: int
    pods: tuple[Pod, ...]
    failures: tuple[Failure, ...]
    can_undo: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """How one rollout ended."""

    revision: str
    version: str
    result: str
    reason: str
    message: str
    at: datetime | None
    is_live: bool


def revisions_of(
    rollout: Rollout, body: Body, pods: Sequence[Pod], answers: Sequence[tuple[str, Sequence[Series]]]
) -> list[Revision]:
    """Return the revisions that serve, were aborted, have pods, or were live before: in this order.

    Args:
        answers: what each pod says, with its revision: of a canary, only its pods know the digest.
    """
    status = body.get("status") or {}
    with_pods = sorted({pod.revision for pod in pods})
    earlier = [past.revision for past in rollout.history if past.result == "Promoted"]
    named = [rollout.stable, rollout.canary, rollout.aborted, *with_pods, *earlier]
    undo = {past.revision for past in rollout.history if past.revision != rollout.stable}
    loaded = {
        revision: one.labels for revision, series in answers for one in series if one.name == "modeldeploy_model_info"
    }
    return [
        _revision(name, rollout, status, pods, undo if not rollout.canary else (), loaded.get(name) or {})
        for name in dict.fromkeys(named)
        if name
    ]


def _revision(
    name: str, rollout: Rollout, status: Body, pods: Sequence[Pod], undo: Collection[str], loaded: Body
) -> Revision:
    roles = {rollout.stable: "stable", rollout.canary: "canary", rollout.aborted: "aborted"}
    role = roles.get(name, "earlier")
    past: Body = next((one for one in status.get("history") or () if one["revision"] == name), {})
    model: Body = status.get("model") or {}
    known = model if role == "stable" and model else past or loaded
    own = tuple(pod for pod in pods if pod.revision == name)
    server: Body = status.get("server") or {}
    image = own[0].image if own else str(server.get("image", "")) if role == "stable" else ""
    return Revision(
        name=name,
        role=role,
        weight=f"{rollout.weight_of(name)} %" if role in ("stable", "canary") else "",
        version=str(known.get("version", "")),
        uri=str(known.get("uri", "")),
        digest=str(known.get("sha256", "")),
        image=image,
        ready=ready_of(pods, name)[0],
        pods=own,
        failures=tuple(failure for failure in rollout.failures if failure.revision == name),
        can_undo=name in undo,
    )


def history_of(rollout: Rollout) -> list[Past]:
    """Return how the rollouts ended, newest first; where the live revision last went live is marked."""
    live = next((one for one in rollout.history if one.revision == rollout.stable and one.result == "Promoted"), None)
    return [
        Past(
            revision=one.revision,
            version=one.version,
            result=one.result,
            reason=one.reason,
            message=one.message,
            at=datetime.fromisoformat(one.at) if one.at else None,
            is_live=one is live,
        )
        for one in rollout.history
    ]
