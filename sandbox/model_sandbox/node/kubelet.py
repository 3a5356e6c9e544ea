"""The node: registers itself, runs the pods bound to it, and serves their logs.

`python -m model_sandbox node` starts one against any API server, `up` one or more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
from datetime import UTC, datetime
from functools import partial

import aiohttp
from aiohttp import web

from model_sandbox.cache import Key
from model_sandbox.client import ApiFailure, Obj
from model_sandbox.controllers.base import NODES, PODS, Shared, stamp
from model_sandbox.controllers.pods import is_finished, is_terminating
from model_sandbox.controllers.queue import Controller
from model_sandbox.node.host import Host, NodeSettings, capacity
from model_sandbox.node.logs import serve_log
from model_sandbox.node.pod import InstantPod, PodRunner
from model_sandbox.node.process import Reaper

log = logging.getLogger(__name__)
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
HEARTBEAT = 10.0
APPLY = "application/apply-patch+yaml"


def node_object(settings: NodeSettings, port: int) -> Obj:
    """The Node object."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    runs = "instant (no processes)" if settings.instant else "local processes"
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": f"model sandbox: pods are {runs}"}
    times = dict.fromkeys(("lastHeartbeatTime", "lastTransitionTime"), stamp())
    info = {
        "kubeletVersion": "v1.36.0-sandbox",
        "osImage": "model sandbox, not a real node",
        "containerRuntimeVersion": "process://instant" if settings.instant else "process://local",
        "kernelVersion": platform.release(),
        "operatingSystem": "linux",
        "architecture": machine,
    }
    addresses = {"InternalIP": settings.network.host, "Hostname": settings.name}
    status: Obj = {
        "capacity": capacity(),
        "allocatable": capacity(),
        "conditions": [{**ready, **times}],
        "addresses": [{"type": kind, "address": address} for kind, address in addresses.items()],
        "nodeInfo": info,
        **({"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}} if port else {}),
    }
    labels = {"hostname": settings.name, "os": "linux", "arch": machine}
    metadata = {"name": settings.name, "labels": {f"kubernetes.io/{key}": value for key, value in labels.items()}}
    return {"metadata": metadata, "status": status}


class Node:
    """Keeps a Node object alive and runs its pods, each of them in a task of its own."""

    def __init__(self, host: Host, tasks: asyncio.TaskGroup) -> None:
        self._settings = host.settings
        self._host = host
        self._tasks = tasks
        self._pods = host.world[PODS]
        self._is_following = False
        self._runners: dict[str, tuple[PodRunner | InstantPod, asyncio.Task[None]]] = {}
        self._addresses: dict[str, str] = {}

    async def beat(self, node: Obj, key: Key) -> float:
        """Write the Node and its Lease, every few seconds; pods are run from the first time on."""
        name, now = key[1], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        await self._apply(NODES.path("", name), {"metadata": node["metadata"]}, "v1", "Node")
        await self._host.world.client.merge(NODES.path("", name, "status"), {"status": node["status"]})
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}
        lease = {"metadata": {"name": name}, "spec": spec}
        await self._apply(f"{LEASES}/{name}", lease, "coordination.k8s.io/v1", "Lease")
        if not self._is_following:
            self._is_following = True
            self._pods.listen(self._hear)
        return HEARTBEAT

    async def _apply(self, path: str, body: Obj, version: str, kind: str) -> None:
        body = {"apiVersion": version, "kind": kind, **body}
        await self._host.world.client.send("PATCH", f"{path}?fieldManager=kubelet&force=true", body, media=APPLY)

    def runner(self, namespace: str, name: str) -> PodRunner | None:
        """The runner of a pod."""
        pod = self._pods.get(namespace, name)
        found = self._runners.get(pod["metadata"]["uid"]) if pod is not None else None
        return found[0] if found is not None and isinstance(found[0], PodRunner) else None

    def _hear(self, old: Obj | None, new: Obj | None) -> None:
        before, uid = ((one or {"metadata": {"uid": ""}})["metadata"]["uid"] for one in (old, new))
        if before != uid and before in self._runners:  # removed by force
            self._runners[before][1].cancel()
        if new is None or new["spec"].get("nodeName") != self._settings.name:
            return
        if uid not in self._runners and (not is_finished(new) or is_terminating(new)):
            runner = (InstantPod if self._settings.instant else PodRunner)(self._host, new, self._address(uid))
            self._runners[uid] = runner, self._tasks.create_task(self._guard(runner))
        if uid in self._runners:
            self._runners[uid][0].update(new)

    def _address(self, uid: str) -> str:
        """A pod's own address."""
        while (found := self._settings.network.choose()) in self._addresses.values():
            continue
        return self._addresses.setdefault(uid, found)

    async def _guard(self, runner: PodRunner | InstantPod) -> None:
        """One pod's trouble is not the others'."""
        metadata = runner.body["metadata"]
        try:
            await runner.run()
        except (ApiFailure, aiohttp.ClientError, OSError) as error:
            log.warning("pod %s: %s", metadata["name"], error)
        except Exception:
            log.exception("pod %s failed", metadata["name"])
        finally:
            self._runners.pop(metadata["uid"], None)
            self._addresses.pop(metadata["uid"], None)


async def _serve_logs(node: Node, address: str, stack: contextlib.AsyncExitStack) -> int:
    """Serve `/containerLogs/NAMESPACE/POD/CONTAINER`, where the API server looks for them; the port."""

    async def handle(request: web.Request) -> web.StreamResponse:
        names = request.match_info
        return await serve_log(request, node.runner(names["namespace"], names["pod"]), names["container"])

    app = web.Application()
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, address, 0).start()
    return int(runner.addresses[0][1])


async def run(settings: NodeSettings, shared: Shared) -> None:
    """Run a node until cancelled; all of its pods' processes are ended then."""
    network, connector = settings.network, aiohttp.TCPConnector(limit=0, force_close=True)
    async with contextlib.AsyncExitStack() as stack:
        reaper = None if settings.instant else stack.enter_context(contextlib.closing(Reaper()))
        world = await stack.enter_async_context(shared.world("kubelet/sandbox", PODS))
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        host = Host(settings, world, session, reaper, await network.reachable(shared.connection.url))
        node = Node(host, await stack.enter_async_context(asyncio.TaskGroup()))
        port = 0 if settings.instant else await _serve_logs(node, network.host, stack)
        beating = Controller("kubelet", partial(node.beat, node_object(settings, port)))
        beating.put(("", settings.name))
        await beating.run()
