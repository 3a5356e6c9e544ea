"""Statuses, observations and resources for tables of decisions: a canary of four replicas behind a Gateway."""

from datetime import UTC, datetime, timedelta
from typing import Any

from model_operator.api.resource import ModelDeployment
from model_operator.api.status import (
    HistoryEntry,
    PauseCondition,
    Phase,
    Rollback,
    Status,
    Weights,
)
from model_operator.api.traffic import RouteView
from model_operator.api.values import replace
from model_operator.observation.values import FrontView, Observed, PodProblem, RevisionView
from model_operator.policy.decide import decide
from model_operator.policy.rollout.context import RolloutContext

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
JUST_NOW = NOW - timedelta(seconds=1)

GATEWAY = {"gatewayAPI": {"parentRefs": [{"name": "public"}]}, "propagationSeconds": 10}
STEPS = [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"analysis": {"minDuration": "5m", "maxDuration": "30m"}}]


def resource(
    status: Status, *, model: str = "new", tokens: dict[str, str] | None = None, **spec: Any
) -> ModelDeployment:
    canary = {"steps": STEPS, "trafficRouting": GATEWAY, **spec.pop("canary", {})}
    body = {
        "metadata": {
            "name": "fraud",
            "namespace": "default",
            "uid": "u",
            "generation": 2,
            "resourceVersion": "9",
            "annotations": {f"modeldeploy.dev/{name}": value for name, value in (tokens or {}).items()},
        },
        "spec": {
            "model": {"storageUri": f"s3://models/{model}"},
            "replicas": 4,
            "strategy": {"canary": canary},
            **spec,
        },
    }
    return replace(ModelDeployment.from_body(body), status=status)


OLD, NEW, THIRD = (resource(Status(), model=name).target for name in ("old", "new", "third"))


def view(revision: str, ready: int = 4, **facts: Any) -> RevisionView:
    return RevisionView(
        revision=revision,
        **{"desired": 4, "pods": ready, "ready": ready, "available": ready, "source": {"model": {}}, **facts},
    )


def observed(*views: RevisionView, weight: int = 0, **facts: Any) -> Observed:
    defaults: dict[str, Any] = {
        "front": FrontView(exists=True, revision=OLD),
        "route": RouteView(weight=weight),
    }
    return Observed(revisions={view.revision: view for view in views}, **{**defaults, **facts})


def rolling(index: int = 0, weight: int = 0, **facts: Any) -> Status:
    """A rollout from OLD to NEW, at a step and a weight that the router has acted on long ago."""
    status = Status(
        phase=Phase.PROGRESSING,
        stable=OLD,
        canary=NEW,
        step_index=index,
        step_started_at=JUST_NOW,
        rollout_started_at=JUST_NOW,
        progressed_at=JUST_NOW,
        weights=Weights(desired=weight, applied=weight, applied_at=LONG_AGO, programmed_at=LONG_AGO),
        history=(HistoryEntry(revision=OLD, result="Promoted", reason="FirstRevision", at=LONG_AGO),),
    )
    hashed = replace(status, steps_hash=_steps_hash(status))
    return replace(hashed, **facts)


def _steps_hash(status: Status) -> str:
    return RolloutContext(resource=resource(status), status=status, observed=Observed(), now=NOW).steps_hash


def paused(reason: str, **facts: Any) -> dict[str, Any]:
    return {"phase": Phase.PAUSED, "pauses": (PauseCondition(reason=reason, start_time=JUST_NOW),), **facts}


def decided(status: Status, observation: Observed, **wish: Any) -> Status:
    return decide(resource(status, **wish), observation, now=NOW, url="").status


BROKEN = PodProblem(reason="ArtifactNotFound", message="no such object", is_permanent=True)
CRASHED = PodProblem(reason="Error", message="boom", restarts=3)
REFUSED = PodProblem(reason="FailedCreate", message="exceeded quota: compute")
PULL = PodProblem(reason="ImagePullBackOff", message="Back-off pulling image: x: not found")
HEALTHY = Status(phase=Phase.HEALTHY, stable=OLD)
ABORTED = Status(
    phase=Phase.DEGRADED, stable=OLD, aborted=NEW, rollback=Rollback(reason="AbortRequested", message="asked")
)
BOTH = (view(OLD), view(NEW))


def check_row(status: Status, observation: Observed, wish: dict[str, Any], facts: dict[str, Any]) -> None:
    """Decide once, and compare fields of the new status; the same observation leads no further."""
    after = decided(status, observation, **wish)
    for name, value in facts.items():
        if name == "pause":
            assert [pause.reason for pause in after.pauses] == [value]
            continue
        found: Any = after
        for part in name.split("."):
            found = getattr(found, part)
        assert found == value, name
    again = decided(after, observation, **wish)
    assert again.weights.applied == after.weights.applied, "one observation is good for one change of the weight"
    if after.weights.applied == status.weights.applied:
        assert again == after
