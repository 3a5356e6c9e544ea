"""A ModelDeployment takes nothing that was there before it, and leaves it when it goes."""

from __future__ import annotations

from typing import Any

import pytest
from waiting import wait_until

from modeldeploy.kube import MODELDEPLOYMENTS, SERVICES


@pytest.mark.parametrize("selector", [None, {"app": "ledger"}], ids=["without a selector", "with a selector"])
def test_a_service_of_somebody_else_is_neither_taken_nor_deleted(space: Any, selector: Any) -> None:
    name = "ledger" if selector else "ledger-by-hand"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"name": "db", "port": 5432}], **({"selector": selector} if selector else {})},
    }
    space.kube.apply(SERVICES, service)
    before = space.kube.get(SERVICES, name)
    space.apply(name, "quick/breast-cancer/1")

    def refused() -> str:
        conditions = space.kube.get(MODELDEPLOYMENTS, name).get("status", {}).get("conditions", ())
        return next((c["message"] for c in conditions if c["type"] == "Stalled" and c["status"] == "True"), "")

    message = wait_until(refused, f"{name} is Stalled", seconds=60)
    assert f"Service {name} cannot be written" in message
    assert "has another owner" in message
    assert space.kube.get(SERVICES, name)["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert space.kubectl("delete", "mdep", name, "--timeout=60s").returncode == 0
    assert space.kube.get(SERVICES, name)["spec"] == before["spec"]
