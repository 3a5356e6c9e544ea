"""A version answers recent requests of the one that serves before it takes any; on real load."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from labelled_load import LabelledLoad
from model_packages import RENAMED, judged_label, ranges, some_rows
from waiting import wait_until

from modeldeploy.kube import EVENTS, MODELDEPLOYMENTS

NAME = "replayed"
LIMITS = {"requests": 200, "agreement": {"min": 0.9}}
#: What the rows of the load hold in the redacted column, and nothing else in the namespace does.
SECRET = 777.25
REDACTED = list(ranges())[3]


def deploy(space: Any, version: str, **replay: Any) -> None:
    steps = [{"replay": {**LIMITS, **replay}}, {"setWeight": 50}]
    canary = {"steps": steps, "scaleDownDelaySeconds": 0, "abortScaleDownDelaySeconds": 0}
    server = {"inputLog": {"sampleRate": 0, "redact": [REDACTED]}}
    space.apply(NAME, f"judged/{version}", strategy={"canary": canary}, server=server)


def status(space: Any) -> dict[str, Any]:
    found: dict[str, Any] = space.kube.get(MODELDEPLOYMENTS, NAME).get("status", {})
    return found


def events(space: Any, reason: str) -> list[str]:
    found = space.kube.list(EVENTS, fields=f"involvedObject.name={NAME}")
    return [event["message"] for event in found if event["reason"] == reason]


def wait_gone_back(space: Any, version: str) -> dict[str, Any]:
    def is_over() -> bool:
        found = status(space)
        entry = found.get("history", [{}])[0]
        return found["phase"] == "Degraded" and entry.get("uri", "").endswith(version)

    wait_until(is_over, lambda: f"{version} went back: {status(space)}", seconds=120)
    return status(space)


@pytest.fixture(scope="module")
def replayed(space: Any) -> Iterator[Any]:
    """The first version, live and under load."""
    deploy(space, "1")
    space.wait_live(NAME, "1")
    rows = [[SECRET if place == 3 else value for place, value in enumerate(row)] for row in some_rows(200)]
    with LabelledLoad(space.url(NAME), list(ranges()), rows, judged_label, rate=120) as load:
        wait_until(lambda: load.labelled > 20, "the load is on", seconds=20)
        yield space


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("version", "why"),
    [
        pytest.param("7-shuffled", "agreement: ", id="one that answers otherwise"),
        pytest.param(RENAMED, "the new revision refuses 200: ", id="one that refuses the rows"),
    ],
)
def test_a_version_that_disagrees_never_has_a_request(replayed: Any, version: str, why: str) -> None:
    before = events(replayed, "WeightSet")
    deploy(replayed, version)
    found = wait_gone_back(replayed, version)
    assert found["rollback"]["reason"] == "ReplayFailed"
    assert why in found["rollback"]["message"]
    assert found["replay"]["phase"] == "Failed"
    assert found["replay"]["requests"] == 200
    assert events(replayed, "WeightSet") == before
    assert found["history"][0]["reason"] == "ReplayFailed"
    wait_until(
        lambda: any(why in message for message in events(replayed, "ReplayFailed")),
        "an Event has the numbers",
        seconds=10,
    )


@pytest.mark.timeout(180)
def test_no_pod_of_the_candidate_is_behind_the_front_service(replayed: Any) -> None:
    deploy(replayed, "4-same", requests=2000)
    found = wait_until(
        lambda: "requests recorded" in (now := status(replayed)).get("message", "") and now,
        lambda: f"the step has begun: {status(replayed)}",
        seconds=60,
    )
    shown = replayed.kubectl("get", "endpointslices", "-l", f"kubernetes.io/service-name={NAME}", "-o", "json")
    slices = json.loads(shown.stdout)["items"]
    behind = [endpoint["targetRef"]["name"] for one in slices for endpoint in one.get("endpoints") or ()]
    assert behind
    assert all(found["stableRevision"] in pod for pod in behind)
    replayed.wait_live(NAME, "4-same", seconds=120)
    found = status(replayed)
    assert found["replay"]["phase"] == "Passed"
    assert "agreement: 2000 of 2000 requests (100.00%), at least 0.9 required" in found["replay"]["message"]
    assert any("agreement: 2000 of 2000" in message for message in events(replayed, "ReplayPassed"))


@pytest.mark.timeout(180)
def test_an_operator_that_dies_in_the_step_ends_it_the_same(replayed: Any) -> None:
    if replayed.cluster.running is None:
        pytest.skip("kills its operator: needs one that runs on this machine (NODE=sandbox)")
    deploy(replayed, "7-shuffled", requests=2000)
    wait_until(
        lambda: "requests recorded" in status(replayed).get("message", ""),
        lambda: f"the step has begun: {status(replayed)}",
        seconds=60,
    )
    replayed.cluster.running.operator.kill()
    found = wait_gone_back(replayed, "7-shuffled")
    assert found["rollback"]["reason"] == "ReplayFailed"
    assert found["replay"]["requests"] == 2000


def test_a_redacted_value_is_in_no_object_and_no_log(replayed: Any) -> None:
    kinds = "modeldeployments,deployments,pods,services,configmaps,secrets,jobs,events"
    shown = replayed.kubectl("get", kinds, "-o", "json")
    assert shown.returncode == 0, shown.stderr
    assert str(SECRET) not in shown.stdout
    for pod in json.loads(replayed.kubectl("get", "pods", "-o", "json").stdout)["items"]:
        assert str(SECRET) not in replayed.kubectl("logs", pod["metadata"]["name"]).stdout
    if replayed.cluster.running is not None:
        assert str(SECRET) not in replayed.cluster.running.operator.tail(100_000)
