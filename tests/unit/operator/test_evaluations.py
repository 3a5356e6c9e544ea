"""Evaluations: the Job, what its pods say, and what the numbers decide."""

import json
from typing import Any

import pytest

from model_operator.api.resource import ModelDeployment
from model_operator.api.steps import Evaluate, parse_step
from model_operator.manifests.evaluation import DATA_SECRET_DIR, evaluation_job
from model_operator.manifests.pods import PodSettings
from model_operator.observation.job_results import hindrances, measured
from model_operator.observation.values import Measurement, Observed, RevisionView
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.evaluation import evaluate, evaluation_error, evaluations
from model_operator.policy.status.message import status_message
from model_operator.testing import VirtualClock

RAW = {"dataset": "s3://data/holdout.csv", "target": "label", "metrics": [{"name": "accuracy", "min": 0.9}]}
NOW = VirtualClock().now()


def situation(metrics: list[dict[str, Any]], measures: dict[str, Any], **status: Any) -> RolloutContext:
    """A canary in its evaluation, of which the Jobs have ended with these measures, by revision."""
    body = {
        "metadata": {"name": "fraud", "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": "1"},
        "spec": {
            "model": {"storageUri": "s3://m/1"},
            "strategy": {"canary": {"steps": [{"evaluate": {**RAW, "metrics": metrics}}, {"setWeight": 50}]}},
        },
        "status": {"phase": "Progressing", "stableRevision": "old", "canaryRevision": "new", **status},
    }
    resource = ModelDeployment.from_body(body)
    resource = type(resource)(**{**{n: getattr(resource, n) for n in resource.__slots__}, "target": "new"})
    s = RolloutContext(resource=resource, status=resource.status, observed=Observed(), now=NOW)
    ended = {one.job: measures[one.revision] for one in evaluations(s) if one.revision in measures}
    return RolloutContext(resource=resource, status=s.status, observed=Observed(measurements=ended), now=NOW)


def table(s: RolloutContext) -> dict[str, Any]:
    step = s.current_step
    assert isinstance(step, Evaluate)
    return evaluate(s, step).to_status()


@pytest.mark.parametrize(
    ("metric", "canary", "stable", "phase"),
    [
        pytest.param({"name": "accuracy", "min": 0.9}, 0.9, None, "Passed", id="the limit itself is allowed"),
        pytest.param({"name": "accuracy", "min": 0.9}, 0.89, None, "Failed", id="below the least value"),
        pytest.param({"name": "mse", "max": 2.0}, 2.1, None, "Failed", id="above the largest value"),
        pytest.param({"name": "f1", "maxDropFromStable": 0.01}, 0.89, 0.90, "Passed", id="the allowed drop"),
        pytest.param({"name": "f1", "maxDropFromStable": 0.01}, 0.88, 0.90, "Failed", id="a larger drop"),
        pytest.param({"name": "mae", "maxDropFromStable": 0.1}, 1.2, 1.0, "Failed", id="more error is a drop as well"),
        pytest.param({"name": "mae", "maxDropFromStable": 0.1}, 0.5, 1.0, "Passed", id="less error is none"),
    ],
)
def test_numbers_decide(metric: dict[str, Any], canary: float, stable: float | None, phase: str) -> None:
    measures = {"new": Measurement(values={metric["name"]: canary}, rows=10)}
    if stable is not None:
        measures["old"] = Measurement(values={metric["name"]: stable}, rows=10)
    found = table(situation([metric], measures))
    assert found["phase"] == phase
    assert found["metrics"][0]["canary"] == canary
    assert found["metrics"][0].get("stable") == stable


def test_the_message_names_what_failed_and_its_bounds() -> None:
    metrics = [{"name": "accuracy", "min": 0.9, "maxDropFromStable": 0.01}, {"name": "f1", "min": 0.1}]
    values = {"accuracy": 0.512, "f1": 0.5}
    found = table(
        situation(metrics, {"new": Measurement(values=values), "old": Measurement(values={"accuracy": 0.95})})
    )
    assert found["message"] == "accuracy 0.512 (at least 0.9, stable 0.95, at most 0.01 worse)"


@pytest.mark.parametrize(
    ("metric", "mode", "revisions"),
    [
        pytest.param({"name": "f1", "min": 0.5}, "Steps", ["new"], id="a limit alone needs the canary alone"),
        pytest.param({"name": "f1", "maxDropFromStable": 0.1}, "Steps", ["new", "old"], id="a drop needs stable"),
        pytest.param({"name": "f1", "maxDropFromStable": 0.1}, "Rescue", ["new"], id="a broken stable is not asked"),
    ],
)
def test_what_is_measured(metric: dict[str, Any], mode: str, revisions: list[str]) -> None:
    assert [one.revision for one in evaluations(situation([metric], {}, mode=mode))] == revisions


