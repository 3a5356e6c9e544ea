"""The node: registers itself, runs the pods bound to it, and serves their logs.

`python -m model_sandbox node` starts one against any API server, `up` one or more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from aiohttp import web

from model_sandbox.cache import Cache, Key, key_of
from model_sandbox.client import ApiFailure, Client, Connection, Obj
from model_sandbox.controllers.base import NODES, PODS, Recorder, stamp
from model_sandbox.node.environment import Images, default_images
from model_sandbox.node.logs import serve_log
from model_sandbox.node.network import LOOPBACK, Network
from model_sandbox.node.pod import Host, PodRunner
from model_sandbox.node.process import Reaper
from model_sandbox.node.status import ContainerState, PodState, pod_status

log = logging.getLogger(__name__)
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
HEARTBEAT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """How a node runs."""

    name: str = "sandbox-0"
    state: Path
    instant: bool = False
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    backoff: float = 10.0
    network: Network = LOOPBACK


def capacity() -> dict[str, str]:
    """What the machine has."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    return {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", "pods": "1000"}


def node_object(settings: NodeSettings, port: int) -> Obj:
    """The Node object."""
    runs = "instant (no processes)" if settings.instant else "local processes"
    now = stamp()
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": f"model sandbox: pods are {runs}",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    info = {
        "kubeletVersion": "v1.36.0-sandbox",
        "kubeProxyVersion": "",
        "osImage": "model sandbox, not a real node",
        "containerRuntimeVersion": "process://instant" if settings.instant else "process://local",
        "kernelVersion": platform.release(),
        "operatingSystem": "linux",
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "machineID": "",
        "systemUUID": "",
        "bootID": "",
    }
    status: Obj = {
        "capacity": capacity(),
        "allocatable": capacity(),
        "conditions": [ready],
        "addresses": [
            {"type": "InternalIP", "address": settings.network.host},
            {"type": "Hostname", "address": settings.name},
        ],
        "nodeInfo": info,
    }
    if port:
        status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": port}}
    labels = {
        "kubernetes.io/hostname": settings.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": info["architecture"],
    }
    return {"metadata": {"name": settings.name, "labels": labels}, "status": status}


