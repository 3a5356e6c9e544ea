"""Every expression of the dashboards gives numbers on a real Prometheus that scraped real rollouts under load."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from dashboard_queries import expressions, filled, label_queries
from labelled_load import LabelledLoad
from model_packages import judged_label, ranges, some_rows
from scraping import Prometheus, prometheus
from waiting import wait_until

from modeldeploy.kube import MODELDEPLOYMENTS, MODELPOOLS

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "helm" / "modeldeploy" / "dashboards").glob("*.json"))
NAME = "watched"
VERSIONS = ("1", "4-same", "2-raises")
PREFIX = "modeldeploy_operator"
POOL = "small"

#: Panels that show nothing in healthy operation, with the reason.
EMPTY = {
    "Source changed": "no object at a storage URI was replaced while it was served",
    "Input log": "the input log is off",
    "Evictions by model": "the models of the pool fit its budget",
    "Crashes by model": "no model ends its process",
    "Estimated quality by revision": "the model tells no probabilities, as that of test_estimated_quality.py does",
}


def deploy(space: Any, version: str) -> None:
    canary = {
        "steps": [
            {"setWeight": 50},
            {"pause": {"duration": "4s"}},
            {"analysis": {"minDuration": "1s", "maxDuration": "2m"}},
        ],
        "scaleDownDelaySeconds": 0,
        "abortScaleDownDelaySeconds": 0,
        "analysis": {
            "interval": "1s",
            "warmup": "0s",
            "metrics": [
                {"name": "errors", "fail": {"ratioMargin": 1.25}, "pass": {"orMax": 0.05}},
                {"name": "accuracy", "fail": {"maxDropFromStable": 0.01}},
            ],
        },
    }
    monitoring = {"serviceMonitor": True, "drift": {"reference": "300"}, "dataQuality": {}}
    space.apply(NAME, f"watched/{version}", strategy={"canary": canary}, monitoring=monitoring)


#: A step before the model, which has its time in a panel.
COLUMNS = """
import numpy as np

def transform(inputs):
    return np.column_stack(list(inputs.values()))
