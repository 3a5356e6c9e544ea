"""Why a pod does not serve."""

import json
from typing import Any

import pytest

from model_operator.manifests.pods import PodSettings
from model_operator.observation.observe import revision_views
from model_operator.observation.pod_failures import (
    autoscaler_problem,
    deployment_problem,
    is_terminal,
    most_severe,
    pod_problem,
)
from model_operator.observation.values import PodProblem

TOLD = json.dumps(
    {"reason": "ArtifactNotFound", "message": "no such object", "hint": "check the path", "permanent": True}
)


#: Termination messages that no model server writes; the image of a pod may be anybody's.
FORGED = {
    "deep lists": "[" * 4096,
    "deep objects": '{"a":' * 800,
    "a deep reason": '{"reason":' + "[" * 1500 + "]" * 1500 + ',"message":"m"}',
    "a reason that is no word": '{"reason": "no such\\nword", "message": "m"}',
    "a long reason": json.dumps({"reason": "x" * 3000, "message": "m"}),
    "a number as reason": '{"reason": 1, "message": null}',
    "a list as hint": '{"reason": "A", "message": "m", "hint": [1]}',
    "a word as flag": '{"reason": "A", "message": "m", "permanent": "no"}',
    "a list": "[1]",
    "a surrogate": '{"reason": "A", "message": "\\ud800"}',
}


def status(**container: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "server", "ready": False, "restartCount": 0, "state": {}, **container}]}


