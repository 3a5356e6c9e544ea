"""What a person sees while a rollout runs."""

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from modeldeploy.rollout import Rollout
from modeldeploy.view import history_of, line_of, table_of, tree_of

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def shown(thing: Any) -> str:
    console = Console(width=160, force_terminal=False)
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


def a_rollout(step: dict[str, Any], **status: Any) -> Rollout:
    return Rollout.from_body(
        {
            "metadata": {"name": "fraud", "namespace": "ml", "generation": 1},
            "spec": {"strategy": {"canary": {"steps": [step]}}},
            "status": {
                "observedGeneration": 1,
                "phase": "Progressing",
                "message": "step 1/1",
                "stableRevision": "5c1a",
                "canaryRevision": "6f8d",
                "step": "1/1",
                "currentStepIndex": 0,
                "stepStartedAt": "2026-05-01T11:59:00Z",
                "weights": {"desired": 25},
                "model": {"version": "6"},
                **status,
            },
        }
    )


def a_pod(name: str, revision: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"modeldeploy.dev/revision": revision}}, "status": status}


READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
CRASHING = {
    "phase": "Running",
    "containerStatuses": [{"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
}


@pytest.mark.parametrize(
    ("step", "said"),
    [
        pytest.param({"pause": {"duration": "2m"}}, "pause of 2m, 1m left", id="a timed pause tells what is left"),
        pytest.param({"pause": {"duration": "30s"}}, "0s left", id="a pause that is over has nothing left"),
        pytest.param({"pause": {}}, "modeldeploy promote fraud", id="a person's gate says how to open it"),
        pytest.param({"setWeight": 25}, "setWeight 25", id="a weight tells which"),
        pytest.param({"analysis": {}}, "analysis", id="other steps tell their name"),
    ],
)
def test_the_step(step: dict[str, Any], said: str) -> None:
    assert said in shown(tree_of(a_rollout(step), [], [], now=NOW))


def test_the_tree_has_revisions_with_weights_pods_and_failures() -> None:
    rollout = a_rollout(
        {"setWeight": 25}, podFailures=[{"revision": "6f8d", "reason": "LoadFailed", "message": "no predict"}]
    )
    pods = [a_pod("fraud-5c1a-x", "5c1a", **READY), a_pod("fraud-6f8d-y", "6f8d", **CRASHING)]
    lines = shown(tree_of(rollout, pods, [], now=NOW)).splitlines()
    order = [
        "stable 5c1a  75%  version 6",
        "fraud-5c1a-x  Running  ready",
        "canary 6f8d  25%",
        "fraud-6f8d-y  CrashLoopBackOff  not ready  4 restarts",
        "LoadFailed: no predict",
    ]
    at = [next(i for i, line in enumerate(lines) if text in line) for text in order]
    assert at == sorted(at)


def test_the_tree_tells_the_last_events_with_their_age() -> None:
    event = {
        "metadata": {},
        "lastTimestamp": "2026-05-01T11:58:00Z",
        "reason": "WeightSet",
        "message": "25 % on 6f8d",
    }
    assert "2m  WeightSet: 25 % on 6f8d" in shown(tree_of(a_rollout({"setWeight": 25}), [], [event], now=NOW))


def test_one_line_tells_phase_step_weight_and_message() -> None:
    rollout = a_rollout({"setWeight": 25}, message="step 1/1: 25 % on 6f8d, waiting for the router")
    assert line_of(rollout) == "fraud: Progressing, step 1/1, 25% on 6f8d: 25 % on 6f8d, waiting for the router"


def test_markup_in_a_message_is_shown_as_it_is() -> None:
    rollout = a_rollout({"setWeight": 25}, message="expected [bold] or [/x]")
    assert "expected [bold] or [/x]" in shown(table_of([rollout], with_namespace=False))
    assert "expected [bold] or [/x]" in shown(tree_of(rollout, [], [], now=NOW))


def test_history_tells_seconds_and_no_more() -> None:
    history = [{"revision": "5c1a", "result": "Promoted", "reason": "X", "at": "2026-11-21T16:11:39.843978Z"}]
    assert "X       2026-11-21T16:11:39Z" in shown(history_of(a_rollout({"pause": {}}, history=history)))


@pytest.mark.parametrize(
    ("past", "marked"),
    [
        pytest.param([("5c1a", "Promoted")], 0, id="the revision that serves"),
        pytest.param(
            [("5c1a", "Promoted"), ("6f8d", "Promoted"), ("5c1a", "Promoted")], 0, id="the last time it went live"
        ),
        pytest.param([("5c1a", "Promoted"), ("5c1a", "Aborted")], 0, id="a try before that failed"),
        pytest.param([("6f8d", "Aborted"), ("5c1a", "Promoted")], 1, id="one that failed since"),
        pytest.param([("5c1a", "Reverted"), ("5c1a", "Promoted")], 1, id="not where it went back"),
    ],
)
def test_history_marks_one_row_as_live(past: list[tuple[str, str]], marked: int) -> None:
    history = [{"revision": revision, "result": result, "reason": "X"} for revision, result in past]
    rows = shown(history_of(a_rollout({"pause": {}}, history=history))).splitlines()[1:]
    assert [index for index, row in enumerate(rows) if "(live)" in row] == [marked]


@pytest.mark.parametrize(
    ("evidence", "verdict", "bar"),
    [
        pytest.param(0.4, "Undecided", "E 0.4 of 20 ░░░░░░░░░░", id="nothing speaks against the canary"),
        pytest.param(4.5, "Undecided", "E 4.5 of 20 █████░░░░░", id="half of the way"),
        pytest.param(140.0, "Fail", "E 140 of 20 ██████████", id="it is decided"),
    ],
)
def test_evidence_grows_towards_what_it_decides_at(evidence: float, verdict: str, bar: str) -> None:
    metric = {
        "name": "errors",
        "verdict": verdict,
        "failAt": 20,
        "evidence": evidence,
        "requests": {"canary": 412, "stable": 7820},
        "bad": {"canary": 4, "stable": 23},
        "badRate": {"canary": 0.009709, "stable": 0.002941},
        "needRequests": 180,
    }
    text = shown(tree_of(a_rollout({"analysis": {}}, analysis={"metrics": [metric]}), [], [], now=NOW))
    assert f"errors  {verdict}  canary 4 of 412 (0.97%)  stable 23 of 7820 (0.29%)  {bar}" in text
    assert "needs about 180 more requests" in text
