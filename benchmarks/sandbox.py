"""How much the sandbox carries: a thousand ModelDeployments with all that is made for them, calls per second, memory.

    python benchmarks/sandbox.py [--objects 1000]        (make bench-sandbox)

Sandbox and operator run as processes of their own; the load comes from this one. With KUBEBUILDER_ASSETS (a folder with
`etcd` and `kube-apiserver`) the same calls are made against a real API server, next to it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from report import Row, Table, keep, publish

from modeldeploy.stand import ProcessOperator, install_crd, start_sandbox

ROOT = Path(__file__).parents[1]
MODELS = "/apis/modeldeploy.dev/v1alpha1/namespaces/default/modeldeployments"
MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
CHILDREN = [
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
    "/apis/policy/v1/poddisruptionbudgets",
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/api/v1/endpoints",
    "/api/v1/services",
    "/api/v1/pods",
]
WORKERS = 16
PAUSE = 1000  # ms: what a person takes for a pause


class Load:
    """Requests to one API server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def send(self, method: str, path: str, body: Any = None, media: str = "application/json") -> Any:
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": media} if data else {}
        async with self.session.request(method, self.url + path, data=data, headers=headers) as response:
            answer = await response.read()
            if response.status >= 400:
                raise RuntimeError(f"{method} {path}: {response.status} {answer[:300]!r}")
            return answer

    async def rate(self, count: int, call: Callable[[int], Awaitable[Any]]) -> float:
        """Calls per second, by a few workers at once."""
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                await call(number)

        begun = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(WORKERS)))
        return count / (time.perf_counter() - begun)


def rss(pid: int) -> float:
    """Memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


@asynccontextmanager
async def the_real_one(assets: Path) -> AsyncIterator[tuple[str, str, int]]:
    """A real etcd and kube-apiserver on loopback."""
    with tempfile.TemporaryDirectory() as name:
        folder, token = Path(name), secrets.token_hex(8)
        (folder / "tokens").write_text(f"{token},admin,1,system:masters\n")
        openssl = await asyncio.create_subprocess_exec(
            "openssl", "genrsa", "-out", folder / "key", "2048", stderr=asyncio.subprocess.DEVNULL
        )
        await openssl.wait()
        client, peer = "http://127.0.0.1:23790", "http://127.0.0.1:23800"
        etcd = await asyncio.create_subprocess_exec(
            assets / "etcd", "--data-dir", folder / "etcd", "--listen-client-urls", client,
            "--listen-peer-urls", peer, "--advertise-client-urls", client, "--log-level", "error",
        )  # fmt: skip
        server = await asyncio.create_subprocess_exec(
            assets / "kube-apiserver", "--etcd-servers", client, "--secure-port", "16443", "--cert-dir", folder,
             "--bind-address", "127.0.0.1", "--token-auth-file", folder / "tokens", "--authorization-mode", "RBAC",
             "--service-account-key-file", folder / "key", "--service-account-signing-key-file", folder / "key",
             "--service-account-issuer", "https://kubernetes.default.svc",
             "--service-cluster-ip-range", "10.96.0.0/16",
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield "https://127.0.0.1:16443", token, server.pid
        finally:
            for process in (server, etcd):
                process.terminate()
                await process.wait()


def model(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": f"m{number}"},
        "spec": {"model": {"storageUri": f"s3://models/m{number}/1"}},
    }


def deployment(number: int) -> dict[str, Any]:
    labels = {"app": f"m{number}"}
    pod = {"containers": [{"name": "server", "image": "server"}]}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": f"m{number}"}, "spec": spec}


async def calls(load: Load, objects: int) -> dict[str, float]:
    """The rates of single kinds of calls."""
    definition = yaml.safe_load((ROOT / "crds" / "modeldeployments.yaml").read_text())
    await load.send("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    for _ in range(100):
        try:
            await load.send("GET", MODELS)
            break
        except RuntimeError:
            await asyncio.sleep(0.1)
    found: dict[str, float] = {}
    apply = "application/apply-patch+yaml"
    found["create ConfigMap"] = await load.rate(
        objects, lambda n: load.send("POST", MAPS, {"metadata": {"name": f"c{n}"}, "data": {"a": "b"}})
    )
    found["get ConfigMap"] = await load.rate(objects, lambda n: load.send("GET", f"{MAPS}/c{n}"))
    found["create ModelDeployment"] = await load.rate(objects, lambda n: load.send("POST", MODELS, model(n)))
    merge = "application/merge-patch+json"
    found["patch status"] = await load.rate(
        objects, lambda n: load.send("PATCH", f"{MODELS}/m{n}/status", {"status": {"phase": "Healthy"}}, merge)
    )
    found["apply Deployment, new"] = await load.rate(
        objects, lambda n: load.send("PATCH", f"{DEPLOYMENTS}/m{n}?fieldManager=b&force=true", deployment(n), apply)
    )
    found["apply Deployment, unchanged"] = await load.rate(
        objects, lambda n: load.send("PATCH", f"{DEPLOYMENTS}/m{n}?fieldManager=b&force=true", deployment(n), apply)
    )
    return found


async def api_server(url: str, token: str, objects: int) -> dict[str, float]:
    headers = {"Authorization": f"Bearer {token}"}
    connector = aiohttp.TCPConnector(limit=0, ssl=False)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        load = Load(session, url)
        for _ in range(300):
            try:
                await load.send("GET", "/api/v1/namespaces/default")
                break
            except (RuntimeError, aiohttp.ClientError):
                await asyncio.sleep(0.1)
        return await calls(load, objects)


class Onlooker:
    """What a person does while many ModelDeployments come: watches them, and asks something small now and then."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.ready: set[str] = set()
        self.answers: list[float] = []

    async def watch(self) -> None:
        """Note who is ready, until cancelled."""
        url = f"{self._load.url}{MODELS}?watch=true"
        async with self._load.session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response:
            async for line in response.content:
                model = json.loads(line)["object"]
                conditions = model.get("status", {}).get("conditions", ())
                if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
                    self.ready.add(model["metadata"]["name"])

    async def ask(self) -> None:
        """Time small questions, until cancelled."""
        while True:
            asked = time.perf_counter()
            await self._load.send("GET", "/api/v1/namespaces/default")
            self.answers.append(time.perf_counter() - asked)
            await asyncio.sleep(0.05)

    async def until_ready(self, objects: int) -> None:
        while len(self.ready) < objects:
            await asyncio.sleep(0.05)


