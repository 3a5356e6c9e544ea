"""A new object behind an unchanged URI becomes a new revision: by polling, and when a person asks for it."""

import shutil
from typing import Any

import pytest

from modeldeploy.kube import MODELDEPLOYMENTS


@pytest.mark.timeout(180)
def test_another_object_at_the_same_uri_is_rolled_out(space: Any) -> None:
    if space.cluster.running is None:
        pytest.skip("changes a package, and a cluster's may lie in an image")
    models = space.cluster.models / "quick" / "breast-cancer"
    package = space.cluster.models / f"changing-{space.namespace}"
    shutil.copytree(models / "1", package)
    space.apply("changing", package.name, model={"pollInterval": "1s"})
    first = space.wait_live("changing", "1")["status"]

    shutil.copytree(models / "2", package, dirs_exist_ok=True)
    second = space.wait_live("changing", "2")["status"]
    assert second["stableRevision"] != first["stableRevision"]
    assert second["model"]["uri"] == first["model"]["uri"]
    assert second["model"]["sha256"] != first["model"]["sha256"]
    reasons = [entry["result"] for entry in second["history"]]
    assert reasons == ["Promoted", "Promoted"]
    found = space.kube.get(MODELDEPLOYMENTS, "changing")
    assert found["metadata"]["generation"] == 1, "nobody touched the spec"
