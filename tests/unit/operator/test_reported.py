"""What status and Events report of pods, autoscalers and history."""

from datetime import timedelta
from typing import Any

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

from model_operator.api.inputs import Finding
from model_operator.api.status import (
    HistoryEntry,
    ModelInfo,
    Phase,
    Status,
)
from model_operator.api.strategy import parse_strategy
from model_operator.api.values import replace
from model_operator.errors import InvalidSpec
from model_operator.observation.values import InputReport, Observed, PodProblem
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
        pytest.param("", "True", "Trusted", id="while inputs are as in training"),
        pytest.param("InputsDrifted", "False", "InputsDrifted", id="while they are not"),
        pytest.param("NotCalibrated", "False", "NotCalibrated", id="of a package without labels"),
    ],
)
def test_an_estimate_that_is_not_to_be_trusted_is_told_and_holds_nothing(
    reported: str | None, value: str, reason: str
) -> None:
    wish = {"monitoring": {"estimatedQuality": True}}
    status = decided(replace(HEALTHY, stable=NEW), observed(view(NEW, estimate=reported)), **wish)
    found = {one.type: (one.status, one.reason) for one in status.conditions}
    assert (found["EstimateTrusted"], found["Available"][0], found["Stalled"][0]) == ((value, reason), "True", "False")
    without = decided(replace(HEALTHY, stable=NEW), observed(view(NEW, estimate=reported)))
    assert "EstimateTrusted" not in {one.type for one in without.conditions}


@pytest.mark.parametrize(
    ("reported", "value", "reason"),
    [
        pytest.param(None, "Unknown", "NotReported", id="before a pod has told it"),
        pytest.param("", "True", "Connected", id="while the broker is there"),
        pytest.param("BrokerUnavailable", "False", "BrokerUnavailable", id="while it is away"),
        pytest.param("TopicMissing", "False", "TopicMissing", id="while a topic is missing"),
        pytest.param("BrokerUntrusted", "False", "BrokerUntrusted", id="while its certificate is of another authority"),
    ],
)
def test_a_broker_that_is_away_is_told_and_holds_nothing(reported: str | None, value: str, reason: str) -> None:
    topics = {"input": "in", "output": "out", "deadLetter": "dead"}
    wish = {"server": {"stream": {"nats": {"url": "nats://n:4222"}, **topics}}}
    status = decided(replace(HEALTHY, stable=NEW), observed(view(NEW, stream=reported)), **wish)
    found = {one.type: (one.status, one.reason) for one in status.conditions}
    assert (found["StreamConnected"], found["Available"][0], found["Stalled"][0]) == ((value, reason), "True", "False")


@pytest.mark.parametrize(
    ("reported", "value", "reason"),
    [
        pytest.param(None, "Unknown", "NotReported", id="before a pod has told it"),
        pytest.param("", "True", "Readable", id="while the source is there"),
        pytest.param("StorageUnavailable", "False", "StorageUnavailable", id="while it is away"),
        pytest.param("ArtifactNotFound", "False", "ArtifactNotFound", id="while an alias is missing"),
    ],
)
def test_a_source_that_is_away_is_told_and_the_model_stays(reported: str | None, value: str, reason: str) -> None:
    asked = resource(replace(HEALTHY, stable=NEW))
    polled = replace(asked.spec, model=replace(asked.spec.model, poll_interval=timedelta(minutes=1)))
    seen = observed(view(NEW, source_problem=reported))
    status = decide(replace(asked, spec=polled), seen, now=NOW, url="").status
    found = {one.type: (one.status, one.reason) for one in status.conditions}
    assert (found["SourceAvailable"], found["Available"][0], found["Stalled"][0]) == ((value, reason), "True", "False")
    assert (status.stable, status.canary) == (NEW, "")
    without = decided(replace(HEALTHY, stable=NEW), observed(view(NEW)))
    assert "SourceAvailable" not in {one.type for one in without.conditions}


def a_share(share: float) -> Finding:
    return Finding(feature="height", problem="out_of_range", share=share, limit=0.052)


