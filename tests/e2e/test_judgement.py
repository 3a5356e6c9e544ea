"""A worse version goes back by what its pods count, an equal one goes live; on real load with real labels."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_port
from labelled_load import LabelledLoad
from model_packages import RENAMED, judged_label, ranges, some_rows
from waiting import wait_until

from modeldeploy.kube import EVENTS, MODELDEPLOYMENTS

NAME = "judged"
STEPS = [{"setWeight": 50}, {"analysis": {"minDuration": "1s", "maxDuration": "2m"}}]
METRICS: list[dict[str, Any]] = [
    {"name": "errors", "fail": {"ratioMargin": 1.25}, "pass": {"orMax": 0.05}},
    {"name": "latency", "slowerThan": "50ms", "fail": {"ratioMargin": 1.25}, "pass": {"orMax": 0.2}},
    {"name": "prediction-shift", "max": 0.2},
    {"name": "accuracy", "min": 0.5, "fail": {"maxDropFromStable": 0.01}},
]
LIMITS = [{"name": "accuracy", "min": 0.8, "maxDropFromStable": 0.01}, {"name": "f1", "min": 0.8}]


#: Promotion waits for its proof. With `fail` alone the others may pass first: they need about as many answers.
PROVEN_ACCURACY = {**METRICS[-1], "pass": {"maxDropFromStable": 0.05}}


def deploy(space: Any, version: str, *first: dict[str, Any], metrics: list[dict[str, Any]] = METRICS) -> None:
    analysis = {"interval": "1s", "warmup": "0s", "metrics": metrics}
    canary = {"steps": [*first, *STEPS], "scaleDownDelaySeconds": 0, "abortScaleDownDelaySeconds": 0}
    space.apply(NAME, f"judged/{version}", strategy={"canary": {**canary, "analysis": analysis}})


def evaluate(space: Any) -> dict[str, Any]:
    """The step that measures on labelled data."""
    dataset = f"{space.cluster.models_uri}/judged/holdout.csv"
    return {"evaluate": {"dataset": dataset, "target": "label", "metrics": LIMITS}}


def status(space: Any) -> dict[str, Any]:
    found: dict[str, Any] = space.kube.get(MODELDEPLOYMENTS, NAME).get("status", {})
    return found


def wait_gone_back(space: Any, version: str) -> dict[str, Any]:
    def is_over() -> bool:
        found = status(space)
        entry = found.get("history", [{}])[0]
        return found["phase"] == "Degraded" and entry.get("uri", "").endswith(version)

    wait_until(is_over, lambda: f"{version} went back: {status(space)}", seconds=120)
    return status(space)


def events(space: Any, reason: str) -> list[str]:
    found = space.kube.list(EVENTS, fields=f"involvedObject.name={NAME}")
    return [event["message"] for event in found if event["reason"] == reason]


@pytest.fixture(scope="module")
def judged(space: Any) -> Iterator[Any]:
    """The first version, live and under load."""
    deploy(space, "1")
    space.wait_live(NAME, "1")
    with LabelledLoad(space.url(NAME), list(ranges()), some_rows(200), judged_label, rate=160) as load:
        wait_until(lambda: load.labelled > 20, "the load is on", seconds=20)
        yield space


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("version", "why"),
    [
        pytest.param("2-raises", "errors: canary", id="one that raises"),
        pytest.param("3-slow", "latency above 50 ms: canary", id="one that is slow"),
        pytest.param("5-shifted", "prediction-shift: PSI", id="one that answers otherwise"),
        pytest.param("6-inaccurate", "accuracy: canary 0.", id="one that is wrong ten points more often"),
    ],
)
def test_a_worse_version_goes_back_by_itself(judged: Any, version: str, why: str) -> None:
    # What answers otherwise is wrong as well, and labels would tell so first.
    rest = METRICS[:-1]
    deploy(judged, version, metrics=rest if version == "5-shifted" else [*rest, PROVEN_ACCURACY])
    rollback = wait_gone_back(judged, version)["rollback"]
    assert rollback["reason"] == "AnalysisFailed"
    assert why in rollback["message"]
    assert any(why in message for message in events(judged, "AnalysisFailed"))


@pytest.mark.timeout(180)
def test_a_version_whose_columns_were_renamed_goes_back_without_an_analysis_block(judged: Any) -> None:
    canary = {"steps": STEPS, "scaleDownDelaySeconds": 0, "abortScaleDownDelaySeconds": 0}
    judged.apply(NAME, f"judged/{RENAMED}", strategy={"canary": canary})
    rollback = wait_gone_back(judged, RENAMED)["rollback"]
    assert rollback["reason"] == "AnalysisFailed"
    assert rollback["message"].startswith("refusals: canary")


@pytest.mark.timeout(180)
def test_a_version_that_has_learnt_nothing_never_sees_a_request(judged: Any) -> None:
    before = events(judged, "WeightSet")
    deploy(judged, "7-shuffled", evaluate(judged))
    found = wait_gone_back(judged, "7-shuffled")
    assert found["rollback"]["reason"] == "EvaluationFailed"
    accuracy, f1 = found["evaluation"]["metrics"]
    assert accuracy["canary"] < 0.8
    assert (accuracy["stable"], accuracy["verdict"]) == (1.0, "Fail")
    assert found["evaluation"]["rows"] == 200
    assert "stable" not in f1 or f1["stable"] == 1.0
    assert events(judged, "WeightSet") == before


@pytest.mark.timeout(180)
def test_an_equal_version_goes_live_by_itself(judged: Any) -> None:
    deploy(judged, "4-same", evaluate(judged))
    judged.wait_live(NAME, "4-same", seconds=120)
    found = status(judged)
    assert found["evaluation"]["phase"] == "Passed"
    assert "accuracy 1 (at least 0.8, stable 1, at most 0.01 worse)" in events(judged, "EvaluationPassed")[0]
    assert found["analysis"]["phase"] == "Passed"
    verdicts = {metric["name"]: metric["verdict"] for metric in found["analysis"]["metrics"]}
    undecided = {"refusals": "Undecided", "accuracy": "Undecided"}
    assert verdicts == {"errors": "Pass", "latency": "Pass", "prediction-shift": "Pass", **undecided}


def phase_is(space: Any, phase: str, reason: str = "") -> Callable[[], bool]:
    def holds() -> bool:
        found = status(space)
        reasons = [pause["reason"] for pause in found.get("pauseConditions", ())]
        return found["phase"] == phase and reasons == ([reason] if reason else [])

    return holds


@pytest.fixture
def prometheus(judged: Any, tmp_path: Path) -> Iterator[tuple[str, Callable[[], subprocess.Popen[bytes]]]]:
    """The address of a Prometheus that scrapes itself, and how to start it."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    # Where pods reach this machine: its loopback, or what it has of their network.
    [node, *_] = json.loads(judged.kubectl("get", "nodes", "-o", "json").stdout)["items"]
    address = f"{node['status']['addresses'][0]['address']}:{free_port()}"
    targets = f"[{{job_name: itself, static_configs: [{{targets: ['{address}']}}]}}]"
    (tmp_path / "prometheus.yml").write_text(f"global: {{scrape_interval: 1s}}\nscrape_configs: {targets}\n")
    # Debian's Prometheus keeps its data in one folder of the machine unless it is told otherwise.
    words = ("--config.file", "prometheus.yml", "--storage.tsdb.path", "data", "--web.listen-address", address)
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["prometheus", *words, "--log.level", "error"], cwd=tmp_path))
        return started[-1]

    yield f"http://{address}", start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.timeout(300)
