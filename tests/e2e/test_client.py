"""A model's life by `modeldeploy.Client`, as docs/how-to/python.md has it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from model_packages import REQUEST
from waiting import wait_until

from modeldeploy import AsyncClient, Client, ModelRefused, RolloutFailed
from modeldeploy.kube import KubeError
from modeldeploy.requests import Refused

ROWS = json.loads(REQUEST.read_text())["instances"]
GATE = {"strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}}


@pytest.fixture
def models(space: Any) -> Iterator[Client]:
    with Client(kubeconfig=space.kubeconfig, namespace=space.namespace) as client:
        yield client


@pytest.mark.timeout(240)
def test_a_version_is_deployed_asked_labelled_and_promoted(space: Any, models: Client) -> None:
    package = f"{space.cluster.models_uri}/quick/breast-cancer"
    models.deploy("screening", f"{package}/1", trusted=True, spec=GATE)
    assert models.wait("screening", timeout=120).version == "1"
    answer = models.predict("screening", ROWS)
    assert (len(answer.values), answer.version) == (len(ROWS), "1")
    models.feedback("screening", answer.id, list(answer.values))
    with pytest.raises(ModelRefused, match="screening answered 422"):
        models.predict("screening", [["x"]])
    with pytest.raises(KubeError, match=r"spec\.replica\b") as refused:
        models.deploy("screening", f"{package}/1", spec={"replica": 2})
    assert refused.value.__suppress_context__, "a notebook shows one trace"
    with pytest.raises(KubeError, match=r"spec\.replica\b"):
        models.patch("screening", {"replica": 2})
    with pytest.raises(Refused, match="there is no rollout to promote"):
        models.promote("screening")

    models.patch("screening", {"model": {"storageUri": f"{package}/2"}})
    with pytest.raises(TimeoutError, match="screening is"):
        models.wait("screening", timeout=1)
    wait_until(lambda: models.status("screening").phase == "Paused", "it waits for a person", seconds=90)
    models.promote("screening")
    assert models.wait("screening", timeout=90).version == "2"
    assert models.predict("screening", ROWS).version == "2"
    assert [one.result for one in models.status("screening").history] == ["Promoted", "Promoted"]


@pytest.mark.timeout(180)
def test_a_label_finds_the_pod_that_predicted(space: Any, models: Client) -> None:
    models.deploy("many", f"{space.cluster.models_uri}/quick/breast-cancer/1", trusted=True, spec={"replicas": 3})
    models.wait("many", timeout=120)
    for _ in range(12):
        answer = models.predict("many", ROWS)
        models.feedback("many", answer.id, list(answer.values))
    with pytest.raises(ModelRefused, match="many answered 404: no prediction with id"):
        models.feedback("many", answer.id, list(answer.values))  # a label counts once


@pytest.mark.timeout(180)
async def test_a_version_that_cannot_serve_fails_the_wait(space: Any) -> None:
    async with AsyncClient(kubeconfig=space.kubeconfig, namespace=space.namespace) as models:
        await models.deploy("broken", f"{space.cluster.models_uri}/nothing", trusted=True)
        with pytest.raises(RolloutFailed, match="ArtifactNotFound"):
            await models.wait("broken", timeout=120)
        await models.delete("broken")
        assert "broken" not in [one.name for one in await models.models()]
