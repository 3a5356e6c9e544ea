"""The state table of a rollout: the way to a new revision, row by row."""

from datetime import timedelta
from typing import Any

import pytest
from decision_tables import (
    BOTH,
    HEALTHY,
    JUST_NOW,
    LONG_AGO,
    NEW,
    NOW,
    OLD,
    THIRD,
    check_row,
    observed,
    paused,
    rolling,
    view,
)

from model_operator.api.status import (
    HistoryEntry,
    Mode,
    Phase,
    Status,
    Weights,
)
from model_operator.api.traffic import RouteView
from model_operator.api.values import replace
from model_operator.observation.values import FrontView, Observed, Outcome, Verdict

ROWS = [
    # status, observation, wish, facts of the next status
    pytest.param(
        Status(), observed(), {}, {"phase": Phase.PENDING, "stable": NEW}, id="a new resource: its revision is stable"
    ),
    pytest.param(
        Status(phase=Phase.PENDING, stable=NEW, progressed_at=JUST_NOW),
        observed(view(NEW)),
        {},
        {"phase": Phase.HEALTHY},
        id="Pending, endpoints ready: Healthy, without steps",
    ),
    pytest.param(
        Status(phase=Phase.PENDING, stable=OLD, progressed_at=LONG_AGO),
        observed(view(OLD, 0)),
        {},
        {"stable": NEW, "progressed_at": NOW},
        id="Pending, the spec changes: the newer revision takes the place",
    ),
    pytest.param(
        HEALTHY,
        observed(view(OLD)),
        {},
        {"phase": Phase.PROGRESSING, "canary": NEW, "mode": Mode.STEPS},
        id="Healthy, another hash: Progressing at step 0",
    ),
    pytest.param(
        replace(HEALTHY, history=(HistoryEntry(revision=NEW, result="Promoted", reason="x", at=LONG_AGO),)),
        observed(view(OLD), view(NEW, 0, desired=0)),
        {},
        {"phase": Phase.PROMOTING, "canary": NEW, "mode": Mode.FAST},
        id="Healthy, a kept revision that was live: fast, without steps",
    ),
    pytest.param(
        HEALTHY,
        observed(view(OLD)),
        {"paused": True},
        {"phase": Phase.HEALTHY, "canary": ""},
        id="Healthy and paused: nothing starts",
    ),
    pytest.param(
        rolling(),
        observed(*BOTH),
        {},
        {"weights.desired": 25, "weights.applied": 25, "weights.programmed_at": None},
        id="setWeight, pods ready: the weight is written",
    ),
    pytest.param(
        rolling(0, 25, weights=Weights(desired=25, applied=25, applied_at=JUST_NOW)),
        observed(*BOTH, weight=25),
        {},
        {"step_index": 0, "weights.programmed_at": NOW},
        id="setWeight, programmed: it has to settle",
    ),
    pytest.param(
        rolling(0, 25),
        observed(*BOTH, weight=25),
        {},
        {"step_index": 1, "phase": Phase.PAUSED, "pause": "PauseStep"},
        id="setWeight, programmed and settled: next step",
    ),
    pytest.param(
        rolling(0, 25, weights=Weights(desired=25, applied=25, applied_at=LONG_AGO)),
        observed(*BOTH, route=RouteView(is_programmed=False, weight=25, message="refused")),
        {},
        {"phase": Phase.PAUSED, "pause": "RouteNotProgrammed", "weights.applied": 0},
        id="route not programmed for two minutes: Paused",
    ),
    pytest.param(
        rolling(0, 25),
        observed(*BOTH, route=RouteView(is_programmed=False, weight=None, missing="no HTTPRoute")),
        {},
        {"phase": Phase.PAUSED, "pause": "RouterMissing"},
        id="the router's kind is missing: Paused",
    ),
    pytest.param(
        rolling(2, 25),
        observed(*BOTH, weight=25),
        {"tokens": {"abort": THIRD}},
        {"phase": Phase.PROGRESSING, "weights.applied": 50},
        id="a token for another revision does nothing",
    ),
    pytest.param(
        rolling(3, 50, step_started_at=NOW - timedelta(minutes=6)),
        observed(*BOTH, weight=50, verdict=Verdict(outcome=Outcome.PASS)),
        {},
        {"phase": Phase.PROMOTING, "weights.desired": 100},
        id="analysis, all pass and minDuration over: next step, here promotion",
    ),
    pytest.param(
        rolling(3, 50),
        observed(*BOTH, weight=50, verdict=Verdict(outcome=Outcome.PASS)),
        {},
        {"phase": Phase.PROGRESSING, "step_index": 3},
        id="analysis, all pass before minDuration: it soaks",
    ),
    pytest.param(
        rolling(3, 50, step_started_at=LONG_AGO),
        observed(*BOTH, weight=50),
        {},
        {"phase": Phase.PAUSED, "pause": "AnalysisInconclusive"},
        id="analysis undecided at maxDuration: Paused",
    ),
    pytest.param(
        rolling(0, 25),
        observed(*BOTH, weight=25),
        {"canary": {"steps": [{"setWeight": 10}, {"setWeight": 40}]}},
        {"canary": NEW, "step_index": 1, "weights.desired": 40},
        id="only the steps change: on at the first step that asks for no less",
    ),
    pytest.param(
        rolling(1, 25, **paused("PauseStep")),
        observed(*BOTH, weight=25),
        {"tokens": {"promote": f"{NEW}@1"}},
        {"phase": Phase.PROGRESSING, "step_index": 2},
        id="Paused, promote token: Progressing",
    ),
    pytest.param(
        rolling(1, 25, **paused("PauseStep")),
        observed(*BOTH, weight=25),
        {"tokens": {"promote": f"{NEW}@0"}},
        {"phase": Phase.PAUSED, "step_index": 1},
        id="Paused, a token for another step: still Paused",
    ),
    pytest.param(
        rolling(2, 25),
        observed(*BOTH, weight=25),
        {"tokens": {"promote-full": NEW}},
        {"phase": Phase.PROMOTING, "weights.desired": 100},
        id="promote-full: Promoting",
    ),
    pytest.param(
        rolling(4, 50, phase=Phase.PROMOTING, weights=Weights(desired=100, applied=50, applied_at=LONG_AGO)),
        observed(view(OLD), view(NEW, 2), weight=50),
        {},
        {"phase": Phase.PROMOTING, "weights.applied": 50},
        id="Promoting: the canary to full size first",
    ),
    pytest.param(
        rolling(4, 100, phase=Phase.PROMOTING),
        observed(*BOTH, weight=100),
        {},
        {"phase": Phase.PROMOTING, "stable": NEW, "previous": OLD, "canary": "", "drain_started_at": NOW},
        id="Promoting, programmed, settled and full: stable is the canary, the old one drains",
    ),
    pytest.param(
        Status(phase=Phase.PROMOTING, stable=NEW, previous=OLD, drain_started_at=JUST_NOW),
        observed(*BOTH),
        {},
        {"previous": OLD},
        id="draining, scaleDownDelay not over: the old one stays",
    ),
    pytest.param(
        Status(phase=Phase.PROMOTING, stable=NEW, previous=OLD, drain_started_at=LONG_AGO),
        observed(view(OLD, 0, desired=0), view(NEW), front=FrontView(exists=True, revision=NEW)),
        {},
        {"phase": Phase.HEALTHY, "previous": ""},
        id="drained: Healthy",
    ),
]


@pytest.mark.parametrize(("status", "observation", "wish", "facts"), ROWS)
def test_state(status: Status, observation: Observed, wish: dict[str, Any], facts: dict[str, Any]) -> None:
    check_row(status, observation, wish, facts)
