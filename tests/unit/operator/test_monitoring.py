"""What the Prometheus operator is told of a model; Prometheus' own tool runs the alerts on made-up series."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_operator.api.resource import ModelDeployment
from model_operator.manifests.monitoring import monitoring_objects

RETRAIN = {
    "url": "https://pipelines.example.com/train",
    "quality": [{"name": "accuracy", "min": 0.9}, {"name": "log-loss", "max": 0.5}, {"name": "conversion", "min": 0.1}],
    "estimatedQuality": [{"name": "accuracy", "min": 0.9}],
}
MODEL = 'model="fraud",namespace="shop",revision="r1",version="7"'
#: Series for half an hour, one value a minute.
SERIES = {
    f'modeldeploy_requests_total{{{MODEL},code="200"}}': "0+90x30",
    f'modeldeploy_requests_total{{{MODEL},code="503"}}': "0+10x30",
    f'modeldeploy_drifted{{{MODEL},feature="age"}}': "1x30",
    f'modeldeploy_drifted{{{MODEL},feature="plan"}}': "0x30",
    f'modeldeploy_data_quality_alert{{{MODEL},feature="age",problem="out_of_range"}}': "1x30",
    f'modeldeploy_data_quality_alert{{{MODEL},feature="plan",problem="missing"}}': "0x30",
    f'modeldeploy_data_quality_alert{{{MODEL},problem="outlier"}}': "1x30",
    f'modeldeploy_quality{{{MODEL},metric="accuracy"}}': "0.8x30",
    f'modeldeploy_quality{{{MODEL},metric="log_loss"}}': "0.4x30",
    f'modeldeploy_estimated_quality_high{{{MODEL},pod="a",metric="accuracy"}}': "0.85x30",
    f'modeldeploy_estimate_trusted{{{MODEL},pod="a"}}': "1x30",
    # A pod that does not trust its estimate does not count.
    f'modeldeploy_estimated_quality_high{{{MODEL},pod="b",metric="accuracy"}}': "0.99x30",
    f'modeldeploy_estimate_trusted{{{MODEL},pod="b"}}': "0x30",
    'modeldeploy_operator_phase{namespace="shop",name="fraud",phase="Degraded"}': "1x30",
}


ABORTED = 'modeldeploy_operator_rollouts_total{namespace="shop",name="fraud",result="Aborted"}'
SERVED = {"model": "fraud", "namespace": "shop"}
NAMED = {"name": "fraud", "namespace": "shop"}
#: What is told of them: labels and annotations by alert.
TOLD = {
    "ModelErrors": (
        {"severity": "critical", **SERVED, "revision": "r1"},
        {
            "summary": "The model fraud returns errors",
            "description": "Revision r1 answered 10% of its requests with a 5xx.",
        },
    ),
    "ModelDegraded": (
        {"severity": "critical", **NAMED, "phase": "Degraded"},
        {
            "summary": "The model fraud is degraded",
            "description": "For the reason, run kubectl describe mdep fraud -n shop.",
        },
    ),
    "ModelRolledBack": (
        {"severity": "warning", **NAMED, "result": "Aborted"},
        {
            "summary": "A new version of the model fraud was rolled back",
            "description": "For the reason, run kubectl modeldeploy history fraud -n shop.",
        },
    ),
    "ModelInputsDrifted": (
        {"severity": "warning", **SERVED, "feature": "age"},
        {
            "summary": "The inputs of the model fraud have drifted",
            "description": "age is no longer distributed as in the training data.",
        },
    ),
    "ModelInputsBad": (
        {"severity": "warning", **SERVED, "feature": "age", "problem": "out_of_range"},
        {
            "summary": "The model fraud receives bad inputs",
            "description": "age has the problem out_of_range in more rows than its limit allows.",
        },
    ),
    "ModelInputsOutlying": (
        {"severity": "warning", **SERVED},
        {
            "summary": "The inputs of the model fraud are far from its training data",
            "description": "More rows than the limit allows are farther from the training data than 99.9 % of it.",
        },
    ),
    "ModelEstimatedQualityLow": (
        {"severity": "warning", **SERVED, "metric": "accuracy"},
        {
            "summary": "The quality of the model fraud is estimated to have degraded",
            "description": "Without labels, its accuracy is estimated to be at most 0.85, which is < 0.9.",
        },
    ),
    "ModelQualityLow": (
        {"severity": "warning", **SERVED, "metric": "accuracy"},
        {
            "summary": "The quality of the model fraud has degraded",
            "description": "According to feedback, its accuracy is 0.8, which is < 0.9.",
        },
    ),
}


def resource(server: Any = None, **monitoring: Any) -> ModelDeployment:
    hooks = {"retrain": RETRAIN}
    spec = {"model": {"storageUri": "s3://b/m"}, "server": server or {}, "monitoring": monitoring, "hooks": hooks}
    metadata = {"name": "fraud", "namespace": "shop", "uid": "u", "resourceVersion": "1", "generation": 1}
    return ModelDeployment.from_body({"metadata": metadata, "spec": spec})


def objects(server: Any = None, **monitoring: Any) -> dict[str, Any]:
    found = monitoring_objects(resource(server, **monitoring), {"http", "https"}, {"release": "prometheus"})
    return {body["kind"]: body for body in found}


def test_what_is_not_asked_for_is_not_made() -> None:
    assert objects() == {}
    assert list(objects(serviceMonitor=True)) == ["ServiceMonitor"]


def test_each_pod_is_scraped_once_at_the_port_that_it_speaks() -> None:
    body = objects(serviceMonitor=True)["ServiceMonitor"]
    assert body["metadata"]["labels"]["release"] == "prometheus"
    selector = body["spec"]["selector"]
    assert selector["matchLabels"] == {"modeldeploy.dev/name": "fraud"}
    assert selector["matchExpressions"] == [{"key": "modeldeploy.dev/revision", "operator": "Exists"}]
    assert [(one["port"], one.get("scheme")) for one in body["spec"]["endpoints"]] == [
        ("http", None),
        ("https", "https"),
    ]
    assert all("authorization" not in one for one in body["spec"]["endpoints"])


def test_prometheus_sends_an_entry_of_the_secret_with_the_keys() -> None:
    server = {"auth": {"secretName": "fraud-keys", "protect": ["metrics"]}}
    body = objects(server, serviceMonitor=True, scrapeKey="prometheus")["ServiceMonitor"]
    sent = {"type": "Bearer", "credentials": {"name": "fraud-keys", "key": "prometheus"}}
    assert [one["authorization"] for one in body["spec"]["endpoints"]] == [sent, sent]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: it comes with Prometheus")
@pytest.mark.parametrize(
    "aborted",
    [pytest.param("1x25 2x5", id="not the first rollback"), pytest.param("_x25 1x5", id="the first rollback")],
)
def test_the_alerts_fire_for_what_they_are_about(tmp_path: Path, aborted: str) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(objects(alerts=True)["PrometheusRule"]["spec"]))
    series = [{"series": name, "values": values} for name, values in {**SERIES, ABORTED: aborted}.items()]
    told = [
        {"eval_time": "28m", "alertname": name, "exp_alerts": [{"exp_labels": labels, "exp_annotations": words}]}
        for name, (labels, words) in TOLD.items()
    ]
    case = tmp_path / "test.yaml"
    tests = [{"interval": "1m", "input_series": series, "alert_rule_test": told}]
    case.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": tests}))
    run = subprocess.run(["promtool", "test", "rules", str(case)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