async def first_look(load: Load, objects: int) -> float:
    """Seconds until a new watch has told of all objects."""
    begun, seen = time.perf_counter(), 0
    async with load.session.get(f"{load.url}{MODELS}?watch=true&resourceVersion=0") as response:
        async for _ in response.content:
            seen += 1
            if seen == objects:
                break
    return time.perf_counter() - begun


async def whole(objects: int, folder: Path) -> list[Row]:
    """ModelDeployments with what the operator and the controllers make for them; pods are ready without processes."""
    with start_sandbox(folder, "--pods", "instant") as sandbox:
        kubeconfig = folder / "kubeconfig"
        install_crd(kubeconfig)
        operator = ProcessOperator(folder, kubeconfig, {"MODEL_OPERATOR_LOG_LEVEL": "error"})
        try:
            url = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                return await many(Load(session, url), objects, sandbox.pid)
        finally:
            operator.stop()


async def many(load: Load, objects: int, pid: int) -> list[Row]:
    onlooker = Onlooker(load)
    tasks = [asyncio.create_task(one) for one in (onlooker.watch(), onlooker.ask())]
    begun = time.perf_counter()
    await load.rate(objects, lambda n: load.send("POST", MODELS, model(n)))
    await onlooker.until_ready(objects)
    took = time.perf_counter() - begun
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    held = 0
    for path in CHILDREN:
        held += len(json.loads(await load.send("GET", path))["items"])
    begun = time.perf_counter()
    await load.send("GET", MODELS)
    listed = time.perf_counter() - begun
    answers = sorted(onlooker.answers)
    return [
        Row(what=f"{objects} ModelDeployments until all are Ready", value=round(took, 1), unit="s"),
        Row(what="objects that were made for them", value=held, unit=""),
        Row(what="a small question meanwhile, median", value=_ms(answers[len(answers) // 2]), unit="ms"),
        Row(what="a small question meanwhile, slowest", value=_ms(answers[-1]), unit="ms", goal=PAUSE),
        Row(what=f"list of {objects} ModelDeployments", value=_ms(listed), unit="ms"),
        Row(what=f"new watch of {objects} ModelDeployments", value=_ms(await first_look(load, objects)), unit="ms"),
        Row(what="sandbox RSS with all of them", value=round(rss(pid)), unit="MiB"),
    ]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


async def measure(objects: int = 1000) -> Table:
    """Measure the whole sandbox, then single calls to its API server and, where there is one, to a real one."""
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as name:
        folder = Path(name)
        rows = await whole(objects, folder / "whole")
        token = secrets.token_hex(8)
        with start_sandbox(folder / "calls", "--pods", "none", "--token", token) as sandbox:
            url = yaml.safe_load((folder / "calls" / "kubeconfig").read_text())["clusters"][0]["cluster"]["server"]
            rows += calls_of("sandbox", await api_server(url, token, objects), rss(sandbox.pid))
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and shutil.which("openssl"):
        async with the_real_one(Path(assets)) as (url, token, pid):
            rows += calls_of("kube-apiserver", await api_server(url, token, objects), rss(pid))
    return Table(name="sandbox", title=f"The sandbox, with {objects} ModelDeployments", rows=tuple(rows))


def calls_of(server: str, found: dict[str, float], memory: float) -> list[Row]:
    rows = [Row(what=f"{server}: {name}", value=round(value, 1), unit="calls/s") for name, value in found.items()]
    return [*rows, Row(what=f"{server}: RSS", value=round(memory), unit="MiB")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1000)
    table = asyncio.run(measure(parser.parse_args().objects))
    keep(table)
    publish()
    for row in table.rows:
        print(f"{row.what}: {row.value:g} {row.unit}")


if __name__ == "__main__":
    main()