def test_a_killed_prometheus_holds_the_rollout_and_resumes_it(judged: Any, prometheus: Any) -> None:
    address, start = prometheus
    running = start()
    guard = {"name": "up", "prometheus": {"address": address, "query": "sum(up)"}, "min": 1}
    analysis = {"interval": "1s", "warmup": "0s", "providerTimeout": "1s", "metrics": [guard]}
    canary = {"steps": [{"setWeight": 50}, {"pause": {}}], "scaleDownDelaySeconds": 0, "analysis": analysis}
    judged.apply(NAME, "judged/8-guarded", strategy={"canary": canary})

    def has_value() -> bool:
        return any(metric.get("value") == 1 for metric in (status(judged).get("analysis") or {}).get("metrics", ()))

    wait_until(has_value, lambda: f"Prometheus answered: {status(judged)}", seconds=120)
    wait_until(phase_is(judged, "Paused", "PauseStep"), "the rollout waits for a person", seconds=60)
    running.kill()
    wait_until(phase_is(judged, "Paused", "ProviderUnavailable"), "the outage holds the rollout", seconds=60)
    unhealthy = next(c for c in status(judged)["conditions"] if c["type"] == "AnalysisHealthy")
    assert (unhealthy["status"], unhealthy["reason"]) == ("False", "ProviderError")
    assert status(judged)["weights"]["applied"] == 50, "an outage takes no traffic away"
    start()
    wait_until(phase_is(judged, "Paused", "PauseStep"), "the rollout resumed", seconds=60)
    token = f"modeldeploy.dev/promote={status(judged)['canaryRevision']}"
    assert judged.kubectl("annotate", "mdep", NAME, token).returncode == 0
    judged.wait_live(NAME, "8-guarded", seconds=60)
