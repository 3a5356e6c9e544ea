"""What controllers and the node conclude from what they see."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from model_sandbox.cache import Cache
from model_sandbox.controllers import autoscalers, budgets, jobs
from model_sandbox.controllers.base import PODS, SERVICES, stamp, with_condition
from model_sandbox.controllers.labels import Labelled, Selecting
from model_sandbox.controllers.rollout import HASH_LABEL, REVISION, plan
from model_sandbox.node.status import ContainerState, phase

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def pod(phase_: str = "Running", ready: bool = False, ended: float = 0.0, **labels: str) -> Any:
    """`ended`: seconds before noon at which its container ended."""
    terminated = {"terminated": {"finishedAt": stamp(NOON - timedelta(seconds=ended))}}
    conditions = [{"type": "Ready", "status": str(ready)}]
    status = {"phase": phase_, "conditions": conditions, "containerStatuses": [{"state": terminated}] if ended else []}
    metadata = {"name": "p", "namespace": "n", "creationTimestamp": stamp(NOON), "labels": labels}
    return {"metadata": metadata, "spec": {}, "status": status}


@pytest.mark.parametrize(
    ("spec", "pods", "reason", "next_"),
    [
        pytest.param({}, [], None, (1, 0.0), id="the first pod starts at once"),
        pytest.param({"completions": 3, "parallelism": 2}, [pod()], None, (1, 0.0), id="as many as may run together"),
        pytest.param({"completions": 1}, [pod("Failed", ended=4)], None, (1, 6.0), id="ten seconds after a failure"),
        pytest.param({"backoffLimit": 0}, [pod("Failed")], "BackoffLimitExceeded", None, id="no failure is allowed"),
        pytest.param({}, [pod("Succeeded")], "CompletionsReached", None, id="one success is enough"),
        pytest.param({}, [pod("Succeeded"), pod()], None, (0, 0.0), id="those that run may finish"),
        pytest.param({"activeDeadlineSeconds": 5}, [pod()], "DeadlineExceeded", None, id="it may not last longer"),
    ],
)
def test_jobs(spec: Any, pods: Any, reason: str | None, next_: Any) -> None:
    job = {"spec": spec, "status": {"startTime": stamp(NOON - timedelta(seconds=6))}}
    final = jobs.outcome(job, pods, NOON)
    assert (final[1] if final else None) == reason
    if next_ is not None:
        assert jobs.missing(job, pods, NOON) == next_


@pytest.mark.parametrize(
    ("spec", "healthy", "allowed"),
    [
        pytest.param({"minAvailable": 1}, 2, 1, id="one must stay"),
        pytest.param({"minAvailable": "50%"}, 3, 1, id="a share is of what is asked for, rounded up"),
        pytest.param({"maxUnavailable": 1}, 4, 1, id="one may be missing"),
        pytest.param({"maxUnavailable": 1}, 3, 0, id="one is missing already"),
    ],
)
def test_budgets(spec: Any, healthy: int, allowed: int) -> None:
    pods = [pod(ready=True)] * healthy + [pod()] * (4 - healthy)
    body = {"metadata": {"generation": 1}, "spec": spec}
    assert budgets.numbers(body, pods, expected=4)["disruptionsAllowed"] == allowed


@pytest.mark.parametrize(
    ("replicas", "wanted"),
    [pytest.param(1, 2, id="raised"), pytest.param(9, 4, id="lowered"), pytest.param(3, None, id="within")],
)
def test_an_autoscaler_keeps_its_bounds(replicas: int, wanted: int | None) -> None:
    body = {"spec": {"minReplicas": 2, "maxReplicas": 4}}
    assert autoscalers.decide(body, {"spec": {"replicas": replicas}}, "", NOON)[1] == wanted


def container(code: int | None = None, *, runs: bool = False) -> ContainerState:
    state = ContainerState("c", "image", running_since=NOON if runs else None)
    if code is not None:
        state.end(code, NOON, "")
    return state


@pytest.mark.parametrize(
    ("policy", "inits", "containers", "expected"),
    [
        pytest.param("Always", [], [container()], "Pending", id="nothing has run yet"),
        pytest.param("Always", [container()], [container()], "Pending", id="the first container is being prepared for"),
        pytest.param("Never", [container(1)], [container()], "Failed", id="a preparation failed for good"),
        pytest.param("Always", [container(0)], [container(1)], "Running", id="it will be started again"),
        pytest.param("Never", [], [container(0), container(runs=True)], "Running", id="one of two has ended"),
        pytest.param("Never", [], [container(0), container(0)], "Succeeded", id="all ended well"),
        pytest.param("Never", [], [container(0), container(2)], "Failed", id="one did not"),
        pytest.param("OnFailure", [], [container(2)], "Running", id="a failure is tried again"),
    ],
)
def test_the_phase_of_a_pod(policy: str, inits: Any, containers: Any, expected: str) -> None:
    assert phase(policy, inits, containers) == expected


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    held = with_condition([], "Ready", False, "Waiting", "1 of 2", now=NOON)
    later = with_condition(held, "Ready", False, "Waiting", "2 of 2", now=NOON + timedelta(hours=1))
    assert (later[0]["message"], later[0]["lastTransitionTime"]) == ("2 of 2", stamp(NOON))
    assert with_condition(later, "Ready", True, now=NOON + timedelta(hours=2))[0] == {
        "type": "Ready", "status": "True", "lastTransitionTime": stamp(NOON + timedelta(hours=2)),
    }  # fmt: skip


def deployment(image: str, **spec: Any) -> Any:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    fields = {"selector": {"matchLabels": {"app": "web"}}, "strategy": strategy, "replicas": 2, "template": template}
    fields["progressDeadlineSeconds"] = 600
    metadata = {"name": "web", "namespace": "n", "uid": "u", "generation": 1}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {**fields, **spec}}


def made(body: Any, available: int) -> Any:
    """The ReplicaSet that a plan creates, with so many pods available."""
    created = plan(body, [], NOON).create
    assert created is not None
    created["metadata"]["creationTimestamp"] = stamp(NOON)
    return {**created, "status": {"replicas": available, "availableReplicas": available}}


def test_a_new_template_is_a_new_set_with_the_next_revision() -> None:
    found = plan(deployment("two"), [made(deployment("one"), 2)], NOON)
    assert found.create is not None
    assert (found.create["spec"]["replicas"], found.create["metadata"]["annotations"][REVISION]) == (1, "2")
    assert found.create["spec"]["selector"]["matchLabels"][HASH_LABEL] in found.create["metadata"]["name"]
    assert found.deployment["metadata"]["annotations"][REVISION] == "2"
    assert found.deployment["status"]["conditions"][-1]["reason"] == "NewReplicaSetCreated"


@pytest.mark.parametrize(
    ("spec", "creates", "sizes"),
    [
        pytest.param({"paused": True}, False, [], id="nothing while it is paused"),
        pytest.param({"strategy": {"type": "Recreate"}}, False, [0], id="old pods go before new ones come"),
        pytest.param({"replicas": 5}, False, [5], id="a new size comes before a new template"),
    ],
)
def test_what_comes_first(spec: Any, creates: bool, sizes: list[int]) -> None:
    found = plan(deployment("two", **spec), [made(deployment("one"), 2)], NOON)
    assert (found.create is not None) is creates
    assert [patch["spec"]["replicas"] for _, patch in found.patches] == sizes


def labelled(name: str, **labels: str) -> Any:
    return {"metadata": {"name": name, "namespace": "n", "resourceVersion": "1", "labels": labels}, "spec": labels}


def test_objects_are_found_by_labels_and_by_what_they_select() -> None:
    pods, services = Cache(PODS), Cache(SERVICES)
    by_label, selecting = Labelled(pods), Selecting(services, lambda body: body["spec"] or None)
    for name, labels in (("a", {"app": "a", "x": "1"}), ("b", {"app": "b", "x": "1"})):
        pods.put(labelled(name, **labels))
        services.put(labelled(name, **labels))
    services.put(labelled("both", x="1"))
    services.put(labelled("none"))
    assert [one["metadata"]["name"] for one in by_label.having("n", {"app": "a", "x": "1"})] == ["a"]
    assert len(by_label.having("n", {"x": "1"})) == len(by_label.having("n", {})) == 2
    assert by_label.having("elsewhere", {"x": "1"}) == []
    assert {name for _, name in selecting.keys(labelled("p", app="a", x="1", more="2"))} == {"a", "both"}
    services.drop(("n", "a"), 2)
    assert selecting.keys(labelled("p", app="a", x="1")) == [("n", "both")]
