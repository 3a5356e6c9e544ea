"""What the operator's own metrics show."""

import json
from pathlib import Path
from typing import Any

import pytest

from model_operator.api.resource import ObjectKey
from model_operator.telemetry import Telemetry

FRAUD = ObjectKey("default", "fraud")
ANALYSES = json.loads((Path(__file__).parents[2] / "contract" / "operator" / "analysis.json").read_text())


def status(phase: str, **more: object) -> dict[str, object]:
    return {"status": {"phase": phase, **more}}


def shown(telemetry: Telemetry, name: str) -> list[str]:
    lines = telemetry.expose().decode().splitlines()
    return [line for line in lines if line.startswith(f"modeldeploy_operator_{name}{{")]


def test_a_resource_has_one_phase_at_a_time() -> None:
    telemetry = Telemetry()
    telemetry.observe(FRAUD, status("Pending"))
    telemetry.observe(FRAUD, status("Progressing", weights={"applied": 25}, currentStepIndex=1))
    assert shown(telemetry, "phase") == [
        'modeldeploy_operator_phase{name="fraud",namespace="default",phase="Progressing"} 1.0'
    ]
    assert shown(telemetry, "canary_weight")[0].endswith(" 25.0")
    assert shown(telemetry, "rollout_step")[0].endswith(" 1.0")


def test_a_resource_that_is_gone_leaves_no_series() -> None:
    telemetry = Telemetry()
    telemetry.observe(FRAUD, status("Healthy"))
    telemetry.observe(FRAUD, None)
    for name in ("phase", "canary_weight", "rollout_step"):
        assert shown(telemetry, name) == []


def test_a_rollout_is_counted_once_when_it_has_ended() -> None:
    telemetry = Telemetry()
    entry = {"revision": "b", "result": "Promoted", "at": "2026-01-01T00:01:00Z"}
    telemetry.observe(FRAUD, status("Promoting", rolloutStartedAt="2026-01-01T00:00:00Z"))
    for _ in range(2):
        telemetry.observe(FRAUD, status("Healthy", history=[entry]))
    total = 'modeldeploy_operator_rollouts_total{name="fraud",namespace="default",result="Promoted"} 1.0'
    assert shown(telemetry, "rollouts_total") == [total]


@pytest.mark.parametrize("name", ["modeldeploy_operator_reconciles_total", "modeldeploy_operator_phase"])
def test_a_scrape_may_ask_for_some_metrics_only(name: str) -> None:
    telemetry = Telemetry()
    telemetry.observe(FRAUD, status("Healthy"))
    telemetry.reconciled("ok", 0.0)
    families = {line.split()[2] for line in telemetry.expose([name]).decode().splitlines() if line.startswith("# HELP")}
    assert name in families
    assert "modeldeploy_operator_leader" not in families


def test_the_counters_of_a_deleted_resource_go_with_it() -> None:
    telemetry = Telemetry()
    entry = {"revision": "b", "result": "Promoted", "at": "2026-01-01T00:01:00Z"}
    telemetry.observe(FRAUD, status("Promoting"))
    telemetry.observe(FRAUD, status("Healthy", history=[entry]))
    telemetry.observe(FRAUD, None)
    assert shown(telemetry, "rollouts_total") == []


METRIC = {
    "name": "errors",
    "verdict": "Undecided",
    "evidence": 3.5,
    "failAt": 40.0,
    "requests": {"canary": 93, "stable": 771},
    "badRate": {"canary": 0.02, "stable": 0.01},
    "needRequests": 120,
}
SHIFT = {"name": "prediction-shift", "verdict": "Fail", "value": 0.3, "answers": {"canary": 28, "stable": 731}}
QUALITY = {"name": "accuracy", "verdict": "Pass", "value": 0.9, "stableValue": 0.8, "evidence": 0.1, "failAt": 80.0}


def test_the_evidence_of_a_rollout_is_shown_by_metric_and_role() -> None:
    telemetry = Telemetry()
    rollout = {
        "stableRevision": "a",
        "canaryRevision": "b",
        "weights": {"applied": 20, "observed": 19.5},
        "pauseConditions": [{"reason": "PauseStep"}],
        "analysis": {"revision": "b", "metrics": [METRIC, SHIFT, QUALITY]},
    }
    telemetry.observe(FRAUD, status("Paused", **rollout))
    of = 'name="fraud",namespace="default"'
    assert shown(telemetry, "revision_info") == [
        f'modeldeploy_operator_revision_info{{{of},revision="a",role="stable"}} 1.0',
        f'modeldeploy_operator_revision_info{{{of},revision="b",role="canary"}} 1.0',
    ]
    assert shown(telemetry, "paused")[0].endswith('reason="PauseStep"} 1.0')
    assert shown(telemetry, "canary_weight_observed")[0].endswith(" 19.5")
    assert [float(line.rpartition(" ")[2]) for line in shown(telemetry, "analysis_evidence")] == [3.5, 0.1]
    assert [float(line.rpartition(" ")[2]) for line in shown(telemetry, "analysis_evidence_threshold")] == [40.0, 80.0]
    assert shown(telemetry, "analysis_value") == [
        f'modeldeploy_operator_analysis_value{{metric="{metric}",{of},role="{role}"}} {value}'
        for metric, role, value in [
            ("errors", "canary", 0.02),
            ("errors", "stable", 0.01),
            ("prediction-shift", "canary", 0.3),
            ("accuracy", "canary", 0.9),
            ("accuracy", "stable", 0.8),
        ]
    ]
    assert f'metric="errors",{of},unit="requests"}} 120.0' in shown(telemetry, "analysis_samples_needed")[0]
    assert len(shown(telemetry, "analysis_samples")) == 4


@pytest.mark.parametrize(
    ("more", "count"),
    [
        pytest.param({"stableRevision": "b"}, 0, id="of a rollout that was promoted it is not"),
        pytest.param({"stableRevision": "a", "abortedRevision": "b"}, 1, id="of one that went back it is"),
        pytest.param({"stableRevision": "a", "canaryRevision": "c"}, 0, id="of an earlier rollout it is not"),
        pytest.param({}, 0, id="without revisions it is not"),
    ],
)
def test_how_long_evidence_is_shown(more: dict[str, str], count: int) -> None:
    telemetry = Telemetry()
    telemetry.observe(FRAUD, status("Healthy", analysis={"revision": "b", "metrics": [METRIC]}, **more))
    assert len(shown(telemetry, "analysis_evidence")) == count


@pytest.mark.parametrize("row", ANALYSES, ids=[row["name"] for row in ANALYSES])
def test_every_metric_of_an_analysis_is_exposed(row: dict[str, Any]) -> None:
    telemetry = Telemetry()
    telemetry.observe(FRAUD, status("Progressing", canaryRevision="b", analysis={**row, "revision": "b"}))
    assert len(shown(telemetry, "analysis_verdict")) == len(row["metrics"])