class Node:
    """Keeps a Node object alive and runs its pods."""

    def __init__(self, client: Client, settings: NodeSettings, host: Host) -> None:
        self._client = client
        self._settings = settings
        self._host = host
        self._pods = Cache(client, PODS, f"fieldSelector=spec.nodeName%3D{settings.name}")
        self._runners: dict[str, tuple[PodRunner, asyncio.Task[None]]] = {}
        self._addresses: dict[str, str] = {}

    async def run(self, port: int) -> None:
        """Register, then run pods until cancelled; all of them are ended then."""
        await self._register(port)
        self._pods.listeners.append(self._hear)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pods.run())
                tasks.create_task(self._beat())
        finally:
            await self._stop()

    async def _stop(self) -> None:
        runners = list(self._runners.values())
        for runner, _ in runners:
            runner.vanish()
        await asyncio.gather(*(task for _, task in runners), return_exceptions=True)

    async def _register(self, port: int) -> None:
        body = node_object(self._settings, port)
        pause = 0.1
        while True:
            try:
                try:
                    await self._client.send("POST", NODES.path(), body)
                except ApiFailure as failure:
                    if failure.code != 409:
                        raise
                await self._client.merge(NODES.path("", self._settings.name, "status"), {"status": body["status"]})
                return
            except (aiohttp.ClientError, ConnectionError) as error:
                log.warning("waiting for the API server: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def _beat(self) -> None:
        """Renew the node's Lease."""
        name = self._settings.name
        while True:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}
            try:
                try:
                    await self._client.merge(f"{LEASES}/{name}", {"spec": spec})
                except ApiFailure as failure:
                    if failure.code != 404:
                        raise
                    await self._client.send("POST", LEASES, {"metadata": {"name": name}, "spec": spec})
            except (ApiFailure, aiohttp.ClientError, ConnectionError) as error:
                log.debug("lease: %s", error)
            await asyncio.sleep(HEARTBEAT)

    def address(self, uid: str) -> str:
        """A pod's own address."""
        while uid not in self._addresses:
            found = self._settings.network.choose()
            if found not in self._addresses.values():
                self._addresses[uid] = found
        return self._addresses[uid]

    def runner(self, key: Key) -> PodRunner | None:
        """The runner of a pod."""
        pod = self._pods.get(*key)
        found = self._runners.get(pod["metadata"]["uid"]) if pod is not None else None
        return found[0] if found else None

    def _hear(self, old: Obj | None, new: Obj | None) -> None:
        loop = asyncio.get_running_loop()
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            found = self._runners.get(old["metadata"]["uid"])
            if found is not None:
                found[0].vanish()
        if new is None:
            return
        uid = new["metadata"]["uid"]
        if self._settings.instant:
            if old is None or new["metadata"].get("deletionTimestamp"):
                task = loop.create_task(self._instant(new))
                self._keep(f"{uid}/{new['metadata']['resourceVersion']}", PodRunner(self._host, new, ""), task)
            return
        found = self._runners.get(uid)
        if found is not None:
            found[0].update(new)
        elif new["status"].get("phase") not in ("Succeeded", "Failed") or new["metadata"].get("deletionTimestamp"):
            runner = PodRunner(self._host, new, self.address(uid))
            self._keep(uid, runner, loop.create_task(self._guard(runner)))
            runner.update(new)

    def _keep(self, uid: str, runner: PodRunner, task: asyncio.Task[None]) -> None:
        self._runners[uid] = (runner, task)

        def done(_: asyncio.Task[None]) -> None:
            self._runners.pop(uid, None)
            self._addresses.pop(uid, None)

        task.add_done_callback(done)

    async def _guard(self, runner: PodRunner) -> None:
        try:
            await runner.run()
        except (ApiFailure, aiohttp.ClientError, ConnectionError) as error:
            log.warning("pod %s: %s", runner.pod["metadata"]["name"], error)
        except Exception:
            log.exception("pod %s failed", runner.pod["metadata"]["name"])

    async def _instant(self, pod: Obj) -> None:
        """A pod without processes: ready as soon as it is seen, gone as soon as it is deleted."""
        meta = pod["metadata"]
        path = PODS.path(meta["namespace"], meta["name"])
        try:
            if meta.get("deletionTimestamp"):
                await self._client.delete(path, gracePeriodSeconds=0, preconditions={"uid": meta["uid"]})
                return
            now = datetime.now(UTC)
            states = [
                ContainerState(
                    one["name"],
                    one.get("image", ""),
                    container_id=f"sandbox://instant/{meta['uid']}/{one['name']}",
                    running_since=now,
                    started=True,
                    ready=True,
                )
                for one in pod["spec"]["containers"]
            ]
            state = PodState(pod, self._settings.network.host, self.address(meta["uid"]), now, containers=states)
            await self._client.merge(
                PODS.path(meta["namespace"], meta["name"], "status"), {"status": pod_status(state, now)}
            )
        except (ApiFailure, aiohttp.ClientError, ConnectionError) as error:
            log.debug("pod %s: %s", meta["name"], error)


@asynccontextmanager
async def _log_server(node: Node, address: str) -> AsyncIterator[int]:
    """Serve `/containerLogs/NAMESPACE/POD/CONTAINER`, where the API server looks for them."""

    async def handle(request: web.Request) -> web.StreamResponse:
        names = request.match_info
        runner = node.runner((names["namespace"], names["pod"]))
        return await serve_log(request, runner, names["container"])

    app = web.Application()
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def run(connection: Connection, settings: NodeSettings) -> None:
    """Run a node until cancelled."""
    reaper = Reaper() if not settings.instant else None
    try:
        async with (
            Client(connection, "kubelet/sandbox") as client,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session,
        ):
            images = Images({**default_images(), **settings.images})
            host = Host(
                client,
                session,
                Recorder(client, "kubelet"),
                reaper,  # type: ignore[arg-type]
                images,
                settings.state,
                settings.network,
                await settings.network.reachable(connection.url),
                capacity(),
                settings.backoff,
            )
            node = Node(client, settings, host)
            if settings.instant:
                await node.run(0)
            else:
                async with _log_server(node, settings.network.host) as port:
                    await node.run(port)
    finally:
        if reaper is not None:
            reaper.close()


__all__ = ["Node", "NodeSettings", "key_of", "run"]