def ended(message: str, **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": 65, "reason": "Error", "message": message, **more}}


@pytest.mark.parametrize("text", FORGED.values(), ids=FORGED)
def test_a_forged_message_is_the_end_of_a_log(text: str) -> None:
    problem = pod_problem(status(state=ended(text)))
    assert problem is not None
    assert problem.reason == "Error"
    assert not problem.is_permanent
    assert 0 < len(problem.message) <= 1024


@pytest.mark.parametrize(
    ("pod", "problem"),
    [
        pytest.param(status(state={"waiting": {"reason": "ContainerCreating"}}), None, id="starting is no problem"),
        pytest.param(status(ready=True, lastState=ended("old")), None, id="a ready pod has no problem"),
        pytest.param(status(state={"running": {}}), None, id="loading is no problem"),
        pytest.param(
            status(state=ended(TOLD)),
            PodProblem(reason="ArtifactNotFound", message="no such object. check the path", is_permanent=True),
            id="the server's own words and hint",
        ),
        pytest.param(
            status(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended(TOLD), restartCount=2),
            PodProblem(
                reason="ArtifactNotFound", message="no such object. check the path", restarts=2, is_permanent=True
            ),
            id="the server's words win over CrashLoopBackOff",
        ),
        pytest.param(
            status(state=ended("Traceback:\nValueError: boom\n")),
            PodProblem(reason="Error", message="ValueError: boom"),
            id="of a log its last line is told",
        ),
        pytest.param(
            status(state=ended('{"level": "info", "message": "hello"}\n{"level": "error", "message": "boom"}')),
            PodProblem(reason="Error", message="boom"),
            id="of a JSON log the last line's message is told",
        ),
        pytest.param(
            status(state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            PodProblem(reason="OOMKilled", message="the server ended with exit code 137"),
            id="out of memory",
        ),
        pytest.param(
            status(state={"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}}),
            PodProblem(
                reason="CreateContainerConfigError",
                message='secret "x" not found; make it in this namespace, and the pod starts, or correct its name'
                " in the spec",
            ),
            id="a missing Secret",
        ),
        pytest.param(
            {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "0/3 nodes"}]},
            PodProblem(reason="Unschedulable", message="0/3 nodes"),
            id="no node has room",
        ),
    ],
)
def test_trouble_of_pod(pod: dict[str, Any], problem: PodProblem | None) -> None:
    assert pod_problem(pod) == problem


QUOTA = (
    'pods "fraud-6f8d-5b9c7-" is forbidden: exceeded quota: compute, requested: limits.cpu=1,'
    " used: limits.cpu=4, limited: limits.cpu=4"
)


def deployment(**failure: str) -> dict[str, Any]:
    """A Deployment whose pods are not all there, as Kubernetes writes it."""
    conditions = [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": "is progressing"}]
    if failure:
        conditions.append({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", **failure})
    return {
        "kind": "Deployment",
        "metadata": {"name": "fraud-6f8d", "generation": 1, "labels": {"modeldeploy.dev/revision": "6f8d"}},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 1, "unavailableReplicas": 2, "conditions": conditions},
    }


@pytest.mark.parametrize(
    ("failure", "problem"),
    [
        pytest.param({}, None, id="pods that are on their way"),
        pytest.param({"message": QUOTA}, PodProblem(reason="FailedCreate", message=QUOTA), id="a quota"),
        pytest.param(
            {"message": 'admission webhook "policy.example.com" denied the request: no label team'},
            PodProblem(
                reason="FailedCreate",
                message='admission webhook "policy.example.com" denied the request: no label team',
            ),
            id="an admission policy",
        ),
        pytest.param({"message": QUOTA, "status": "False"}, None, id="a refusal that is over"),
    ],
)
def test_what_keeps_a_deployment_from_making_pods(failure: dict[str, str], problem: PodProblem | None) -> None:
    body = deployment(**failure)
    assert deployment_problem(body["status"]) == problem
    view = revision_views({("Deployment", "fraud-6f8d"): body}, {}, PodSettings(image="server"))["6f8d"]
    assert view.problems == ((problem,) if problem else ())


@pytest.mark.parametrize(
    ("problem", "fatal"),
    [
        pytest.param(PodProblem(reason="X", message="", is_permanent=True), True, id="what cannot heal"),
        pytest.param(
            PodProblem(reason="ImagePullBackOff", message="Back-off pulling image: not found"),
            True,
            id="an image that cannot be pulled",
        ),
        pytest.param(PodProblem(reason="X", message="", restarts=3), True, id="the third crash"),
        pytest.param(PodProblem(reason="X", message="", restarts=2), False, id="the second crash may be the last"),
        pytest.param(PodProblem(reason="Unschedulable", message=""), False, id="a node may come"),
        pytest.param(PodProblem(reason="FailedCreate", message=""), False, id="a quota may be raised"),
    ],
)
def test_is_fatal(problem: PodProblem, *, fatal: bool) -> None:
    assert is_terminal(problem) is fatal


def test_the_worst_trouble_is_the_fatal_one() -> None:
    mild, bad = PodProblem(reason="A", message="", restarts=2), PodProblem(reason="B", message="", is_permanent=True)
    assert most_severe([mild, bad]) is bad
    assert most_severe([]) is None


@pytest.mark.parametrize(
    ("conditions", "problem"),
    [
        pytest.param([], None, id="not looked at yet"),
        pytest.param([{"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"}], None, id="at work"),
        pytest.param([{"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled"}], None, id="no pods"),
        pytest.param(
            [{"type": "ScalingLimited", "status": "False", "reason": "DesiredWithinRange"}], None, id="no limit"
        ),
        pytest.param(
            [
                {
                    "type": "ScalingActive",
                    "status": "False",
                    "reason": "FailedGetResourceMetric",
                    "message": "no metrics",
                }
            ],
            PodProblem(reason="FailedGetResourceMetric", message="no metrics"),
            id="a cluster without metrics",
        ),
        pytest.param(
            [{"type": "ScalingActive", "status": "False", "reason": "F", "message": "missing request for cpu in c"}],
            PodProblem(reason="F", message="missing request for cpu in c; set spec.server.resources.requests.cpu"),
            id="pods without a request",
        ),
        pytest.param(
            [{"type": "ScalingActive", "status": "False", "reason": "F", "message": "missing request for memory in c"}],
            PodProblem(
                reason="F", message="missing request for memory in c; set spec.server.resources.requests.memory"
            ),
            id="pods without a request for memory",
        ),
    ],
)
def test_why_an_autoscaler_does_nothing(conditions: list[dict[str, str]], problem: PodProblem | None) -> None:
    assert autoscaler_problem({"conditions": conditions}) == problem