def test_jobs_are_named_by_step_and_revision() -> None:
    metric = {"name": "f1", "maxDropFromStable": 0.1}
    names = [one.job for one in evaluations(situation([metric], {}))]
    assert names == [one.job for one in evaluations(situation([metric], {}))], "the same ones after a restart"
    assert len({*names, *(one.job for one in evaluations(situation([{"name": "f1", "min": 0.1}], {})))}) == 3


def test_no_job_outlives_its_step() -> None:
    metric = {"name": "f1", "min": 0.1}
    assert not evaluations(situation([metric], {}, currentStepIndex=1))
    assert not evaluations(situation([metric], {}, phase="RollingBack"))


def test_an_evaluation_that_goes_on_decides_nothing() -> None:
    s = situation([{"name": "f1", "maxDropFromStable": 0.1}], {"new": Measurement(values={"f1": 0.1})})
    assert table(s)["phase"] == "Running"
    assert evaluation_error(s) == ""


def test_an_error_names_its_revision() -> None:
    s = situation([{"name": "f1", "min": 0.1}], {"new": Measurement(error="DatasetInvalid: no column")})
    assert evaluation_error(s) == "revision new: DatasetInvalid: no column"
    assert table(s)["phase"] == "Running"


def job(condition: str = "") -> dict[str, Any]:
    conditions = [{"type": condition, "status": "True", "reason": "DeadlineExceeded", "message": "too long"}]
    return {"kind": "Job", "metadata": {"name": "j"}, "status": {"conditions": conditions if condition else []}}


def pod(number: int, message: str | None) -> dict[str, Any]:
    state = {"running": {}} if message is None else {"terminated": {"exitCode": 1, "reason": "E", "message": message}}
    labels = {"modeldeploy.dev/evaluation": "j"}
    return {"metadata": {"name": str(number), "labels": labels}, "status": {"containerStatuses": [{"state": state}]}}


RESULT = json.dumps({"rows": 5, "metrics": {"f1": 0.5}})
STORAGE = json.dumps({"reason": "StorageUnavailable", "message": "no answer", "hint": "", "permanent": False})
BAD_DATA = json.dumps({"reason": "DatasetInvalid", "message": "no rows", "hint": "add some", "permanent": True})


@pytest.mark.parametrize(
    ("condition", "messages", "end"),
    [
        pytest.param("", [None], None, id="a pod that runs"),
        pytest.param("", [RESULT], Measurement(values={"f1": 0.5}, rows=5), id="a result"),
        pytest.param("", [STORAGE], None, id="what may heal is tried again"),
        pytest.param("", [STORAGE, RESULT], Measurement(values={"f1": 0.5}, rows=5), id="the second try"),
        pytest.param("", [BAD_DATA], Measurement(error="DatasetInvalid: no rows add some"), id="what cannot heal"),
        pytest.param("Failed", [STORAGE], Measurement(error="StorageUnavailable: no answer"), id="no more tries"),
        pytest.param("Failed", [], Measurement(error="DeadlineExceeded: too long"), id="no time left"),
        pytest.param("Failed", ["last\nwords"], Measurement(error="E: words"), id="a pod without a message"),
    ],
)
def test_what_the_pods_say(condition: str, messages: list[str | None], end: Measurement | None) -> None:
    pods = {("Pod", str(n)): pod(n, message) for n, message in enumerate(messages)}
    assert measured({("Job", "j"): job(condition), **pods}) == ({} if end is None else {"j": end})


@pytest.mark.parametrize(
    "message",
    [
        pytest.param('{"metrics": [1]}', id="a list of metrics"),
        pytest.param('{"metrics": {"f1": "x"}}', id="a text as value"),
        pytest.param('{"metrics": {"f1": [1]}}', id="a list as value"),
        pytest.param('{"metrics": {"f1": Infinity}}', id="infinity"),
        pytest.param('{"metrics": {"f1": 1e999}}', id="infinity by overflow"),
        pytest.param('{"metrics": {"f1": 1}, "rows": "y"}', id="a text as number of rows"),
        pytest.param('{"metrics": {"f1": 1}, "rows": -1}', id="fewer than no rows"),
        pytest.param('{"metrics": ' + '{"a":' * 700, id="deep"),
        pytest.param(json.dumps({"metrics": dict.fromkeys(map(str, range(100)), 1)}), id="too many metrics"),
    ],
)
def test_a_result_that_no_server_writes_is_an_error_of_its_job(message: str) -> None:
    (found,) = measured({("Job", "j"): job("Failed"), ("Pod", "p0"): pod(0, message)}).values()
    assert found.values == {}
    assert found.error
    assert len(found.error) <= 1024


def test_a_measure_that_is_no_number_is_not_measured() -> None:
    message = '{"rows": 5, "metrics": {"f1": null, "accuracy": 0.5}}'
    (found,) = measured({("Job", "j"): job("Complete"), ("Pod", "p0"): pod(0, message)}).values()
    assert found == Measurement(values={"accuracy": 0.5}, rows=5)


def waiting_pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "0", "labels": {"modeldeploy.dev/evaluation": "j"}}, "status": status}


NO_SECRET = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}}
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}


