"""A model that sleeps: the requests that come meanwhile wake it and are answered, whoever dies.

These tests kill their operator, so they stand on a sandbox of their own; with `--cluster`, on that cluster.
"""

import asyncio
import base64
import json
import os
import signal
import ssl
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import urllib3
from model_packages import some_rows
from tls_front import Authority
from waiting import wait_until

from model_operator.observation.observe import is_ready
from model_server.grpc.messages import SERVICE, message
from modeldeploy.kube import MODELDEPLOYMENTS, PODS, SERVICES, Kube, Resource
from modeldeploy.stand import Operator, has_helm, installed, start_sandbox
from modeldeploy.stand.operator import NAMESPACE
from modeldeploy.stand.process import find_process

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
        """Wait for a phase; who sleeps has no pod any more that ends, and still answers."""

        def there() -> dict[str, Any] | None:
            found = self.kube.get(MODELDEPLOYMENTS, name, self.namespace).get("status", {})
            is_there = found.get("phase") == phase and not (phase == "Sleeping" and self.pods(name))
            return found if is_there else None

        def now() -> str:
            return f"{name} is {phase}: {self.kube.get(MODELDEPLOYMENTS, name, self.namespace).get('status')}"

        return wait_until(there, now, seconds=seconds) or {}

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


@pytest.mark.timeout(180)
def test_a_thousand_calls_over_grpc_wake_a_model_and_are_all_answered(ward: Ward) -> None:
    ward.apply("called", "1", server={"grpcPort": 9000})
    ward.wait("called", "Sleeping")
    address = ward.kube.get(SERVICES, "called", ward.namespace)["spec"]["clusterIP"]
    request = message("ModelReadyRequest")(name="called")
    with grpc.insecure_channel(f"{address}:9000") as channel:
        ask = channel.unary_unary(
            f"/{SERVICE}/ModelReady",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message("ModelReadyResponse").FromString,
        )
        calls = [ask.future(request, timeout=100) for _ in range(1000)]
        assert all(call.result().ready for call in calls)
        assert ward.wait("called", "Healthy")["sleep"]["cause"] == "a request"
        assert ask(request, timeout=60).ready, "whoever answers it"


@pytest.mark.timeout(180)
def test_a_connection_with_tls_wakes_a_model_and_sees_the_certificate_of_its_pod(ward: Ward, tmp_path: Path) -> None:
    host = f"sealed.{ward.namespace}.svc"
    authority = Authority(tmp_path)
    files = dict(zip(("tls.crt", "tls.key"), authority.issue("sealed", hosts=(host,)), strict=True))
    held = {name: base64.b64encode(file.read_bytes()).decode() for name, file in files.items()}
    meta = {"name": "sealed-tls", "namespace": ward.namespace}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "kubernetes.io/tls", "data": held}
    ward.kube.apply(Resource("", "v1", "secrets"), secret)
    ward.apply("sealed", "1", server={"tls": {"secretName": "sealed-tls"}})
    ward.wait("sealed", "Sleeping")
    address = ward.kube.get(SERVICES, "sealed", ward.namespace)["spec"]["clusterIP"]
    trust = ssl.create_default_context(cafile=str(authority.certificate))
    with httpx.Client(verify=trust, trust_env=False, timeout=120) as client:
        answer = client.post(
            f"https://{address}/predict",
            json={"instances": some_rows(1)},
            headers={"host": host},
            extensions={"sni_hostname": host},
        )
    assert answer.status_code == 200
    assert ward.wait("sealed", "Healthy")["sleep"]["cause"] == "a request"


def process_of(program: str, pod: dict[str, Any]) -> int:
    """The process id of a program in a pod of this machine."""
    folder = f"/pods/{pod['metadata']['uid']}/"
    return wait_until(lambda: find_process(program, folder), f"{program} runs", seconds=30) or 0


def ask_with_retries(url: str, count: int) -> Counter[int]:
    """Ask all at once as docs/how-to/sleep.md says, with the retries of urllib3; count the answers by status."""
    retry = urllib3.Retry(total=5, backoff_factor=1, allowed_methods=None, status_forcelist=[502, 503])
    body = json.dumps({"instances": some_rows(1)})

    def ask(_: int) -> int:
        return urllib3.request("POST", url, body=body, retries=retry, timeout=60).status

    with ThreadPoolExecutor(count) as threads:
        return Counter(threads.map(ask, range(count)))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("victim", ["activator", "model"])
def test_nobody_waits_for_what_was_killed(ward: Ward, request: pytest.FixtureRequest, victim: str) -> None:
    if request.config.getoption("--cluster"):
        pytest.skip("the processes of the pods are not on this machine")
    ward.apply(name := f"killed-{victim}", "1", idle="20s")
    ward.wait(name, "Sleeping", seconds=90)

    def kill() -> None:
        ward.wait(name, "Waking")
        if victim == "activator":
            labels = "app.kubernetes.io/component=activator"
            pods = ward.kube.list(PODS, NAMESPACE, labels=labels)
            os.kill(process_of("model_operator.activator", pods[0]), signal.SIGKILL)
            return
        pod = wait_until(
            lambda: next((one for one in ward.pods(name) if is_ready(one)), None), "it is ready", seconds=60
        )
        os.kill(process_of("model_server", pod), signal.SIGKILL)

    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(ask_with_retries, ward.url(name), 100)
        kill()
        assert asking.result(90) == {200: 100}


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


@pytest.mark.timeout(180)
def test_whoever_scales_the_resource_takes_its_pods_and_gives_them_back(space: Any) -> None:
    """What KEDA does with a ScaledObject: it writes the subresource `scale`, which knows no `idleAfter`."""

    def scale(replicas: int) -> None:
        done = space.kubectl("scale", "modeldeployment/scaled", f"--replicas={replicas}")
        assert done.returncode == 0, done.stderr

    space.apply("scaled", "quick/breast-cancer/1", replicas=1)
    space.wait_live("scaled", "1")
    scale(0)
    pods = "modeldeploy.dev/name=scaled"
    wait_until(lambda: not space.kube.list(PODS, labels=pods), "its pods are gone", seconds=60)
    space.apply("scaled", "quick/breast-cancer/2", replicas=0)
    scale(1)
    space.wait_live("scaled", "2", seconds=90)
