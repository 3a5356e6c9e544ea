"""The real operator, kopf and all, as a process of its own, against a control plane."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from control_planes import ControlPlane, control_plane
from free_ports import free_port
from waiting import eventually

from model_operator.clients.kinds import BY_KIND, RESOURCE, KindInfo

#: Metric of an operator that holds the Lease.
LEADS = "modeldeploy_operator_leader 1.0"
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


@dataclass
class Operator:
    """A running operator."""

    process: asyncio.subprocess.Process
    session: aiohttp.ClientSession
    metrics: str

    async def requests(self) -> Counter[tuple[str, str]]:
        """Return how many requests it has made, by verb and kind; its lease does not count."""
        counted: Counter[tuple[str, str]] = Counter()
        async with self.session.get(self.metrics) as response:
            for line in (await response.text()).splitlines():
                if line.startswith("modeldeploy_operator_api_requests_total{") and 'kind="Lease"' not in line:
                    labels = dict(part.split("=") for part in line[line.index("{") + 1 : line.index("}")].split(","))
                    key = (labels["verb"].strip('"'), labels["kind"].strip('"'))
                    counted[key] += int(float(line.rpartition(" ")[2]))
        return counted

    async def knows(self, resources: int) -> bool:
        """Whether it leads, and has reconciled so many ModelDeployments."""
        page = await self._page()
        return LEADS in page and page.count("\nmodeldeploy_operator_rollout_step{") == resources

    async def is_up(self) -> bool:
        """Whether it serves its metrics."""
        return bool(await self._page())

    async def leads(self) -> bool:
        """Whether it holds the Lease."""
        return LEADS in await self._page()

    async def _page(self) -> str:
        """Return the metrics; empty while they are not served."""
        try:
            async with self.session.get(self.metrics) as response:
                return await response.text()
        except aiohttp.ClientError:
            return ""

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        return await self.process.wait()


@asynccontextmanager
async def api_of(cluster: ControlPlane) -> AsyncIterator[Api]:
    """An administrator of a cluster, with the resource definition in place."""
    headers = {"Authorization": f"Bearer {cluster.token}"}
    connector = aiohttp.TCPConnector(ssl=cluster.tls)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        api = Api(session, cluster.url)
        definition = yaml.safe_load(CRD.read_text())
        await api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)

        async def is_served() -> bool:
            async with session.get(cluster.url + RESOURCE.collection("default")) as response:
                return response.status == 200

        await eventually(is_served, "the resource definition is served")
        yield api


@asynccontextmanager
async def operator(cluster: ControlPlane, **settings: str) -> AsyncIterator[Operator]:
    """Run the operator against a cluster until the context ends, or until the test ends it."""
    metrics, health = free_port(), free_port()
    wanted = {"host": "127.0.0.1", "metrics_port": str(metrics), "health_port": str(health), **settings}
    environment = {f"MODEL_OPERATOR_{name.upper()}": value for name, value in wanted.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "model_operator",
        env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig), **environment},
    )
    async with aiohttp.ClientSession() as session:
        running = Operator(process, session, f"http://127.0.0.1:{metrics}/metrics")
        try:
            yield running
        finally:
            if process.returncode is None:
                await running.end()


__all__ = ["Api", "ControlPlane", "Operator", "api_of", "control_plane", "operator"]
