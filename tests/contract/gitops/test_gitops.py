"""What Argo CD and Flux conclude from a ModelDeployment in every state that the engine brings about."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lifecycle_states as states
import pytest
import yaml
from argo_lua import LuaError, run
from kstatus import kstatus
from operator_in_cluster import api_of, control_plane

from model_operator.clients.kinds import RESOURCE
from modeldeploy import requests
from modeldeploy.rollout import Rollout, Verdict

ROOT = Path(__file__).resolve().parents[3]
ARGO = ROOT / "integrations" / "argocd"
HEALTH = (ARGO / "health.lua").read_text()
DISCOVERY = (ARGO / "actions" / "discovery.lua").read_text()
ROWS: list[dict[str, Any]] = json.loads((ROOT / "tests/contract/operator/statuses.json").read_text())
NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
SCHEMA = yaml.safe_load((ROOT / "crds/modeldeployments.yaml").read_text())["spec"]["versions"][0]["schema"]
STATUS = SCHEMA["openAPIV3Schema"]["properties"]["status"]

Ask = Callable[[Rollout], requests.Patch]
ACTIONS: Mapping[str, Ask] = {
    "promote": lambda rollout: requests.promote(rollout, now=NOW),
    "promote-full": lambda rollout: requests.promote_full(rollout, now=NOW),
    "abort": lambda rollout: requests.abort(rollout, now=NOW),
    "retry": lambda rollout: requests.retry(rollout, now=NOW),
    "undo": lambda rollout: requests.undo(rollout, None, kept=None, now=NOW)[0],
    "pause": lambda rollout: requests.pause(paused=True),
    "resume": lambda rollout: requests.pause(paused=False),
}

#: State, what Argo CD shows, what kstatus says, and the actions that are possible besides pause and resume.
CANARY, NONE = {"promote", "promote-full", "abort"}, set[str]()
STATES = [
    pytest.param(states.created, "Progressing", "InProgress", NONE, id="created, and not read by the operator yet"),
    pytest.param(states.starting, "Progressing", "InProgress", NONE, id="the first revision is starting"),
    pytest.param(states.healthy, "Healthy", "Current", NONE, id="the first revision is live"),
    pytest.param(states.changed, "Progressing", "InProgress", NONE, id="a new spec that the operator has not read"),
    pytest.param(states.progressing, "Progressing", "InProgress", CANARY, id="a rollout makes progress"),
    pytest.param(states.paused, "Suspended", "InProgress", CANARY, id="a rollout waits for a person"),
    pytest.param(states.promoting, "Progressing", "InProgress", None, id="a rollout is being promoted"),
    pytest.param(states.promoted, "Healthy", "Current", {"undo"}, id="a rollout was promoted"),
    pytest.param(states.rolling_back, "Progressing", "InProgress", None, id="a rollout goes back"),
    pytest.param(states.rolled_back, "Degraded", "Failed", {"retry"}, id="a rollout went back"),
    pytest.param(states.first_failed, "Degraded", "Failed", None, id="the first revision cannot serve"),
    pytest.param(states.held, "Suspended", "InProgress", NONE, id="a person holds a change"),
    pytest.param(states.scaled_to_zero, "Suspended", "InProgress", NONE, id="a change waits for pods to be wanted"),
    pytest.param(states.sleeping, "Healthy", "Current", NONE, id="it sleeps"),
    pytest.param(states.waking, "Progressing", "InProgress", NONE, id="a request wakes it"),
    pytest.param(states.refused, "Degraded", "InProgress", CANARY, id="the API server refuses an object"),
    pytest.param(states.terminating, "Progressing", "Terminating", NONE, id="it is being deleted"),
]


async def read(state: states.State) -> dict[str, Any]:
    """Return the resource as an API server answers: with the default of a status that nobody has written."""
    body = await state()
    return body if "status" in body else {**body, "status": STATUS["default"]}


@pytest.mark.parametrize(("state", "argo", "flux", "possible"), STATES)
async def test_a_state(state: states.State, argo: str, flux: str, possible: set[str] | None) -> None:
    body = await read(state)
    health = run(HEALTH, body)
    assert health["status"] == argo
    assert health["message"]
    assert kstatus(body) == flux
    discovered = {name for name, one in run(DISCOVERY, body).items() if not one["disabled"]}
    assert set(run(DISCOVERY, body)) == set(ACTIONS)
    if possible is not None:
        assert discovered - {"pause", "resume"} == possible


@pytest.mark.parametrize(("state", "argo", "flux", "possible"), STATES)
async def test_an_action_asks_for_what_the_command_line_asks_for(
    state: states.State, argo: str, flux: str, possible: set[str] | None
) -> None:
    body = await read(state)
    discovered = run(DISCOVERY, body)
    for name, ask in ACTIONS.items():
        script = (ARGO / "actions" / name / "action.lua").read_text()
        try:
            patch = ask(Rollout.from_body(body))
        except requests.Refused:
            assert discovered[name]["disabled"], name
            with pytest.raises(LuaError, match=r"there is no|abort it instead"):
                run(script, body, now=int(NOW.timestamp()))
            continue
        if name in {"pause", "resume"} and discovered[name]["disabled"]:
            continue  # it is so already
        assert not discovered[name]["disabled"], name
        after = run(script, body, now=int(NOW.timestamp()))
        assert changes(body, after) == dict(patch), name


def changes(before: Any, after: Any) -> dict[str, Any]:
    """Return the merge patch from one object to another; nothing may be removed."""
    patch: dict[str, Any] = {}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, dict) and (isinstance(old, dict) or old is None):
            if inner := changes(old or {}, value):
                patch[name] = inner
        elif value != old and not (value == {} and old == []):
            patch[name] = value
    gone = {name for name in set(before) - set(after) if before[name] is not None}
    assert not gone, f"{gone} is gone"
    return patch


@pytest.mark.parametrize("status", ROWS, ids=[f"{number} {row['phase']}" for number, row in enumerate(ROWS)])
def test_the_scripts_run_over_every_recorded_status(status: dict[str, Any]) -> None:
    generation = status.get("observedGeneration", 1)
    body = {"metadata": {"name": "fraud", "generation": generation}, "spec": {}, "status": status}
    assert run(HEALTH, body)["status"] in {"Progressing", "Suspended", "Healthy", "Degraded"}
    run(DISCOVERY, body)


def test_every_phase_was_looked_at() -> None:
    phases = STATUS["properties"]["phase"]["enum"]
    named = {one.values[0].__name__ for one in STATES}
    looked = {"starting": "Pending", "first_failed": "Degraded"}
    assert {looked.get(name, "".join(part.title() for part in name.split("_"))) for name in named} >= set(phases)


def test_the_settings_of_argo_cd_hold_the_scripts() -> None:
    data = yaml.safe_load((ARGO / "argocd-cm.yaml").read_text())["data"]
    kind = "modeldeploy.dev_ModelDeployment"
    assert data[f"resource.customizations.health.{kind}"] == HEALTH
    actions = yaml.safe_load(data[f"resource.customizations.actions.{kind}"])
    assert actions["discovery.lua"] == DISCOVERY
    written = {one["name"]: one["action.lua"] for one in actions["definitions"]}
    assert written == {name: (ARGO / "actions" / name / "action.lua").read_text() for name in ACTIONS}
    assert {path.name for path in (ARGO / "actions").iterdir() if path.is_dir()} == set(ACTIONS)


async def test_a_resource_that_no_operator_has_read_is_in_progress() -> None:
    async with control_plane() as cluster, api_of(cluster) as api:
        await api.create("fraud", model={"storageUri": "s3://models/fraud/1"})
        body = await api.get(RESOURCE, "fraud")
    assert body["status"] == {"observedGeneration": -1}
    assert kstatus(body) == "InProgress"
    assert run(HEALTH, body)["status"] == "Progressing"
    assert Rollout.from_body(body).verdict is Verdict.WAITING
