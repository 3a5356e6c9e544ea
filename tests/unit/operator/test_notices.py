"""What notifications say."""

from datetime import UTC, datetime
from typing import Any

import pytest

from model_operator.api.hooks import Format, Notification
from model_operator.api.resource import ModelDeployment
from model_operator.api.status import Phase, Rollback
from model_operator.api.values import replace
from model_operator.policy.status.notifications import notice

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
RESOURCE = ModelDeployment.from_body(
    {
        "metadata": {"name": "fraud", "namespace": "ml", "uid": "u", "generation": 1, "resourceVersion": "1"},
        "spec": {"model": {"storageUri": "s3://models/fraud"}},
        "status": {"phase": "Progressing", "stableRevision": "5c1a", "canaryRevision": "6f8d"},
    }
)
WENT_BACK = replace(
    RESOURCE.status,
    phase=Phase.ROLLING_BACK,
    message="6f8d goes back: errors <1%",
    rollback=Rollback(reason="AnalysisFailed", message="errors"),
)


def told(**wish: Any) -> Any:
    hook = Notification(name="chat", url="http://x", **wish)
    return notice(hook, RESOURCE, WENT_BACK, NOW)


def test_json_has_what_a_program_needs() -> None:
    assert told() == {
        "namespace": "ml",
        "name": "fraud",
        "phase": "RollingBack",
        "previousPhase": "Progressing",
        "message": "6f8d goes back: errors <1%",
        "reason": "AnalysisFailed",
        "stableRevision": "5c1a",
        "canaryRevision": "6f8d",
        "weight": 0,
        "at": "2026-01-01T12:00:00.000000Z",
    }


def test_slack_gets_one_line_with_its_marks_escaped() -> None:
    text = told(format=Format.SLACK)["text"]
    assert text.endswith("*ml/fraud* is RollingBack: 6f8d goes back: errors &lt;1%")


@pytest.mark.parametrize(
    ("phases", "is_told"),
    [
        pytest.param((), True, id="without a list every phase"),
        pytest.param(("RollingBack",), True, id="one that was asked for"),
        pytest.param(("Healthy",), False, id="not one that was not"),
    ],
)
def test_phases_choose(phases: tuple[str, ...], is_told: bool) -> None:
    assert (told(phases=phases) is not None) is is_told


def test_the_same_phase_is_no_news() -> None:
    hook = Notification(name="chat", url="http://x")
    assert notice(hook, RESOURCE, replace(RESOURCE.status, message="step 2/3"), NOW) is None
