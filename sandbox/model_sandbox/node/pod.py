"""One pod on this node: its containers run, and its status is reported, from its binding to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from model_sandbox.client import ApiFailure, Obj, write_kubeconfig
from model_sandbox.controllers.base import PODS, status_of
from model_sandbox.node.container import RETRY, Container, Host, Surroundings
from model_sandbox.node.environment import ConfigError, Sources
from model_sandbox.node.network import NetworkError
from model_sandbox.node.status import ContainerState, pod_status
from model_sandbox.node.volumes import decoded, materialise, references

log = logging.getLogger(__name__)
_TOKEN_SECONDS = 86400


class PodRunner:
    """Runs a pod from its binding to its end. `run` returns when nothing of it is left."""

    def __init__(self, host: Host, pod: Obj, address: str) -> None:
        folder = host.state / "pods" / pod["metadata"]["uid"]
        self._around = Surroundings(host, pod, address, folder, self._files)
        self._gone = False
        self._grace = 30.0
        self._token = ""
        spec = pod["spec"]
        waiting = "PodInitializing" if spec.get("initContainers") else "ContainerCreating"
        self._inits = [Container(self._around, one, waiting) for one in spec.get("initContainers") or []]
        self._containers = [Container(self._around, one, waiting) for one in spec["containers"]]

    @property
    def pod(self) -> Obj:
        """The pod as it was last seen."""
        return self._around.pod

    def container(self, name: str) -> Container | None:
        """A container by its name."""
        return next((one for one in self._all() if one.state.name == name), None)

    def _all(self) -> list[Container]:
        return [*self._inits, *self._containers]

    # --- what the node tells

    def update(self, pod: Obj) -> None:
        """A newer version of the pod; one with a deletionTimestamp ends it."""
        self._around.pod = pod
        if pod["metadata"].get("deletionTimestamp") and not self._around.ending.is_set():
            self._grace = float(pod["metadata"].get("deletionGracePeriodSeconds", 30))
            self._around.ending.set()

    def vanish(self) -> None:
        """The pod was removed by force: end it at once."""
        self._gone, self._grace = True, 0.0
        self._around.ending.set()
        for one in self._all():
            one.kill()

    # --- its life

    async def run(self) -> None:
        """Run until the pod is over, report all the while, and remove it when it was deleted."""
        host, address = self._around.host, self._around.address
        async with asyncio.TaskGroup() as tasks:
            reporter = tasks.create_task(self._report())
            work = tasks.create_task(self._run_containers())
            await self._around.ending.wait()
            await asyncio.gather(*(one.end(self._grace) for one in self._all()))
            work.cancel()
            await asyncio.wait([work])
            reporter.cancel()
        await host.network.detach(address)
        if not self._gone:
            with contextlib.suppress(ApiFailure):  # the pod goes in any case
                await self._write_status()
            await remove(host, self.pod)
        await asyncio.to_thread(shutil.rmtree, self._around.folder, ignore_errors=True)

    async def _run_containers(self) -> None:
        await self._attach()
        policy = self.pod["spec"].get("restartPolicy", "Always")
        for init in self._inits:
            if not await init.run("Never" if policy == "Never" else "OnFailure", is_probed=False):
                return
        for one in self._containers:
            one.state.waiting = ("ContainerCreating", "")
        async with asyncio.TaskGroup() as tasks:
            for one in self._containers:
                tasks.create_task(one.run(policy))

    async def _attach(self) -> None:
        """Give the pod its network, however often that takes."""
        while True:
            try:
                return await self._around.host.network.attach(self._around.address)
            except NetworkError as error:
                told, name = f"Failed to create pod sandbox: {error}", self._containers[0].state.name
                await self._around.event("FailedCreatePodSandBox", told, name, warning=True)
                await asyncio.sleep(RETRY)

    # --- what its containers need

    async def _files(self) -> tuple[Sources, Mapping[str, Path], Mapping[str, str]]:
        host, namespace = self._around.host, self.pod["metadata"]["namespace"]
        objects = {}
        for kind, name in sorted(set(references(self.pod["spec"]))):
            if body := await host.client.get(f"/api/v1/namespaces/{namespace}/{kind}s/{name}") if name else None:
                objects[kind, name] = decoded(kind, body)
        pod = {**self.pod, "status": {**status_of(self.pod), "podIP": self._around.address}}
        sources = Sources(pod, objects, host.network.host, host.capacity)
        own = await self._credentials()
        folders, claims = {}, host.state / "claims"
        for volume in self.pod["spec"].get("volumes") or []:
            target = self._around.folder / "volumes" / volume["name"]
            folders[volume["name"]] = materialise(volume, target, claims, sources, self._token)
        return sources, folders, own

    async def _credentials(self) -> dict[str, str]:
        """The variable by which the pod reaches the API server as its ServiceAccount."""
        spec, namespace, host = self.pod["spec"], self.pod["metadata"]["namespace"], self._around.host
        if not spec.get("automountServiceAccountToken", True):
            return {}
        if not self._token:
            account = spec.get("serviceAccountName", "default")
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
            try:
                answer = await host.client.send("POST", path, {**body, "spec": {"expirationSeconds": _TOKEN_SECONDS}})
            except ApiFailure as failure:
                raise ConfigError(f"no token for the ServiceAccount: {failure.body.get('message', failure)}") from None
            self._token = answer["status"]["token"]
        config = self._around.folder / "kubeconfig"
        write_kubeconfig(config, host.url, self._token, namespace=namespace, trust=host.client.connection.trust)
        return {"KUBECONFIG": str(config)}

    # --- reporting

    async def _report(self) -> None:
        """Write the status whenever it changed, never twice at once."""
        changed, pause = self._around.changed, 0.1
        changed.set()
        while True:
            await changed.wait()
            changed.clear()
            try:
                await self._write_status()
                pause = 0.1
            except (ApiFailure, aiohttp.ClientError, OSError) as error:
                if isinstance(error, ApiFailure) and error.code in (404, 409, 422):
                    return  # the pod is gone, or another one has its name
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                changed.set()

    async def _write_status(self) -> None:
        inits, containers = ([one.state for one in some] for some in (self._inits, self._containers))
        answer = await write(self._around.host, self.pod, self._around.address, containers, inits)
        if int(answer["metadata"]["resourceVersion"]) > int(self.pod["metadata"]["resourceVersion"]):
            self._around.pod = answer


async def write(
    host: Host, pod: Obj, address: str, containers: Sequence[ContainerState], inits: Sequence[ContainerState] = ()
) -> Obj:
    """Report a pod's status, if it differs from the one that is there; the pod as it is then."""
    before, meta = status_of(pod), pod["metadata"]
    status = pod_status(pod, host.network.host, address, containers, inits, now=datetime.now(UTC))
    if all(before.get(name) == value for name, value in status.items()):
        return pod
    path = PODS.path(meta["namespace"], meta["name"], "status")
    return await host.client.merge(path, {"metadata": {"uid": meta["uid"]}, "status": status})


async def remove(host: Host, pod: Obj) -> None:
    """Take a pod whose containers have ended off the API server."""
    meta = pod["metadata"]
    path = PODS.path(meta["namespace"], meta["name"])
    await host.client.delete(path, gracePeriodSeconds=0, preconditions={"uid": meta["uid"]})