@pytest.mark.parametrize(
    ("status", "pods", "why"),
    [
        pytest.param({"startTime": "t", "active": 1}, [pod(0, None)], None, id="a pod that runs"),
        pytest.param({}, [], None, id="a Job that nobody has looked at yet"),
        pytest.param(
            {"startTime": "t"},
            [],
            "it has no pod; for the reason, run kubectl describe job j",
            id="a quota, or an admission policy",
        ),
        pytest.param(
            {"startTime": "t", "active": 1},
            [waiting_pod(containerStatuses=[{"state": NO_SECRET}])],
            'CreateContainerConfigError: secret "x" not found; make it in this namespace, and the pod starts, or'
            " correct its name in the spec",
            id="a missing Secret",
        ),
        pytest.param(
            {"startTime": "t", "active": 1},
            [waiting_pod(conditions=[UNSCHEDULABLE])],
            "Unschedulable: 0/3 nodes",
            id="no node has room",
        ),
    ],
)
def test_what_keeps_an_evaluation_waiting(status: dict[str, Any], pods: list[dict[str, Any]], why: str | None) -> None:
    body = {"kind": "Job", "metadata": {"name": "j"}, "status": status}
    children = {("Job", "j"): body, **{("Pod", one["metadata"]["name"]): one for one in pods}}
    assert hindrances(children) == ({} if why is None else {"j": why})


def test_what_keeps_an_evaluation_waiting_is_told() -> None:
    s = situation([{"name": "f1", "min": 0.5}], {})
    (evaluation,) = evaluations(s)
    loaded = RevisionView(revision="new", desired=1, pods=1, ready=1, available=1)
    hindered = Observed(revisions={"new": loaded}, hindrances={evaluation.job: "Unschedulable: 0/3 nodes"})
    s = RolloutContext(resource=s.resource, status=s.status, observed=hindered, now=NOW)
    assert status_message(s) == "step 1/2: evaluating new on labelled data: revision new: Unschedulable: 0/3 nodes"


def rendered(step: dict[str, Any], **spec: Any) -> dict[str, Any]:
    source = {"model": {"storageUri": "s3://m/1"}, "server": {}, **spec}
    body = {
        "metadata": {"name": "fraud", "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": "1"},
        "spec": source,
    }
    found = parse_step({"evaluate": {**RAW, **step}}, "")
    assert isinstance(found, Evaluate)
    return evaluation_job(ModelDeployment.from_body(body), "j", "new", source, found, PodSettings(image="server"))


def test_the_pod_is_the_servers_with_other_arguments() -> None:
    template = rendered({})["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert container["args"][:3] == ["evaluate", "--data", "s3://data/holdout.csv"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert template["spec"]["restartPolicy"] == "Never"
    assert "readinessProbe" not in container
    assert "modeldeploy.dev/name" not in template["metadata"]["labels"], "a Service would send it requests"


def test_sidecars_do_not_keep_it_from_ending() -> None:
    overlay = {"podTemplate": {"spec": {"containers": [{"name": "proxy", "image": "p"}], "nodeSelector": {"a": "b"}}}}
    spec = rendered({}, server=overlay)["spec"]["template"]["spec"]
    assert [one["name"] for one in spec["containers"]] == ["evaluate"]
    assert spec["nodeSelector"] == {"a": "b"}


def test_the_data_may_have_a_secret_and_a_claim_of_their_own() -> None:
    spec = rendered({"dataset": "pvc://shelf/holdout.csv", "secretName": "of-data"})["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["args"][-2:] == ["--credentials-dir", DATA_SECRET_DIR]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["data"] == "/mnt/claims/shelf"
    assert {"name": "data-secret", "secret": {"secretName": "of-data"}} in spec["volumes"]


def test_groups_are_named_to_the_job_and_shown_with_what_is_small() -> None:
    (container,) = rendered({"groups": ["sex", "region"]})["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--groups", "sex,region"]
    message = (
        '{"rows": 5, "metrics": {"equalized-odds-difference": 0.2}, "notes": ["sex=b has 5 rows"],'
        ' "groups": {"sex": {"b": {"rows": 5, "accuracy": 0.8}}}}'
    )
    (found,) = measured({("Job", "j"): job("Complete"), ("Pod", "p0"): pod(0, message)}).values()
    shown = table(situation([{"name": "equalized-odds-difference", "max": 0.1}], {"new": found}))
    assert shown["groups"] == {"sex": {"b": {"rows": 5, "accuracy": 0.8}}}
    assert shown["message"] == "equalized-odds-difference 0.2 (at most 0.1); sex=b has 5 rows"


def test_a_step_without_groups_has_the_hash_of_the_first_release() -> None:
    step = parse_step({"evaluate": RAW}, "")
    assert repr(step).endswith("secret_name=None, timeout=datetime.timedelta(seconds=3600))")
    assert "groups=('sex',)" in repr(parse_step({"evaluate": {**RAW, "groups": ["sex"]}}, ""))
