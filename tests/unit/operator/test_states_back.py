"""The state table of a rollout: failures, aborts and reverts, row by row."""

from typing import Any

import pytest
from decision_tables import (
    ABORTED,
    BOTH,
    BROKEN,
    CRASHED,
    HEALTHY,
    LONG_AGO,
    NEW,
    NOW,
    OLD,
    PULL,
    THIRD,
    check_row,
    observed,
    paused,
    rolling,
    view,
)

from model_operator.api.status import (
    Mode,
    PauseCondition,
    Phase,
    Rollback,
    Status,
)
from model_operator.api.values import replace
from model_operator.observation.values import Observed, Outcome, Traffic, Verdict

ROWS = [
    # status, observation, wish, facts of the next status
    pytest.param(
        Status(phase=Phase.PENDING, stable=NEW, progressed_at=LONG_AGO),
        observed(view(NEW, 0)),
        {},
        {"phase": Phase.DEGRADED},
        id="Pending past the deadline: Degraded",
    ),
    pytest.param(
        HEALTHY,
        observed(view(OLD, 0, problems=(CRASHED,))),
        {},
        {"phase": Phase.PROMOTING, "canary": NEW, "mode": Mode.RESCUE},
        id="stable serves nobody: the new revision needs no steps",
    ),
    pytest.param(
        rolling(),
        observed(view(OLD), view(NEW, 0)),
        {},
        {"phase": Phase.PROGRESSING, "weights.applied": 0},
        id="canary not ready, deadline not hit: weight 0, waiting",
    ),
    *(
        pytest.param(
            rolling(),
            observed(view(OLD), view(NEW, 0, problems=(problem,))),
            {},
            {"phase": Phase.DEGRADED, "aborted": NEW, "rollback.reason": problem.reason},
            id=f"{problem.reason}, {problem.restarts} restarts: back at once",
        )
        for problem in (BROKEN, CRASHED, PULL)
    ),
    pytest.param(
        rolling(progressed_at=LONG_AGO),
        observed(view(OLD), view(NEW, 0)),
        {},
        {"phase": Phase.DEGRADED, "aborted": NEW, "rollback.reason": "ProgressDeadlineExceeded"},
        id="the deadline is over: back, which without traffic is done at once",
    ),
    pytest.param(
        rolling(progressed_at=LONG_AGO),
        observed(view(OLD), view(NEW, 0)),
        {"progressDeadlineAbort": False},
        {"phase": Phase.PAUSED, "pause": "ProgressDeadlineExceeded"},
        id="the deadline is over, but nothing shall be aborted: Paused",
    ),
    pytest.param(
        rolling(0, 25),
        observed(*BOTH, weight=25, traffic=Traffic(stable=1000, canary=0)),
        {},
        {"phase": Phase.PAUSED, "pause": "RouteNotProgrammed", "weights.applied": 0},
        id="the counted share is not the weight: the weight before comes back, Paused",
    ),
    pytest.param(
        rolling(1, 25, **paused("RouterMissing")),
        observed(*BOTH, weight=25),
        {},
        {"phase": Phase.PAUSED, "pause": "PauseStep"},
        id="the router is back: it goes on by itself",
    ),
    pytest.param(
        rolling(2, 25),
        observed(view(OLD), view(NEW, 0), weight=25),
        {},
        {"phase": Phase.PROGRESSING, "weights.applied": 0, "endpoints_lost_at": NOW},
        id="weight above 0, no ready endpoint: weight 0 now, hold",
    ),
    pytest.param(
        rolling(2, 25),
        observed(*BOTH, weight=25, verdict=Verdict(outcome=Outcome.FAIL, message="E 30 of 20")),
        {},
        {"phase": Phase.ROLLING_BACK, "rollback.reason": "AnalysisFailed", "rollback.message": "E 30 of 20"},
        id="a metric fails: RollingBack, with the numbers",
    ),
    pytest.param(
        rolling(2, 25),
        observed(*BOTH, weight=25),
        {"tokens": {"abort": NEW}},
        {"phase": Phase.ROLLING_BACK, "rollback.reason": "AbortRequested"},
        id="abort token: RollingBack",
    ),
    pytest.param(
        rolling(2, 25),
        observed(*BOTH, weight=25),
        {"model": "third"},
        {"phase": Phase.PROGRESSING, "canary": NEW, "weights.applied": 0},
        id="the hash changes again: first the weight goes to 0",
    ),
    pytest.param(
        rolling(2, 0),
        observed(*BOTH, weight=0),
        {"model": "third"},
        {"phase": Phase.PROGRESSING, "canary": THIRD, "step_index": 0},
        id="and once the router has acted the third revision starts",
    ),
    pytest.param(
        rolling(2, 25),
        observed(*BOTH, weight=25),
        {"model": "old"},
        {"phase": Phase.ROLLING_BACK, "rollback.reason": "Reverted"},
        id="the hash is stable's again: RollingBack, as a revert",
    ),
    pytest.param(
        rolling(1, 25, phase=Phase.PAUSED, pauses=(PauseCondition(reason="PauseStep", start_time=LONG_AGO),)),
        observed(*BOTH, weight=25),
        {"canary": {"maxPauseDuration": "30m"}},
        {"phase": Phase.ROLLING_BACK, "rollback.reason": "PauseExpired"},
        id="Paused longer than maxPauseDuration: RollingBack",
    ),
    pytest.param(
        rolling(2, 25, phase=Phase.ROLLING_BACK, rollback=Rollback(reason="AbortRequested", message="")),
        observed(view(OLD, 2), view(NEW), weight=25),
        {},
        {"phase": Phase.ROLLING_BACK, "weights.applied": 25},
        id="RollingBack: stable has to have the capacity first",
    ),
    pytest.param(
        rolling(2, 25, phase=Phase.ROLLING_BACK, rollback=Rollback(reason="AbortRequested", message="")),
        observed(*BOTH, weight=25),
        {},
        {"phase": Phase.ROLLING_BACK, "weights.applied": 0},
        id="RollingBack, stable has capacity: weight 0",
    ),
    pytest.param(
        rolling(2, 0, phase=Phase.ROLLING_BACK, rollback=Rollback(reason="AbortRequested", message="")),
        observed(*BOTH, weight=0),
        {},
        {"phase": Phase.DEGRADED, "aborted": NEW, "canary": ""},
        id="RollingBack, programmed and abortScaleDownDelay over: Degraded",
    ),
    pytest.param(
        rolling(2, 0, phase=Phase.ROLLING_BACK, rollback=Rollback(reason="Reverted", message="")),
        observed(*BOTH, weight=0),
        {"model": "old"},
        {"phase": Phase.HEALTHY, "aborted": "", "canary": ""},
        id="RollingBack after a revert: Healthy",
    ),
    pytest.param(
        ABORTED,
        observed(view(OLD)),
        {},
        {"phase": Phase.DEGRADED, "canary": ""},
        id="Degraded, the same hash alone does nothing",
    ),
    pytest.param(
        ABORTED,
        observed(view(OLD)),
        {"tokens": {"retry": NEW}},
        {"phase": Phase.PROGRESSING, "canary": NEW},
        id="Degraded, retry token: Progressing at step 0",
    ),
    pytest.param(
        ABORTED,
        observed(view(OLD)),
        {"model": "third"},
        {"phase": Phase.PROGRESSING, "canary": THIRD},
        id="Degraded, the hash changes: Progressing at step 0",
    ),
    pytest.param(
        ABORTED,
        observed(view(OLD)),
        {"model": "old"},
        {"phase": Phase.HEALTHY, "aborted": ""},
        id="Degraded, the spec asks for stable: Healthy",
    ),
    pytest.param(
        replace(HEALTHY, stable=NEW),
        observed(view(NEW, 0)),
        {},
        {"phase": Phase.DEGRADED},
        id="Healthy, stable loses its last pod: Degraded",
    ),
]


@pytest.mark.parametrize(("status", "observation", "wish", "facts"), ROWS)
def test_state(status: Status, observation: Observed, wish: dict[str, Any], facts: dict[str, Any]) -> None:
    check_row(status, observation, wish, facts)
