"""What the command line concludes from a ModelDeployment, and what it asks of one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modeldeploy import requests
from modeldeploy.durations import format_duration, parse_duration
from modeldeploy.requests import Refused
from modeldeploy.rollout import Rollout, Verdict

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
AT = int(NOW.timestamp())


def a_rollout(
    *, generation: int = 2, paused: bool = False, asked: dict[str, str] | None = None, **status: Any
) -> Rollout:
    ready = status.pop("ready", "False")
    return Rollout.from_body(
        {
            "metadata": {
                "name": "fraud",
                "namespace": "ml",
                "generation": generation,
                "annotations": {f"modeldeploy.dev/{name}": value for name, value in (asked or {}).items()},
            },
            "spec": {"paused": paused},
            "status": {
                "observedGeneration": 2,
                "stableRevision": "5c1a",
                "conditions": [{"type": "Ready", "status": ready}],
                **status,
            },
        }
    )


def past(revision: str, result: str = "Promoted") -> dict[str, str]:
    return {"revision": revision, "result": result, "at": "2026-05-01T11:00:00Z"}


@pytest.mark.parametrize(
    ("rollout", "verdict"),
    [
        pytest.param(a_rollout(phase="Healthy", ready="True"), Verdict.HEALTHY, id="ready is healthy"),
        pytest.param(a_rollout(phase="Degraded"), Verdict.FAILED, id="degraded has failed"),
        pytest.param(a_rollout(phase="Progressing"), Verdict.WAITING, id="progressing may still become healthy"),
        pytest.param(a_rollout(phase="Paused"), Verdict.WAITING, id="paused waits"),
        pytest.param(
            a_rollout(generation=3, phase="Healthy", ready="True"),
            Verdict.WAITING,
            id="a status of an older spec says nothing about the new one",
        ),
        pytest.param(
            a_rollout(phase="Degraded", asked={"retry": "6f8d@1"}, handledTokens={"retry": "6f8d@0"}),
            Verdict.WAITING,
            id="what was asked for and not looked at may change it",
        ),
        pytest.param(
            a_rollout(phase="Healthy", ready="True", asked={"undo": "5c1a@1"}, handledTokens={"undo": "5c1a@1"}),
            Verdict.HEALTHY,
            id="what was done is no news",
        ),
        pytest.param(
            a_rollout(
                phase="Healthy",
                ready="True",
                asked={"undo": "5c1a@1"},
                handledTokens={"undo": "5c1a@1"},
                requests={"undo": {"value": "5c1a@1", "accepted": False, "message": "it is not kept"}},
            ),
            Verdict.HEALTHY,
            id="what was refused changes nothing",
        ),
        pytest.param(
            a_rollout(
                phase="Healthy",
                ready="True",
                asked={"undo": "5c1a@2"},
                ignoredAnnotations=[{"name": "modeldeploy.dev/undo", "value": "5c1a@1", "message": "not kept"}],
            ),
            Verdict.WAITING,
            id="what was ignored was another request",
        ),
        pytest.param(
            Rollout.from_body({"metadata": {"name": "new", "generation": 1}}),
            Verdict.WAITING,
            id="nobody has looked at it yet",
        ),
    ],
)
def test_verdict(rollout: Rollout, verdict: Verdict) -> None:
    assert rollout.verdict is verdict


CANARY = a_rollout(phase="Paused", canaryRevision="6f8d", currentStepIndex=3, weights={"desired": 25})


@pytest.mark.parametrize(
    ("patch", "annotation", "value"),
    [
        pytest.param(
            requests.promote(CANARY, now=NOW),
            "promote",
            f"6f8d@3/{AT}",
            id="promote names the step, and the time",
        ),
        pytest.param(
            requests.promote_full(CANARY, now=NOW),
            "promote-full",
            f"6f8d@{AT}",
            id="promote --full names the canary",
        ),
        pytest.param(requests.abort(CANARY, now=NOW), "abort", f"6f8d@{AT}", id="abort names the canary"),
        pytest.param(
            requests.retry(a_rollout(phase="Degraded", abortedRevision="6f8d"), now=NOW),
            "retry",
            f"6f8d@{AT}",
            id="retry names the aborted revision, and can be said again",
        ),
    ],
)
def test_a_request_is_a_token(patch: Any, annotation: str, value: str) -> None:
    assert patch == {"metadata": {"annotations": {f"modeldeploy.dev/{annotation}": value}}}


@pytest.mark.parametrize("paused", [True, False])
def test_pause_is_state_and_no_token(paused: bool) -> None:
    assert requests.pause(paused=paused) == {"spec": {"paused": paused}}


@pytest.mark.parametrize(
    ("history", "asked", "revision"),
    [
        pytest.param([past("5c1a"), past("4b00")], None, "4b00", id="the one that was live before"),
        pytest.param(
            [past("5c1a"), past("6f8d", "Aborted"), past("4b00")],
            None,
            "4b00",
            id="never one that was aborted",
        ),
        pytest.param([past("5c1a"), past("4b00"), past("3a00")], "3a00", "3a00", id="the one that is named"),
        pytest.param(
            [past("5c1a"), past("6f8d", "Aborted")], "6f8d", "6f8d", id="an aborted one only when it is named"
        ),
    ],
)
def test_undo_goes_back_to(history: list[dict[str, str]], asked: str | None, revision: str) -> None:
    _, chosen = requests.undo(a_rollout(phase="Healthy", history=history), asked, kept=None, now=NOW)
    assert chosen == revision


HEALTHY = a_rollout(phase="Healthy", history=[past("5c1a"), past("4b00")])


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        pytest.param(
            lambda: requests.promote(HEALTHY, now=NOW), "there is no rollout to promote", id="nothing to promote"
        ),
        pytest.param(
            lambda: requests.promote(a_rollout(phase="Degraded", abortedRevision="beef"), now=NOW),
            "no rollout to promote; modeldeploy retry fraud tries beef again",
            id="what was aborted can be tried again",
        ),
        pytest.param(lambda: requests.abort(HEALTHY, now=NOW), "there is no rollout to abort", id="nothing to abort"),
        pytest.param(lambda: requests.retry(HEALTHY, now=NOW), "no revision was aborted", id="nothing to retry"),
        pytest.param(
            lambda: requests.undo(HEALTHY, "beef", kept=None, now=NOW),
            "known are: 4b00",
            id="an unknown revision lists the known",
        ),
        pytest.param(
            lambda: requests.undo(a_rollout(phase="Healthy"), None, kept=None, now=NOW),
            "no earlier revision",
            id="nothing to go back to",
        ),
        pytest.param(
            lambda: requests.undo(CANARY, None, kept=None, now=NOW), "abort it instead", id="undo in a rollout is abort"
        ),
    ],
)
def test_what_makes_no_sense_is_refused(ask: Any, why: str) -> None:
    with pytest.raises(Refused, match=why):
        ask()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("90s", 90, id="one unit"),
        pytest.param("1h30m", 5400, id="two units"),
        pytest.param("1.5m", 90, id="a fraction"),
        pytest.param("250ms", 0.25, id="milliseconds are no minutes"),
        pytest.param("2d", 172800, id="days"),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "1 m", "5x", "-5s"])
def test_what_is_no_duration_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="as in 90s or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.6, "1m"), (130, "2m 10s"), (3600, "1h"), (90061, "1d 1h"), (-5, "0s")],
)
def test_a_duration_is_written_as_people_read_it(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        pytest.param({}, None, id="the operator has not answered"),
        pytest.param(
            {"requests": {"abort": {"value": "6f8d@0", "accepted": True, "message": "x"}}}, None, id="an old one"
        ),
        pytest.param(
            {"requests": {"abort": {"value": f"6f8d@{AT}", "accepted": False, "message": "there is no rollout"}}},
            requests.Answer(False, "there is no rollout"),
            id="refused",
        ),
    ],
)
def test_the_answer_to_a_request_is_found_by_its_value(
    status: dict[str, object], answer: requests.Answer | None
) -> None:
    assert requests.answer_to(requests.abort(CANARY, now=NOW), status) == answer