"""


def write_packages(models: Path) -> None:
    """Write the versions of the judged model with the features of the quick one: drift is about features.

    The profile says that one of them is half as large as it is.
    """
    features = yaml.safe_load((models / "quick/breast-cancer/1/model.yaml").read_text())["input_features"]
    for version in VERSIONS:
        package = models / "watched" / version
        shutil.copytree(models / "judged" / version, package)
        described = yaml.safe_load((package / "model.yaml").read_text())
        name, (low, high) = features[0]["name"], features[0]["range"]
        profile = {name: {"edges": [low, (low + high) / 2], "counts": [1000]}}
        both = {"input_features": features, "reference_profile": profile}
        (package / "model.yaml").write_text(yaml.safe_dump({**described, **both}))
        (package / "pre.py").write_text(COLUMNS)


def rolled_back(space: Any) -> bool:
    return bool(space.kube.get(MODELDEPLOYMENTS, NAME).get("status", {})["phase"] == "Degraded")


@pytest.fixture(scope="module")
def scraped(space: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scraped a rollout that was promoted, and one that went back."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    jobs = {
        "operator": ("modeldeploy", "app.kubernetes.io/component=operator", "metrics"),
        "models": (space.namespace, f"modeldeploy.dev/name={NAME},modeldeploy.dev/revision", "http"),
        "pools": (space.namespace, f"modeldeploy.dev/pool={POOL}", "http"),
    }
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus(folder, space.kubeconfig, jobs, groups()) as running:
        write_packages(space.cluster.models)
        ask_pool(space)
        deploy(space, "1")
        space.wait_live(NAME, "1")
        with LabelledLoad(space.url(NAME), list(ranges()), some_rows(200), judged_label, rate=160) as load:
            wait_until(lambda: has_drift(running), "there is a drift score", seconds=60)
            deploy(space, "4-same")
            space.wait_live(NAME, "4-same", seconds=120)
            refuse(space)
            deploy(space, "2-raises")
            wait_until(lambda: rolled_back(space), "the bad version went back", seconds=120)
            refuse(space)
            wait_until(lambda: running.history(f'{PREFIX}_phase{{phase="Degraded"}}'), "it was scraped", seconds=30)
            assert load.labelled
            yield running


def ask_pool(space: Any) -> None:
    """Make a pool, and for some scrapes ask a model that is loaded again and again, and one that is not there."""
    listed = [{"name": "there", "storageUri": f"{space.cluster.models_uri}/quick/breast-cancer/1", "trusted": True}]
    listed += [{"name": "gone", "storageUri": f"{space.cluster.models_uri}/nowhere"}]
    manifest = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": POOL}}
    space.kube.apply(MODELPOOLS, {**manifest, "spec": {"models": listed, "processes": 1}})

    def is_ready() -> bool:
        return bool((space.kube.get(MODELPOOLS, POOL).get("status") or {}).get("phase") == "Ready")

    wait_until(is_ready, "the pool is ready", seconds=60)
    rows = {"instances": [dict.fromkeys(ranges(), 0.5)]}
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        httpx.post(f"{space.url(POOL)}/v2/repository/models/there/unload", timeout=30, trust_env=False)
        for name in ("there", "gone"):
            httpx.post(f"{space.url(POOL)}/v1/models/{name}:predict", json=rows, timeout=30, trust_env=False)
        time.sleep(0.2)


def groups() -> list[dict[str, Any]]:
    """The alerts of the chart, as they are written into a PrometheusRule."""
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")
    with helm.Chart.load(str(ROOT / "helm" / "modeldeploy")) as chart:
        files = chart.render({"metrics": {"prometheusRule": {"enabled": True}}}, name="md", namespace="modeldeploy")
    (rule,) = [yaml.safe_load(text) for name, text in files.items() if name.endswith("prometheusrule.yaml")]
    return list(rule["spec"]["groups"])


def has_drift(running: Prometheus) -> bool:
    return bool(running.history("modeldeploy_drift_score"))


def refuse(space: Any) -> None:
    """Send what the model refuses."""
    answer = httpx.post(f"{space.url(NAME)}/predict", content=b"{", trust_env=False)
    assert answer.status_code == 400


def chosen(space: Any) -> dict[str, str]:
    """Return what a person chose, with the values that Grafana gives to "All"."""
    return {"namespace": space.namespace, "model": NAME, "revision": ".*", "pool": POOL, "pod": ".*"}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in DASHBOARDS])
def test_every_panel_of_a_dashboard_has_numbers(path: Path, space: Any, scraped: Prometheus) -> None:
    body = json.loads(path.read_text())
    silent = {
        f"{title}: {expression}"
        for title, expression in expressions(body)
        if title not in EMPTY and not scraped.history(filled(expression, chosen(space), "10s"))
    }
    assert not silent
    for title, expression in expressions(body):
        if title in EMPTY:
            assert not scraped.history(filled(expression, chosen(space), "10s")), f"{title} is no longer empty"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in DASHBOARDS])
def test_every_variable_of_a_dashboard_has_values(path: Path, space: Any, scraped: Prometheus) -> None:
    for series, label in label_queries(json.loads(path.read_text())):
        found = {one.get(label) for one in scraped.series(filled(series, chosen(space)))}
        assert found - {None}, f"{label} of {series}"


@pytest.mark.timeout(400)
def test_the_rollout_shows_canary_and_stable_by_their_roles(space: Any, scraped: Prometheus) -> None:
    roles = scraped.series(f'{PREFIX}_analysis_value{{namespace="{space.namespace}",name="{NAME}"}}')
    assert {(one["metric"], one["role"]) for one in roles} == {
        (metric, role) for metric in ("errors", "refusals", "accuracy") for role in ("canary", "stable")
    }


@pytest.mark.timeout(400)
def test_prometheus_evaluates_the_alerts_of_the_chart(scraped: Prometheus) -> None:
    def all_evaluated() -> bool:
        return {rule["health"] for rule in scraped.rules()} == {"ok"}

    wait_until(all_evaluated, "every rule was evaluated", seconds=90)
    assert {rule["name"] for rule in scraped.rules() if rule["state"] == "firing"} == set()
