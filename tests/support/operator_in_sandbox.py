"""The real operator, kopf and all, in a test's own event loop, against the sandbox's API server."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from model_sandbox.testing import Sandbox, sandbox

from model_operator.__main__ import run
from model_operator.clients.kinds import BY_KIND, RESOURCE, KindInfo
from model_operator.settings import Settings

CRD = Path(__file__).parents[2] / "crds" / "modeldeployments.yaml"


@dataclass
class Api:
    """What a person does, over HTTP."""

    session: aiohttp.ClientSession
    url: str

    async def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        headers = {"Content-Type": content_type}
        async with self.session.request(method, self.url + path, json=body, headers=headers) as response:
            answer = await response.json(content_type=None)
            assert response.status < 300, f"{method} {path}: {response.status} {answer}"
            return answer

    async def create(self, name: str, **spec: Any) -> Any:
        body = {"apiVersion": RESOURCE.api_version, "kind": RESOURCE.kind, "metadata": {"name": name}, "spec": spec}
        return await self.call("POST", RESOURCE.collection("default"), body)

    async def get(self, info: KindInfo, name: str) -> Any:
        return await self.call("GET", info.path("default", name))

    async def patch(self, info: KindInfo, name: str, body: Any) -> Any:
        return await self.call("PATCH", info.path("default", name), body, "application/merge-patch+json")

    async def delete(self, info: KindInfo, name: str) -> Any:
        return await self.call("DELETE", info.path("default", name))

    async def names(self, kind: str) -> list[str]:
        items = (await self.call("GET", BY_KIND[kind].collection("default")))["items"]
        return [item["metadata"]["name"] for item in items]

    async def status(self, name: str) -> Any:
        return (await self.get(RESOURCE, name)).get("status") or {}


async def eventually(check: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Ask until the answer is truthy."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        answer = await check()
        if answer:
            return answer
        assert asyncio.get_running_loop().time() < deadline, f"in vain waited for: {what}"
        await asyncio.sleep(0.02)


@dataclass
class Operator:
    """A running operator."""

    settings: Settings
    session: aiohttp.ClientSession
    stop: asyncio.Event

    async def requests(self) -> Counter[tuple[str, str]]:
        """Return how many requests it has made, by verb and kind; its lease does not count."""
        counted: Counter[tuple[str, str]] = Counter()
        async with self.session.get(f"http://127.0.0.1:{self.settings.metrics_port}/metrics") as response:
            for line in (await response.text()).splitlines():
                if line.startswith("modeldeploy_operator_api_requests_total{") and 'kind="Lease"' not in line:
                    labels = dict(part.split("=") for part in line[line.index("{") + 1 : line.index("}")].split(","))
                    key = (labels["verb"].strip('"'), labels["kind"].strip('"'))
                    counted[key] += int(float(line.rpartition(" ")[2]))
        return counted


@asynccontextmanager
async def api_of(cluster: Sandbox) -> AsyncIterator[Api]:
    """An administrator of a sandbox, with the resource definition in place."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {cluster.token}"}) as session:
        api = Api(session, cluster.url)
        definition = yaml.safe_load(CRD.read_text())
        await api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        yield api


@asynccontextmanager
async def operator(cluster: Sandbox, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Operator]:
    """Run the operator against a sandbox until the context ends."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    ports = {"host": "127.0.0.1", "metrics_port": free_port(), "health_port": free_port()}
    wanted = replace(Settings(identity="test", **ports), **settings)
    stop = asyncio.Event()
    task = asyncio.create_task(run(wanted, stop))
    async with aiohttp.ClientSession() as session:
        try:
            yield Operator(wanted, session, stop)
        finally:
            stop.set()
            await task


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


__all__ = ["Api", "Operator", "Sandbox", "api_of", "eventually", "operator", "sandbox"]
