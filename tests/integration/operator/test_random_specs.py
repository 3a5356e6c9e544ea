"""Whatever the schema lets through ends in a state that status reports, and never in a traceback.

`make fuzz` tries thousands (FUZZ=n: a two-hundredth of that).
"""

import copy
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollout_world import World
from schema_strategy import values

from model_operator.policy.status import invalid_spec

CRD = yaml.safe_load((Path(__file__).parents[3] / "crds/modeldeployments.yaml").read_text())
SPEC = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


EXAMPLES = max(25, int(os.environ.get("FUZZ", "0")) // 200)
SPECS = values(SPEC)
TEMPLATES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 70000) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "spec", "containers", "name", "ports", "env", "volumes", "labels", "containerPort"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


async def end_of(spec: dict[str, Any]) -> dict[str, Any]:
    """Let the operator reconcile a spec for a while; return the status."""
    world = World()
    key = world.cluster.create("fraud", {**spec, "model": {"storageUri": "s3://models/good"} | spec.get("model", {})})
    for _ in range(5):
        await world.operate(key)
        world.cluster.tick()
        world.clock.advance(timedelta(seconds=1))
    status: dict[str, Any] = world.cluster.get("ModelDeployment", key).get("status") or {}
    return status


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(SPECS)
async def test_a_random_spec_ends_in_a_reported_state(spec: dict[str, Any]) -> None:
    status = await end_of(copy.deepcopy(spec))
    assert status["message"]
    assert any(one["type"] == "Ready" for one in status["conditions"])


@settings(max_examples=2 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEMPLATES)
async def test_a_random_pod_template_ends_in_a_reported_state(template: Any) -> None:
    status = await end_of({"server": {"podTemplate": template} if isinstance(template, dict) else {}})
    assert status["message"]


async def test_a_bug_is_reported_in_status(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    key = world.cluster.create("fraud", {"model": {"storageUri": "s3://models/good"}})
    world.sync()
    await world.reconciler.report_bug(key, KeyError("name"))
    status = world.cluster.get("ModelDeployment", key)["status"]
    stalled = next(one for one in status["conditions"] if one["type"] == "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", invalid_spec.INTERNAL_ERROR)
    assert "KeyError: 'name'" in stalled["message"]
