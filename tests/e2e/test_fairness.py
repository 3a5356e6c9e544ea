"""A version that is worse for one group alone goes back by its groups, while its accuracy is good enough."""

from collections.abc import Sequence
from typing import Any

import pytest
from labelled_load import LabelledLoad
from model_packages import FEW_BELOW, judged_label, ranges, some_rows
from waiting import wait_until

from modeldeploy.kube import MODELDEPLOYMENTS

NAME = "fair"
#: On average the version is about 15 points worse, and 50 points for the few.
DROP = {"maxDropFromStable": 0.25}
METRICS = [{"name": "accuracy", "fail": DROP}, {"name": "group-accuracy", "fail": DROP, "slice": "size"}]
CANARY = {
    "steps": [{"setWeight": 50}, {"analysis": {"maxDuration": "3m"}}],
    "scaleDownDelaySeconds": 0,
    "abortScaleDownDelaySeconds": 0,
    "analysis": {"interval": "1s", "warmup": "0s", "metrics": METRICS},
}


def size_of(row: Sequence[float]) -> dict[str, str]:
    return {"size": "few" if row[1] < FEW_BELOW else "many"}


def status(space: Any) -> dict[str, Any]:
    found: dict[str, Any] = space.kube.get(MODELDEPLOYMENTS, NAME).get("status", {})
    return found


@pytest.mark.timeout(240)
def test_a_version_that_is_worse_for_one_group_goes_back_and_its_accuracy_does_not_fail(space: Any) -> None:
    rest: dict[str, Any] = {"strategy": {"canary": CANARY}, "monitoring": {"slices": [{"name": "size"}]}}
    space.apply(NAME, "judged/1", **rest)
    space.wait_live(NAME, "1")
    last: list[dict[str, Any]] = []

    def is_over() -> bool:
        found = status(space)
        last[:] = (found.get("analysis") or {}).get("metrics", last)
        return bool(found["phase"] == "Degraded")

    with LabelledLoad(space.url(NAME), list(ranges()), some_rows(200), judged_label, rate=160, groups=size_of) as load:
        wait_until(lambda: load.labelled > 20, "the load is on", seconds=20)
        space.apply(NAME, "judged/10-unfair", **rest)
        wait_until(is_over, lambda: f"it went back: {status(space)}", seconds=180)
    rollback = status(space)["rollback"]
    assert rollback["reason"] == "AnalysisFailed"
    assert rollback["message"].startswith("group-accuracy: few 0.")
    assert "many 1.0" in rollback["message"]
    verdicts = {metric["name"]: metric["verdict"] for metric in last}
    assert verdicts["accuracy"] != "Fail"
