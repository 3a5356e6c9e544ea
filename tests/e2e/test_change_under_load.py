"""A new version takes over while requests keep coming: none is lost, and each answer is a model's own."""

from typing import Any

import pytest
from model_packages import VERSIONS, own_predictions, some_rows
from waiting import wait_until

from modeldeploy.demo.load import Load
from modeldeploy.kube import PODS

NAME = "busy"


@pytest.mark.timeout(240)
def test_no_request_fails_while_versions_change(space: Any) -> None:
    rows = some_rows(100)
    expected = {version: own_predictions(version, rows) for version in VERSIONS}
    space.apply(NAME, "quick/breast-cancer/1", replicas=2)
    space.wait_live(NAME, "1")

    with Load(f"{space.url(NAME)}/predict", rows, expected, rate=200) as load:
        wait_until(lambda: "1" in load.versions(), "the load is on", seconds=20)
        space.apply(NAME, "quick/breast-cancer/2", replicas=2)
        space.wait_live(NAME, "2")
        wait_until(lambda: "2" in load.versions(), "version 2 answers", seconds=20)
        wait_until(lambda: len(pods(space)) == 2, "version 1 has left", seconds=90)

    assert load.report.failed == []
    assert load.report.differing == []
    assert set(load.report.answered) == {"1", "2"}


def pods(space: Any) -> list[dict[str, Any]]:
    return space.kube.list(PODS, labels=f"modeldeploy.dev/name={NAME}")
