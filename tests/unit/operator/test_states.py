"""The state table of a rollout, row by row: what is seen in a state, and what follows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from model_operator.api.resource import ModelDeployment
from model_operator.api.status import (
    HistoryEntry,
    Mode,
    ModelInfo,
    PauseCondition,
    Phase,
    RequestAnswer,
    Rollback,
    Status,
    Weights,
)
from model_operator.api.strategy import parse_strategy
from model_operator.api.traffic import RouteView
from model_operator.api.values import replace
from model_operator.errors import InvalidSpec
from model_operator.observation.values import FrontView, Observed, Outcome, PodProblem, RevisionView, Traffic, Verdict
from model_operator.policy.decide import decide
from model_operator.policy.rollout.annotations import answer_the_rest, ignored_annotations
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.undo import undo

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


def seen(*views: RevisionView, weight: int = 0, **facts: Any) -> Observed:
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


def told(status: Status, observed: Observed, **wish: Any) -> Status:
    return decide(resource(status, **wish), observed, now=NOW, url="").status


BROKEN = PodProblem(reason="ArtifactNotFound", message="no such object", is_permanent=True)
CRASHED = PodProblem(reason="Error", message="boom", restarts=3)
REFUSED = PodProblem(reason="FailedCreate", message="exceeded quota: compute")
PULL = PodProblem(reason="ImagePullBackOff", message="Back-off pulling image: x: not found")
HEALTHY = Status(phase=Phase.HEALTHY, stable=OLD)
ABORTED = Status(
    phase=Phase.DEGRADED, stable=OLD, aborted=NEW, rollback=Rollback(reason="AbortRequested", message="asked")
)
BOTH = (view(OLD), view(NEW))

ROWS = [
    # status, observed, wish, what shall hold
    pytest.param(
        Status(), seen(), {}, {"phase": Phase.PENDING, "stable": NEW}, id="a new resource: its revision is stable"
    ),
    pytest.param(
        Status(phase=Phase.PENDING, stable=NEW, progressed_at=JUST_NOW),
        seen(view(NEW)),
        {},
        {"phase": Phase.HEALTHY},
        id="Pending, endpoints ready: Healthy, without steps",
    ),
    pytest.param(
        Status(phase=Phase.PENDING, stable=OLD, progressed_at=LONG_AGO),
        seen(view(OLD, 0)),
        {},
        {"stable": NEW, "progressed_at": NOW},
        id="Pending, the spec changes: the newer revision takes the place",
    ),
    pytest.param(
        Status(phase=Phase.PENDING, stable=NEW, progressed_at=LONG_AGO),
        seen(view(NEW, 0)),
        {},
        {"phase": Phase.DEGRADED},
        id="Pending past the deadline: Degraded",
    ),
    pytest.param(
        HEALTHY,
        seen(view(OLD)),
        {},
        {"phase": Phase.PROGRESSING, "canary": NEW, "mode": Mode.STEPS},
        id="Healthy, another hash: Progressing at step 0",
    ),
    pytest.param(
        replace(HEALTHY, history=(HistoryEntry(revision=NEW, result="Promoted", reason="x", at=LONG_AGO),)),
        seen(view(OLD), view(NEW, 0, desired=0)),
        {},
        {"phase": Phase.PROMOTING, "canary": NEW, "mode": Mode.FAST},
        id="Healthy, a kept revision that was live: fast, without steps",
    ),
    pytest.param(
        HEALTHY,
        seen(view(OLD, 0, problems=(CRASHED,))),
        {},
        {"phase": Phase.PROMOTING, "canary": NEW, "mode": Mode.RESCUE},
        id="stable serves nobody: the new revision needs no steps",
    ),
    pytest.param(
        HEALTHY,
        seen(view(OLD)),
        {"paused": True},
        {"phase": Phase.HEALTHY, "canary": ""},
        id="Healthy and paused: nothing starts",
    ),
    pytest.param(
        rolling(),
        seen(view(OLD), view(NEW, 0)),
        {},
        {"phase": Phase.PROGRESSING, "weights.applied": 0},
        id="canary not ready, deadline not hit: weight 0, waiting",
    ),
    *(
        pytest.param(
            rolling(),
            seen(view(OLD), view(NEW, 0, problems=(problem,))),
            {},
            {"phase": Phase.DEGRADED, "aborted": NEW, "rollback.reason": problem.reason},
            id=f"{problem.reason}, {problem.restarts} restarts: back at once",
        )
        for problem in (BROKEN, CRASHED, PULL)
    ),
    pytest.param(
        rolling(progressed_at=LONG_AGO),
        seen(view(OLD), view(NEW, 0)),
        {},
        {"phase": Phase.DEGRADED, "aborted": NEW, "rollback.reason": "ProgressDeadlineExceeded"},
        id="the deadline is over: back, which without traffic is done at once",
    ),
    pytest.param(
        rolling(progressed_at=LONG_AGO),
        seen(view(OLD), view(NEW, 0)),
        {"progressDeadlineAbort": False},
        {"phase": Phase.PAUSED, "pause": "ProgressDeadlineExceeded"},
        id="the deadline is over, but nothing shall be aborted: Paused",
    ),
    pytest.param(
        rolling(),
        seen(*BOTH),
        {},
        {"weights.desired": 25, "weights.applied": 25, "weights.programmed_at": None},
        id="setWeight, pods ready: the weight is written",
    ),
    pytest.param(
        rolling(0, 25, weights=Weights(desired=25, applied=25, applied_at=JUST_NOW)),
        seen(*BOTH, weight=25),
        {},
        {"step_index": 0, "weights.programmed_at": NOW},
        id="setWeight, programmed: it has to settle",
    ),
    pytest.param(
        rolling(0, 25),
        seen(*BOTH, weight=25),
        {},
        {"step_index": 1, "phase": Phase.PAUSED, "pause": "PauseStep"},
        id="setWeight, programmed and settled: next step",
    ),
    pytest.param(
        rolling(0, 25),
        seen(*BOTH, weight=25, traffic=Traffic(stable=1000, canary=0)),
        {},
        {"phase": Phase.PAUSED, "pause": "RouteNotProgrammed", "weights.applied": 0},
        id="the counted share is not the weight: the weight before comes back, Paused",
    ),
    pytest.param(
        rolling(0, 25, weights=Weights(desired=25, applied=25, applied_at=LONG_AGO)),
        seen(*BOTH, route=RouteView(is_programmed=False, weight=25, message="refused")),
        {},
        {"phase": Phase.PAUSED, "pause": "RouteNotProgrammed", "weights.applied": 0},
        id="route not programmed for two minutes: Paused",
    ),
    pytest.param(
        rolling(0, 25),
        seen(*BOTH, route=RouteView(is_programmed=False, weight=None, missing="no HTTPRoute")),
        {},
        {"phase": Phase.PAUSED, "pause": "RouterMissing"},
        id="the router's kind is missing: Paused",
    ),
    pytest.param(
        rolling(1, 25, **paused("RouterMissing")),
        seen(*BOTH, weight=25),
        {},
        {"phase": Phase.PAUSED, "pause": "PauseStep"},
        id="the router is back: it goes on by itself",
    ),
    pytest.param(
        rolling(2, 25),
        seen(view(OLD), view(NEW, 0), weight=25),
        {},
        {"phase": Phase.PROGRESSING, "weights.applied": 0, "endpoints_lost_at": NOW},
        id="weight above 0, no ready endpoint: weight 0 now, hold",
    ),
    pytest.param(
        rolling(2, 25),
        seen(*BOTH, weight=25, verdict=Verdict(outcome=Outcome.FAIL, message="E 30 of 20")),
        {},
        {"phase": Phase.ROLLING_BACK, "rollback.reason": "AnalysisFailed", "rollback.message": "E 30 of 20"},
        id="a metric fails: RollingBack, with the numbers",
    ),
    pytest.param(
        rolling(2, 25),
        seen(*BOTH, weight=25),
        {"tokens": {"abort": NEW}},
        {"phase": Phase.ROLLING_BACK, "rollback.reason": "AbortRequested"},
        id="abort token: RollingBack",
    ),
    pytest.param(
        rolling(2, 25),
        seen(*BOTH, weight=25),
        {"tokens": {"abort": THIRD}},
        {"phase": Phase.PROGRESSING, "weights.applied": 50},
        id="a token for another revision does nothing",
    ),
    pytest.param(
        rolling(3, 50, step_started_at=NOW - timedelta(minutes=6)),
        seen(*BOTH, weight=50, verdict=Verdict(outcome=Outcome.PASS)),
        {},
        {"phase": Phase.PROMOTING, "weights.desired": 100},
        id="analysis, all pass and minDuration over: next step, here promotion",
    ),
    pytest.param(
        rolling(3, 50),
        seen(*BOTH, weight=50, verdict=Verdict(outcome=Outcome.PASS)),
        {},
        {"phase": Phase.PROGRESSING, "step_index": 3},
        id="analysis, all pass before minDuration: it soaks",
    ),
    pytest.param(
        rolling(3, 50, step_started_at=LONG_AGO),
        seen(*BOTH, weight=50),
        {},
        {"phase": Phase.PAUSED, "pause": "AnalysisInconclusive"},
        id="analysis undecided at maxDuration: Paused",
    ),
    pytest.param(
        rolling(2, 25),
        seen(*BOTH, weight=25),
        {"model": "third"},
        {"phase": Phase.PROGRESSING, "canary": NEW, "weights.applied": 0},
        id="the hash changes again: first the weight goes to 0",
    ),
    pytest.param(
        rolling(2, 0),
        seen(*BOTH, weight=0),
        {"model": "third"},
        {"phase": Phase.PROGRESSING, "canary": THIRD, "step_index": 0},
        id="and once the router has acted the third revision starts",
    ),
    pytest.param(
        rolling(2, 25),
        seen(*BOTH, weight=25),
        {"model": "old"},
        {"phase": Phase.ROLLING_BACK, "rollback.reason": "Reverted"},
        id="the hash is stable's again: RollingBack, as a revert",
    ),
    pytest.param(
        rolling(0, 25),
        seen(*BOTH, weight=25),
        {"canary": {"steps": [{"setWeight": 10}, {"setWeight": 40}]}},
        {"canary": NEW, "step_index": 1, "weights.desired": 40},
        id="only the steps change: on at the first step that asks for no less",
    ),
    pytest.param(
        rolling(1, 25, **paused("PauseStep")),
        seen(*BOTH, weight=25),
        {"tokens": {"promote": f"{NEW}@1"}},
        {"phase": Phase.PROGRESSING, "step_index": 2},
        id="Paused, promote token: Progressing",
    ),
    pytest.param(
        rolling(1, 25, **paused("PauseStep")),
        seen(*BOTH, weight=25),
        {"tokens": {"promote": f"{NEW}@0"}},
        {"phase": Phase.PAUSED, "step_index": 1},
        id="Paused, a token for another step: still Paused",
    ),
    pytest.param(
        rolling(1, 25, phase=Phase.PAUSED, pauses=(PauseCondition(reason="PauseStep", start_time=LONG_AGO),)),
        seen(*BOTH, weight=25),
        {"canary": {"maxPauseDuration": "30m"}},
        {"phase": Phase.ROLLING_BACK, "rollback.reason": "PauseExpired"},
        id="Paused longer than maxPauseDuration: RollingBack",
    ),
    pytest.param(
        rolling(2, 25),
        seen(*BOTH, weight=25),
        {"tokens": {"promote-full": NEW}},
        {"phase": Phase.PROMOTING, "weights.desired": 100},
        id="promote-full: Promoting",
    ),
    pytest.param(
        rolling(4, 50, phase=Phase.PROMOTING, weights=Weights(desired=100, applied=50, applied_at=LONG_AGO)),
        seen(view(OLD), view(NEW, 2), weight=50),
        {},
        {"phase": Phase.PROMOTING, "weights.applied": 50},
        id="Promoting: the canary to full size first",
    ),
    pytest.param(
        rolling(4, 100, phase=Phase.PROMOTING),
        seen(*BOTH, weight=100),
        {},
        {"phase": Phase.PROMOTING, "stable": NEW, "previous": OLD, "canary": "", "drain_started_at": NOW},
        id="Promoting, programmed, settled and full: stable is the canary, the old one drains",
    ),
    pytest.param(
        Status(phase=Phase.PROMOTING, stable=NEW, previous=OLD, drain_started_at=JUST_NOW),
        seen(*BOTH),
        {},
        {"previous": OLD},
        id="draining, scaleDownDelay not over: the old one stays",
    ),
    pytest.param(
        Status(phase=Phase.PROMOTING, stable=NEW, previous=OLD, drain_started_at=LONG_AGO),
        seen(view(OLD, 0, desired=0), view(NEW), front=FrontView(exists=True, revision=NEW)),
        {},
        {"phase": Phase.HEALTHY, "previous": ""},
        id="drained: Healthy",
    ),
    pytest.param(
        rolling(2, 25, phase=Phase.ROLLING_BACK, rollback=Rollback(reason="AbortRequested", message="")),
        seen(view(OLD, 2), view(NEW), weight=25),
        {},
        {"phase": Phase.ROLLING_BACK, "weights.applied": 25},
        id="RollingBack: stable has to have the capacity first",
    ),
    pytest.param(
        rolling(2, 25, phase=Phase.ROLLING_BACK, rollback=Rollback(reason="AbortRequested", message="")),
        seen(*BOTH, weight=25),
        {},
        {"phase": Phase.ROLLING_BACK, "weights.applied": 0},
        id="RollingBack, stable has capacity: weight 0",
    ),
    pytest.param(
        rolling(2, 0, phase=Phase.ROLLING_BACK, rollback=Rollback(reason="AbortRequested", message="")),
        seen(*BOTH, weight=0),
        {},
        {"phase": Phase.DEGRADED, "aborted": NEW, "canary": ""},
        id="RollingBack, programmed and abortScaleDownDelay over: Degraded",
    ),
    pytest.param(
        rolling(2, 0, phase=Phase.ROLLING_BACK, rollback=Rollback(reason="Reverted", message="")),
        seen(*BOTH, weight=0),
        {"model": "old"},
        {"phase": Phase.HEALTHY, "aborted": "", "canary": ""},
        id="RollingBack after a revert: Healthy",
    ),
    pytest.param(
        ABORTED,
        seen(view(OLD)),
        {},
        {"phase": Phase.DEGRADED, "canary": ""},
        id="Degraded, the same hash alone does nothing",
    ),
    pytest.param(
        ABORTED,
        seen(view(OLD)),
        {"tokens": {"retry": NEW}},
        {"phase": Phase.PROGRESSING, "canary": NEW},
        id="Degraded, retry token: Progressing at step 0",
    ),
    pytest.param(
        ABORTED,
        seen(view(OLD)),
        {"model": "third"},
        {"phase": Phase.PROGRESSING, "canary": THIRD},
        id="Degraded, the hash changes: Progressing at step 0",
    ),
    pytest.param(
        ABORTED,
        seen(view(OLD)),
        {"model": "old"},
        {"phase": Phase.HEALTHY, "aborted": ""},
        id="Degraded, the spec asks for stable: Healthy",
    ),
    pytest.param(
        replace(HEALTHY, stable=NEW),
        seen(view(NEW, 0)),
        {},
        {"phase": Phase.DEGRADED},
        id="Healthy, stable loses its last pod: Degraded",
    ),
]


@pytest.mark.parametrize(("status", "observed", "wish", "facts"), ROWS)
def test_state(status: Status, observed: Observed, wish: dict[str, Any], facts: dict[str, Any]) -> None:
    after = told(status, observed, **wish)
    for name, value in facts.items():
        if name == "pause":
            assert [pause.reason for pause in after.pauses] == [value]
            continue
        found: Any = after
        for part in name.split("."):
            found = getattr(found, part)
        assert found == value, name


@pytest.mark.parametrize(("status", "observed", "wish", "facts"), ROWS)
def test_deciding_again_on_the_new_status_changes_nothing_more_without_news(
    status: Status, observed: Observed, wish: dict[str, Any], facts: dict[str, Any]
) -> None:
    """At most one weight change lies between two looks; after it the same look leads no further."""
    once = told(status, observed, **wish)
    twice = told(once, observed, **wish)
    if once.weights.applied == status.weights.applied:
        assert twice == once


@pytest.mark.parametrize(
    ("tokens", "status", "said"),
    [
        pytest.param(
            {"promote": OLD}, {"canary": NEW}, f"it names '{OLD}', but the rollout is of {NEW}", id="no canary's"
        ),
        pytest.param({"abort": NEW}, {}, f"it names '{NEW}', but there is no rollout", id="no rollout"),
        pytest.param(
            {"promote": f"{NEW}@0"},
            {"canary": NEW, "step_index": 1},
            "it applies to step index 0, but the rollout is at 1",
            id="another step",
        ),
        pytest.param(
            {"retry": NEW}, {"aborted": THIRD}, f"it names '{NEW}', but {THIRD} was aborted", id="not aborted"
        ),
        pytest.param({"promot": NEW}, {"canary": NEW}, "unknown; write one of: promote", id="a typo"),
    ],
)
def test_an_annotation_without_an_effect_is_named(tokens: Any, status: Any, said: str) -> None:
    standing = Status(stable=OLD, phase=Phase.PROGRESSING, **status)
    one = RolloutContext(resource=resource(standing, tokens=tokens), status=standing, observed=seen(view(OLD)), now=NOW)
    (ignored,) = ignored_annotations(one.under(answer_the_rest(one)))
    assert said in ignored.message


def test_an_undo_of_a_revision_that_is_not_kept_is_refused() -> None:
    answer = undo(resource(Status(stable=OLD), tokens={"undo": "nope@1"}), seen(view(OLD)))
    assert isinstance(answer, RequestAnswer)
    assert not answer.is_accepted
    assert answer.message == f"revision 'nope' is not kept; the kept revisions are: {OLD}"


def test_a_condition_tells_which_annotations_are_ignored() -> None:
    standing = Status(stable=NEW, phase=Phase.HEALTHY)
    looked_at = resource(standing, tokens={"abort": OLD, "retry": OLD})
    condition = decide(looked_at, seen(view(NEW)), now=NOW, url="").status.condition("AnnotationsAccepted")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "AnnotationIgnored")
    assert condition.message.count("it names") == 2


def test_a_token_that_was_acted_upon_is_no_mistake() -> None:
    standing = Status(stable=NEW, phase=Phase.HEALTHY, handled_tokens={"promote": f"{NEW}@1"})
    acted = resource(standing, tokens={"promote": f"{NEW}@1"})
    condition = decide(acted, seen(view(NEW)), now=NOW, url="").status.condition("AnnotationsAccepted")
    assert condition is not None
    assert condition.status == "True"


def test_without_annotations_of_ours_there_is_nothing_to_understand() -> None:
    told = decide(resource(Status(stable=NEW)), seen(view(NEW)), now=NOW, url="").status
    assert told.condition("AnnotationsAccepted") is None


def test_history_learns_the_version_that_a_server_tells_after_its_rollout_is_over() -> None:
    first = HistoryEntry(revision=NEW, result="Promoted", reason="FirstRevision", at=LONG_AGO)
    older = HistoryEntry(revision=OLD, result="Promoted", reason="FirstRevision", at=LONG_AGO)
    standing = Status(stable=NEW, phase=Phase.HEALTHY, history=(first, older))
    model = ModelInfo(uri="s3://models/new", version="7", format="sklearn", sha256="ab")
    decision = decide(resource(standing), seen(view(NEW, model=model), view(OLD, 0)), now=NOW, url="")
    assert decision.status.history == (replace(first, version="7", sha256="ab"), older)
    assert [one.reason for one in decision.events if one.reason.startswith("Revision")] == []


def test_a_router_that_an_older_schema_took_is_no_split_by_pods() -> None:
    with pytest.raises(InvalidSpec, match=r"trafficRouting: write exactly one router, of gatewayAPI; Istio"):
        parse_strategy({"canary": {"trafficRouting": {"istio": {}, "propagationSeconds": 10}}})


@pytest.mark.parametrize(
    ("status", "observed", "message"),
    [
        pytest.param(
            Status(phase=Phase.PENDING, stable=NEW, progressed_at=JUST_NOW),
            seen(view(NEW, 0, problems=(REFUSED,))),
            "FailedCreate: exceeded quota: compute",
            id="of the first revision",
        ),
        pytest.param(
            rolling(),
            seen(view(OLD), view(NEW, 0, problems=(REFUSED,))),
            f"step 1/4: waiting for {NEW}: 0 of 1 pods are available: FailedCreate: exceeded quota: compute",
            id="of a canary",
        ),
    ],
)
def test_pods_that_the_cluster_refuses_are_told(status: Status, observed: Observed, message: str) -> None:
    decision = decide(resource(status), observed, now=NOW, url="")
    loaded = decision.status.condition("ModelLoaded")
    assert decision.status.message == message
    assert [(one.revision, one.reason) for one in decision.status.pod_failures] == [(NEW, "FailedCreate")]
    assert loaded is not None
    assert (loaded.status, loaded.reason) == ("False", "FailedCreate")
    assert "FailedCreate" in [one.reason for one in decision.events if one.is_warning]


def test_an_autoscaler_that_does_nothing_is_told_and_holds_nothing() -> None:
    wish = {"autoscaling": {"maxReplicas": 3}}
    problem = PodProblem(reason="FailedGetResourceMetric", message="no metrics")
    for found_problem, value, reason in (
        (None, "True", "ScalingActive"),
        (problem, "False", "FailedGetResourceMetric"),
    ):
        status = told(replace(HEALTHY, stable=NEW), seen(view(NEW, autoscaler=found_problem)), **wish)
        found = {one.type: (one.status, one.reason) for one in status.conditions}
        assert (found["AutoscalerActive"], found["Ready"][0]) == ((value, reason), "True")