HEIGHT = a_share(1.0)
COMPARED: dict[str, Any] = {"monitoring": {"dataQuality": {}}}
#: The revision of that spec.
LIVE = resource(Status(), **COMPARED).target


@pytest.mark.parametrize(
    ("reported", "found"),
    [
        pytest.param(None, ("Unknown", "NotReported", f"no pod of {LIVE} has compared requests"), id="not told yet"),
        pytest.param(
            InputReport(), ("Unknown", "NoRequests", f"the pods of {LIVE} have received no"), id="no requests"
        ),
        pytest.param(InputReport(has_requests=True), ("True", "WithinLimits", "no problem is"), id="good requests"),
        pytest.param(
            InputReport(has_requests=True, findings=(HEIGHT,)),
            (
                "False",
                "OutOfRange",
                "height is outside of the range of the training data in 100.0% of recent rows (5.2% are allowed)",
            ),
            id="a unit error",
        ),
        pytest.param(
            InputReport(has_requests=True, findings=(a_share(0.03),)),
            ("False", "OutOfRange", "height is outside of the range of the training data in more and more rows (5.2%"),
            id="a unit error that has just begun",
        ),
        pytest.param(
            InputReport(has_requests=True, findings=(Finding(feature="", problem="outlier", share=0.3, limit=0.051),)),
            ("False", "Outliers", "30.0% of recent rows are far from the training data (5.1% are allowed)"),
            id="outliers",
        ),
    ],
)
def test_what_requests_look_like_is_told_and_holds_nothing(
    reported: InputReport | None, found: tuple[str, str, str]
) -> None:
    status = decided(replace(HEALTHY, stable=LIVE), observed(view(LIVE, inputs=reported)), **COMPARED)
    condition, ready = status.condition("DataQuality"), status.condition("Ready")
    assert condition is not None
    assert (condition.status, condition.reason) == found[:2]
    assert condition.message.startswith(found[2])
    assert ready is not None
    assert ready.status == "True"


def test_the_worst_of_many_problems_are_named() -> None:
    findings = tuple(a_share(share) for share in (0.9, 0.8, 0.7, 0.6, 0.5))
    report = InputReport(has_requests=True, findings=findings)
    status = decided(replace(HEALTHY, stable=LIVE), observed(view(LIVE, inputs=report)), **COMPARED)
    condition = status.condition("DataQuality")
    assert condition is not None
    assert condition.message.count("height") == 3
    assert condition.message.endswith("; and 2 more")


@pytest.mark.parametrize("reason", ["ReferenceProfileMissing", "ReferenceProfileMismatch", "MetadataInvalid"])
def test_a_package_that_does_not_describe_its_training_data_is_told(reason: str) -> None:
    problem = PodProblem(reason=reason, message="the package has no reference_profile", is_permanent=True)
    status = decided(
        replace(rolling(), canary=LIVE), observed(view(OLD), view(LIVE, 0, problems=(problem,))), **COMPARED
    )
    condition = status.condition("DataQuality")
    assert condition is not None
    assert (condition.status, condition.reason) == ("Unknown", reason)
    assert condition.message == f"revision {LIVE}: the package has no reference_profile"


def test_events_tell_the_beginning_and_the_end_of_bad_requests_once() -> None:
    good, bad = InputReport(has_requests=True), InputReport(has_requests=True, findings=(HEIGHT,))
    standing, told = replace(HEALTHY, stable=LIVE), []
    for reported in (good, bad, bad, None, good):
        decision = decide(resource(standing, **COMPARED), observed(view(LIVE, inputs=reported)), now=NOW, url="")
        told.append([event.reason for event in decision.events if event.reason != "RevisionPromoted"])
        standing = decision.status
    assert told == [[], ["OutOfRange"], [], [], ["DataQualityRestored"]]


def test_there_is_no_such_condition_where_it_is_not_asked_for() -> None:
    status = decided(replace(HEALTHY, stable=NEW), observed(view(NEW)))
    assert status.condition("DataQuality") is None
