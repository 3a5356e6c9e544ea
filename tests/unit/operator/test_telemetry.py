"""What the operator's own metrics show."""

import pytest

from model_operator.api.resource import ObjectKey
from model_operator.telemetry import Telemetry

FRAUD = ObjectKey("default", "fraud")


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
