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

from model_sandbox.cache import Key, key_of
from model_sandbox.client import ApiFailure, Obj, write_kubeconfig
from model_sandbox.controllers.base import PODS, status_of
from model_sandbox.controllers.queue import Controller
from model_sandbox.node.container import RETRY, Container
from model_sandbox.node.environment import ConfigError, Sources
from model_sandbox.node.host import Host, capacity
from model_sandbox.node.network import NetworkError
from model_sandbox.node.status import ContainerState, pod_status
from model_sandbox.node.volumes import decoded, materialise, references

log = logging.getLogger(__name__)
_TOKEN_SECONDS = 86400
#: How often changed ConfigMaps and Secrets are written into volumes, in seconds; a kubelet takes about a minute.
_REFRESH_SECONDS = 5
_REFRESHED = ("configMap", "secret", "projected")


class PodRunner:
    """Runs a pod from its binding to its end. `run` returns when nothing of it is left."""

    def __init__(self, host: Host, body: Obj, address: str) -> None:
        self.host = host
        self.body = body
        self.address = address
        self.folder = host.settings.state / "pods" / body["metadata"]["uid"]
        self.ending = asyncio.Event()
        self._grace = 30.0
        self._reports = Controller("pod status", self._write_status)
        self._token = ""
        inits = body["spec"].get("initContainers") or []
        waiting = "PodInitializing" if inits else "ContainerCreating"
        self._inits = [Container(self, one, waiting) for one in inits]
        self._containers = [Container(self, one, waiting) for one in body["spec"]["containers"]]

    def container(self, name: str) -> Container | None:
        """A container by its name."""
        return next((one for one in [*self._inits, *self._containers] if one.state.name == name), None)

    def update(self, body: Obj) -> None:
        """A newer version of the pod; one with a deletionTimestamp ends it."""
        self.body = body
        if body["metadata"].get("deletionTimestamp") and not self.ending.is_set():
            self._grace = float(body["metadata"].get("deletionGracePeriodSeconds", 30))
            self.ending.set()

    async def event(self, reason: str, message: str, container: str, *, warning: bool = False) -> None:
        """Record an event about a container."""
        path = f"spec.containers{{{container}}}"
        await self.host.world.event(self.body, reason, message, warning=warning, path=path)

    # --- its life

    async def run(self) -> None:
        """Run until the pod is over, report all the while, and remove it when it was deleted.

        Cancelled, it ends the processes at once.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self.report()
                aside = [tasks.create_task(self._reports.run()), tasks.create_task(self._run_containers())]
                if any(kind in volume for volume in self.body["spec"].get("volumes") or [] for kind in _REFRESHED):
                    aside.append(tasks.create_task(self._refresh_volumes()))
                await self.ending.wait()
                await asyncio.gather(*(one.end(self._grace) for one in [*self._inits, *self._containers]))
                for task in aside:
                    task.cancel()
            with contextlib.suppress(ApiFailure):  # the pod goes in any case
                await self._write_status(key_of(self.body))
            await remove(self.host, self.body)
        finally:
            await self.host.settings.network.detach(self.address)
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _run_containers(self) -> None:
        await self._attach()
        policy = self.body["spec"].get("restartPolicy", "Always")
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
                return await self.host.settings.network.attach(self.address)
            except NetworkError as error:
                await self.host.settings.network.detach(self.address)
                told, name = f"Failed to create pod sandbox: {error}", self._containers[0].state.name
                await self.event("FailedCreatePodSandBox", told, name, warning=True)
                await asyncio.sleep(RETRY)

    # --- what its containers need

    async def files(self) -> tuple[Sources, Mapping[str, Path], Mapping[str, str]]:
        """What env refers to, the volumes' folders and the pod's own variables. Raises ConfigError."""
        host, namespace = self.host, self.body["metadata"]["namespace"]
        objects = {}
        for kind, name in sorted(set(references(self.body["spec"]))):
            if body := await host.world.client.get(f"/api/v1/namespaces/{namespace}/{kind}s/{name}") if name else None:
                objects[kind, name] = decoded(kind, body)
        pod = {**self.body, "status": {**status_of(self.body), "podIP": self.address}}
        sources = Sources(pod, objects, host.settings.network.host, capacity())
        own = await self._credentials()
        folders, claims = {}, host.settings.state / "claims"
        for volume in self.body["spec"].get("volumes") or []:
            target = self.folder / "volumes" / volume["name"]
            folders[volume["name"]] = materialise(volume, target, claims, sources, self._token)
        return sources, folders, own

    async def _refresh_volumes(self) -> None:
        """Write what has changed in ConfigMaps and Secrets into the volumes; what was taken out of them stays."""
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            # What cannot be read now is there at the next time.
            with contextlib.suppress(ConfigError, ApiFailure, aiohttp.ClientError, TimeoutError):
                await self.files()

    async def _credentials(self) -> dict[str, str]:
        """The variable by which the pod reaches the API server as its ServiceAccount."""
        spec, namespace, host = self.body["spec"], self.body["metadata"]["namespace"], self.host
        if not spec.get("automountServiceAccountToken", True):
            return {}
        if not self._token:
            account = spec.get("serviceAccountName", "default")
            body = {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": _TOKEN_SECONDS},
            }
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
            try:
                answer = await host.world.client.send("POST", path, body)
            except ApiFailure as failure:
                raise ConfigError(f"no token for the ServiceAccount: {failure.body.get('message', failure)}") from None
            self._token = answer["status"]["token"]
        config = self.folder / "kubeconfig"
        write_kubeconfig(config, host.url, self._token, namespace=namespace, trust=host.world.client.connection.trust)
        return {"KUBECONFIG": str(config)}

    # --- reporting

    def report(self) -> None:
        """Have the status written soon."""
        self._reports.put(key_of(self.body))

    async def _write_status(self, _: Key) -> None:
        inits, containers = ([one.state for one in some] for some in (self._inits, self._containers))
        await write(self.host, self.body, self.address, containers, inits)


class InstantPod:
    """A pod without processes: ready as soon as it is seen, gone as soon as it is deleted."""

    def __init__(self, host: Host, body: Obj, address: str) -> None:
        self.host = host
        self.body = body
        self.address = address
        self._ending = asyncio.Event()

    def update(self, body: Obj) -> None:
        """A newer version of the pod; one with a deletionTimestamp ends it."""
        if body["metadata"].get("deletionTimestamp"):
            self._ending.set()

    async def run(self) -> None:
        """Report it, and remove it when it was deleted."""
        if not self._ending.is_set():
            now, uid = datetime.now(UTC), self.body["metadata"]["uid"]
            states = []
            for one in self.body["spec"]["containers"]:
                state = ContainerState(one["name"], one.get("image", ""), f"sandbox://instant/{uid}/{one['name']}")
                state.running_since, state.started, state.ready = now, True, True
                states.append(state)
            await write(self.host, self.body, self.address, states)
        await self._ending.wait()
        await remove(self.host, self.body)


async def write(
    host: Host, pod: Obj, address: str, containers: Sequence[ContainerState], inits: Sequence[ContainerState] = ()
) -> None:
    """Report a pod's status, if it differs from the one that is there."""
    before, meta = status_of(pod), pod["metadata"]
    status = pod_status(pod, host.settings.network.host, address, containers, inits, now=datetime.now(UTC))
    if all(before.get(name) == value for name, value in status.items()):
        return
    await host.world.merge(PODS, key_of(pod), {"metadata": {"uid": meta["uid"]}, "status": status}, "status")


async def remove(host: Host, pod: Obj) -> None:
    """Take a pod whose containers have ended off the API server."""
    meta = pod["metadata"]
    path = PODS.path(meta["namespace"], meta["name"])
    await host.world.client.delete(path, gracePeriodSeconds=0, preconditions={"uid": meta["uid"]})
