"""A worse version goes back by the numbers that its pods count, an equal one goes live; all on real load."""

from collections.abc import Iterator
from typing import Any

import pytest
from model_packages import some_rows

from modeldeploy.demo.load import Load
from modeldeploy.kube import EVENTS, MODELDEPLOYMENTS
from modeldeploy.stand import wait_until

NAME = "judged"
STRATEGY = {
    "canary": {
        "steps": [{"setWeight": 50}, {"analysis": {"minDuration": "1s", "maxDuration": "2m"}}],
        "scaleDownDelaySeconds": 0,
        "abortScaleDownDelaySeconds": 0,
        "analysis": {
            "interval": "2s",
            "warmup": "0s",
            "metrics": [
                {"name": "errors", "fail": {"ratioMargin": 1.25}, "pass": {"orMax": 0.05}},
                {"name": "latency", "slowerThan": "50ms", "fail": {"ratioMargin": 1.25}, "pass": {"orMax": 0.2}},
            ],
        },
    }
}


def deploy(space: Any, version: str) -> None:
    space.apply(NAME, f"judged/{version}", strategy=STRATEGY)


def status(space: Any) -> dict[str, Any]:
    found: dict[str, Any] = space.kube.get(MODELDEPLOYMENTS, NAME).get("status", {})
    return found


@pytest.fixture(scope="module")
def judged(space: Any) -> Iterator[Any]:
    """The first version, live and under load."""
    deploy(space, "1")
    space.wait_live(NAME, "1")
    rows = some_rows(50)
    with Load(f"{space.url(NAME)}/predict", rows, {}, rate=120) as load:
        wait_until(lambda: load.report.sent > 20, "the load is on", seconds=20)
        yield space


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("version", "why"),
    [
        pytest.param("2-raises", "errors: canary", id="one that raises"),
        pytest.param("3-slow", "latency above 50 ms: canary", id="one that is slow"),
    ],
)
def test_a_worse_version_goes_back_by_itself(judged: Any, version: str, why: str) -> None:
    deploy(judged, version)

    def is_over() -> bool:
        found = status(judged)
        entry = found.get("history", [{}])[0]
        return found["phase"] == "Degraded" and entry.get("uri", "").endswith(version)

    wait_until(is_over, f"{version} went back", seconds=120)
    rollback = status(judged)["rollback"]
    assert rollback["reason"] == "AnalysisFailed"
    assert why in rollback["message"]
    events = judged.kube.list(EVENTS, fields=f"involvedObject.name={NAME}")
    assert any(event["reason"] == "AnalysisFailed" and why in event["message"] for event in events)


@pytest.mark.timeout(180)
def test_an_equal_version_goes_live_by_itself(judged: Any) -> None:
    deploy(judged, "4-same")
    judged.wait_live(NAME, "4-same", seconds=120)
    analysis = status(judged)["analysis"]
    assert analysis["phase"] == "Passed"
    assert [metric["verdict"] for metric in analysis["metrics"]] == ["Pass", "Pass"]
