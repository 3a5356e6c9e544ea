"""What status and Events report of pods, autoscalers and history."""

import pytest
from decision_tables import (
    HEALTHY,
    JUST_NOW,
    LONG_AGO,
    NEW,
    NOW,
    OLD,
    REFUSED,
    decided,
    observed,
    resource,
    rolling,
    view,
)

from model_operator.api.status import (
    HistoryEntry,
    ModelInfo,
    Phase,
    Status,
)
from model_operator.api.strategy import parse_strategy
from model_operator.api.values import replace
from model_operator.errors import InvalidSpec
from model_operator.observation.values import Observed, PodProblem
from model_operator.policy.decide import decide


def test_history_learns_the_version_that_a_server_tells_after_its_rollout_is_over() -> None:
    first = HistoryEntry(revision=NEW, result="Promoted", reason="FirstRevision", at=LONG_AGO)
    older = HistoryEntry(revision=OLD, result="Promoted", reason="FirstRevision", at=LONG_AGO)
    standing = Status(stable=NEW, phase=Phase.HEALTHY, history=(first, older))
    model = ModelInfo(uri="s3://models/new", version="7", format="sklearn", sha256="ab")
    decision = decide(resource(standing), observed(view(NEW, model=model), view(OLD, 0)), now=NOW, url="")
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
            observed(view(NEW, 0, problems=(REFUSED,))),
            "FailedCreate: exceeded quota: compute",
            id="of the first revision",
        ),
        pytest.param(
            rolling(),
            observed(view(OLD), view(NEW, 0, problems=(REFUSED,))),
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
        status = decided(replace(HEALTHY, stable=NEW), observed(view(NEW, autoscaler=found_problem)), **wish)
        found = {one.type: (one.status, one.reason) for one in status.conditions}
        assert (found["AutoscalerActive"], found["Ready"][0]) == ((value, reason), "True")


@pytest.mark.parametrize(
    ("reported", "value", "reason"),
    [
        pytest.param(None, "Unknown", "NotReported", id="before a pod has told it"),
        pytest.param("", "True", "Connected", id="while the broker is there"),
        pytest.param("BrokerUnavailable", "False", "BrokerUnavailable", id="while it is away"),
        pytest.param("TopicMissing", "False", "TopicMissing", id="while a topic is missing"),
    ],
)
def test_a_broker_that_is_away_is_told_and_holds_nothing(reported: str | None, value: str, reason: str) -> None:
    topics = {"input": "in", "output": "out", "deadLetter": "dead"}
    wish = {"server": {"stream": {"nats": {"url": "nats://n:4222"}, **topics}}}
    status = decided(replace(HEALTHY, stable=NEW), observed(view(NEW, stream=reported)), **wish)
    found = {one.type: (one.status, one.reason) for one in status.conditions}
    assert (found["StreamConnected"], found["Available"][0], found["Stalled"][0]) == ((value, reason), "True", "False")
