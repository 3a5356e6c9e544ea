"""A model that sleeps: the requests that come meanwhile wake it and are answered, whoever dies.

These tests kill their operator, so they stand on a sandbox of their own; with `--cluster`, on that cluster.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from model_packages import some_rows
from waiting import wait_until

from modeldeploy.kube import MODELDEPLOYMENTS, PODS, SERVICES, Kube, Resource
from modeldeploy.stand import Operator, has_helm, installed, start_sandbox

SLICES = Resource("discovery.k8s.io", "v1", "endpointslices")
ACTIVATOR = {"activator": {"enabled": True, "replicas": 2}}
SETTINGS = {"MODEL_OPERATOR_PRE_STOP_SECONDS": "1"}
AT_ONCE = 200

pytestmark = pytest.mark.skipif(not has_helm(), reason="the activator is installed by the chart")


@dataclass
class Ward:
    """A cluster with activators, and an operator that may die."""

    kube: Kube
    models: str
    operator: Operator
    namespace: str = "default"

    def apply(self, name: str, version: str, *, idle: str = "5s", **more: Any) -> None:
        body = {
            "apiVersion": "modeldeploy.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "model": {"storageUri": f"{self.models}/quick/breast-cancer/{version}", "trusted": True},
                "autoscaling": {"minReplicas": 0, "maxReplicas": 1, "idleAfter": idle},
                **more,
            },
        }
        self.kube.apply(MODELDEPLOYMENTS, body)

    def wait(self, name: str, phase: str, *, seconds: float = 60) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            found = self.kube.get(MODELDEPLOYMENTS, name, self.namespace).get("status", {})
            return found if found.get("phase") == phase else None

        return wait_until(there, f"{name} is {phase}", seconds=seconds) or {}

    def url(self, name: str) -> str:
        return f"http://{self.kube.get(SERVICES, name, self.namespace)['spec']['clusterIP']}/predict"

    def pods(self, name: str) -> list[dict[str, Any]]:
        return self.kube.list(PODS, self.namespace, labels=f"modeldeploy.dev/name={name}")

    def slices(self, name: str) -> list[dict[str, Any]]:
        labels = f"kubernetes.io/service-name={name},endpointslice.kubernetes.io/managed-by=modeldeploy"
        return self.kube.list(SLICES, self.namespace, labels=labels)


@pytest.fixture(scope="module")
def ward(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, packages: Path) -> Iterator[Ward]:
    if request.config.getoption("--cluster"):
        space = request.getfixturevalue("space")
        yield Ward(space.kube, space.cluster.models_uri, space.cluster.running.operator, space.namespace)
        return
    folder = tmp_path_factory.mktemp("ward")
    with (
        start_sandbox(folder),
        installed(folder, folder / "kubeconfig", settings=SETTINGS, values=ACTIVATOR) as operator,
        Kube.connect(folder / "kubeconfig") as kube,
    ):
        yield Ward(kube, packages.as_uri(), operator)
        operator.check()


async def ask_many(url: str, count: int) -> Counter[int | str]:
    """Send so many requests, some at a time, and count the answers by status or error."""
    rows, answers, gate = json.dumps({"instances": some_rows(1)}), Counter[int | str](), asyncio.Semaphore(AT_ONCE)

    async def ask(client: httpx.AsyncClient) -> None:
        async with gate:
            try:
                answers[(await client.post(url, content=rows)).status_code] += 1
            except httpx.HTTPError as error:
                answers[repr(error)] += 1

    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(timeout=120, trust_env=False, limits=limits) as client:
        await asyncio.gather(*(ask(client) for _ in range(count)))
    return answers


def test_a_thousand_requests_to_a_model_that_sleeps_are_all_answered(ward: Ward) -> None:
    ward.apply("crowd", "1")
    ward.wait("crowd", "Healthy")
    assert not ward.slices("crowd")
    asleep = ward.wait("crowd", "Sleeping")
    ready = next(one for one in asleep["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Sleeping")
    wait_until(lambda: not ward.pods("crowd"), "its pods are gone", seconds=30)
    (found,) = ward.slices("crowd")
    assert found["ports"][0]["port"] == asleep["sleep"]["port"]
    assert asyncio.run(ask_many(ward.url("crowd"), 1000)) == {200: 1000}
    assert ward.wait("crowd", "Healthy")["sleep"]["cause"] == "a request"


def test_a_request_is_answered_though_the_operator_dies_while_the_model_wakes(ward: Ward) -> None:
    ward.apply("watched", "1")
    ward.wait("watched", "Sleeping")

    async def ask_and_kill() -> Counter[int | str]:
        asking = asyncio.create_task(ask_many(ward.url("watched"), 20))
        await asyncio.to_thread(ward.wait, "watched", "Waking")
        await asyncio.to_thread(ward.operator.kill)
        return await asking

    assert asyncio.run(ask_and_kill()) == {200: 20}
    ward.wait("watched", "Healthy")


def test_a_new_version_wakes_a_model_and_is_rolled_out_by_its_steps(ward: Ward) -> None:
    ward.apply("renewed", "1")
    ward.wait("renewed", "Sleeping")
    ward.apply("renewed", "2", strategy={"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}})
    paused = ward.wait("renewed", "Paused")
    assert paused["stableRevision"] != paused["canaryRevision"]
    assert paused["readyReplicas"] == 2, paused
    value = f"{paused['canaryRevision']}@1"
    ward.kube.merge(
        MODELDEPLOYMENTS, "renewed", {"metadata": {"annotations": {"modeldeploy.dev/promote": value}}}, ward.namespace
    )
    assert ward.wait("renewed", "Healthy")["stableRevision"] == paused["canaryRevision"]
