"""How a batch is told."""

from typing import Any

import pytest

from modeldeploy.batches import Batch, bar_of, line_of
from modeldeploy.rollout import Verdict


def batch(spec: dict[str, Any] | None = None, **status: Any) -> Batch:
    given = {"model": {"name": "fraud"}, "output": {"uri": "s3://scores/1"}, **(spec or {})}
    metadata = {"name": "night", "namespace": "risk", "generation": 2}
    return Batch.from_body({"metadata": metadata, "spec": given, "status": {"observedGeneration": 2, **status}})


RUNNING: dict[str, Any] = {
    "phase": "Running",
    "rows": 41_250,
    "failedRows": 12,
    "shardsDone": "8/20",
    "rowsPerSecond": 512,
}


@pytest.mark.parametrize(
    ("found", "line"),
    [
        pytest.param(batch(), "night: Pending", id="before the operator has begun"),
        pytest.param(
            batch(**RUNNING, percent=41, secondsLeft=116),
            "night: Running  [#########...............]  41%  41,250 rows  12 failed  512/s  shards 8/20  1m 56s left",
            id="in the middle",
        ),
        pytest.param(
            batch(**{**RUNNING, "phase": "Failed"}, percent=41, secondsLeft=116, message="row 7"),
            "night: Failed  [#########...............]  41%  41,250 rows  12 failed  512/s  shards 8/20  row 7",
            id="at its end no time is left",
        ),
        pytest.param(
            batch(
                {"schedule": "0 2 * * *"},
                phase="Scheduled",
                active=["night-1"],
                nextScheduleTime="2026-05-02T00:00:00.000000Z",
            ),
            "night: Scheduled: running: night-1, the next is due at 2026-05-02T00:00:00Z",
            id="a schedule has its runs",
        ),
        pytest.param(
            batch({"schedule": "0 2 * * *"}, phase="Scheduled"),
            "night: Scheduled: none is running",
            id="a schedule between its runs",
        ),
    ],
)
def test_a_line(found: Batch, line: str) -> None:
    assert line_of(found) == line


@pytest.mark.parametrize(
    ("phase", "verdict"),
    [
        ("Complete", Verdict.HEALTHY),
        ("Scheduled", Verdict.HEALTHY),
        ("Failed", Verdict.FAILED),
        ("Running", Verdict.WAITING),
        ("Suspended", Verdict.WAITING),
        ("Pending", Verdict.WAITING),
    ],
)
def test_a_verdict(phase: str, verdict: Verdict) -> None:
    assert batch(phase=phase).verdict is verdict


def test_what_was_said_of_an_older_spec_is_no_end() -> None:
    found = batch(phase="Complete", observedGeneration=1)
    assert (found.verdict, found.phase) == (Verdict.WAITING, "Pending")


@pytest.mark.parametrize(
    ("percent", "bar"), [(None, ""), (0, "[....]   0%"), (99, "[###.]  99%"), (100, "[####] 100%")]
)
def test_a_bar(percent: int | None, bar: str) -> None:
    assert bar_of(percent, 4) == bar
