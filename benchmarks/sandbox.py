"""How much the sandbox's control plane carries: requests per second, memory, and a thousand ModelDeployments.

    python -m benchmarks.sandbox [--objects 1000] [--json FILE]

The API server runs as a process of its own; the load comes from this one. With KUBEBUILDER_ASSETS (a folder with `etcd`
and `kube-apiserver`) the same calls are made against a real API server, next to it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

ROOT = Path(__file__).parents[1]
MODELS = "/apis/modeldeploy.dev/v1alpha1/namespaces/default/modeldeployments"
MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
WORKERS = 16


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
async def the_sandbox(*arguments: str) -> AsyncIterator[tuple[str, str, int, float]]:
    """A sandbox: URL, token, process and seconds until it was ready."""
    token = secrets.token_hex(8)
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "model_sandbox", *arguments, "--token", token, stdout=asyncio.subprocess.PIPE
    )
    url = ""
    if process.stdout is None:
        raise RuntimeError("no output")
    while not (line := (await process.stdout.readline()).decode()).startswith("export"):
        if line.startswith("API server: "):
            url = line.split()[-1]
        if not line:
            raise RuntimeError("the sandbox did not start")
    ready = time.perf_counter() - begun
    try:
        yield url, token, process.pid, ready
    finally:
        process.terminate()
        await process.wait()


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
    begun = time.perf_counter()
    await load.send("GET", MODELS)
    found[f"list {objects} ModelDeployments, ms"] = (time.perf_counter() - begun) * 1000
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


async def whole(objects: int) -> dict[str, float]:
    """Deployments with their ReplicaSets and pods, made ready without processes."""
    async with the_sandbox("up", "--pods", "instant") as (url, token, pid, ready):
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
            load = Load(session, url)
            begun = time.perf_counter()
            await load.rate(objects, lambda n: load.send("POST", DEPLOYMENTS, deployment(n)))
            slowest = 0.0
            while True:
                asked = time.perf_counter()
                body = json.loads(await load.send("GET", DEPLOYMENTS))
                slowest = max(slowest, time.perf_counter() - asked)
                if sum(one["status"].get("readyReplicas", 0) for one in body["items"]) == objects:
                    break
                await asyncio.sleep(0.5)
            return {
                "up, s": ready,
                f"{objects} Deployments to ready pods, s": time.perf_counter() - begun,
                "slowest list meanwhile, ms": slowest * 1000,
                "RSS, MiB": rss(pid),
            }


def table(results: dict[str, dict[str, float]]) -> str:
    """The results as a table in Markdown."""
    lines = ["| | | |", "|---|---|---|"]
    for part, figures in results.items():
        lines += [f"| {part} | {name} | {value:,.1f} |" for name, value in figures.items()]
    return "\n".join(lines)


async def measure(objects: int) -> dict[str, dict[str, float]]:
    results: dict[str, dict[str, float]] = {}
    async with the_sandbox("apiserver") as (url, token, pid, _):
        results["sandbox, calls per second"] = await api_server(url, token, objects)
        results["sandbox, calls per second"]["RSS, MiB"] = rss(pid)
    results["sandbox, everything"] = await whole(objects)
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and shutil.which("openssl"):
        async with the_real_one(Path(assets)) as (url, token, pid):
            results["kube-apiserver, calls per second"] = await api_server(url, token, objects)
            results["kube-apiserver, calls per second"]["RSS, MiB"] = rss(pid)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    results = asyncio.run(measure(options.objects))
    print(table(results))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
