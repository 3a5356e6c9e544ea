"""One pod on this node: its containers run, are probed, restarted and ended as a kubelet does it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from model_sandbox.client import ApiFailure, Client, Obj, write_kubeconfig
from model_sandbox.controllers.base import PODS, Recorder
from model_sandbox.node import process as processes
from model_sandbox.node.environment import (
    ConfigError,
    Images,
    Place,
    Sources,
    UnknownImage,
    command_line,
    environment,
)
from model_sandbox.node.network import Network, NetworkError
from model_sandbox.node.probes import Counter, Target, ask
from model_sandbox.node.process import Log, Reaper, Running
from model_sandbox.node.status import ContainerState, PodState, pod_status, terminated
from model_sandbox.node.volumes import decoded, materialise, mount_paths

log = logging.getLogger(__name__)
MESSAGE_LIMIT = 4096
_RETRY_CONFIG = 1.0
_RESET_AFTER = 600.0


@dataclass(frozen=True, slots=True)
class Host:
    """What a pod uses of its node."""

    client: Client
    session: aiohttp.ClientSession
    recorder: Recorder
    reaper: Reaper
    images: Images
    state: Path
    network: Network
    url: str
    capacity: Mapping[str, str]
    backoff: float = 10.0
    most_backoff: float = 300.0

    def pod_folder(self, uid: str) -> Path:
        """Where a pod keeps its files."""
        return self.state / "pods" / uid


@dataclass(slots=True)
class _Box:
    """One container: its specification, state and process."""

    body: Obj
    state: ContainerState
    folder: Path
    log: Log
    running: Running | None = None
    values: dict[str, str] = field(default_factory=dict)
    failures: int = 0


class PodRunner:
    """Runs a pod from its binding to its end. `run` returns when nothing of it is left."""

    def __init__(self, host: Host, pod: Obj, address: str) -> None:
        self.pod = pod
        self.address = address
        self._host = host
        self._folder = host.pod_folder(pod["metadata"]["uid"])
        self._started = datetime.now(UTC)
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._gone = False
        self._grace = 30.0
        self._token = ""
        spec = pod["spec"]
        waiting = ("PodInitializing", "") if spec.get("initContainers") else ("ContainerCreating", "")
        self._inits = [self._box(one, waiting) for one in spec.get("initContainers") or []]
        self._boxes = [self._box(one, waiting) for one in spec["containers"]]

    def _box(self, body: Obj, waiting: tuple[str, str]) -> _Box:
        folder = self._folder / "containers" / body["name"]
        state = ContainerState(body["name"], body.get("image", ""), waiting=waiting)
        for held in (self.pod.get("status") or {}).get("containerStatuses") or []:
            if held["name"] == body["name"]:  # it ran before this node was started again
                state.restarts, state.container_id = held.get("restartCount", 0), held.get("containerID", "")
        return _Box(body, state, folder, Log(folder / "0.log"))

    # --- what the node tells

    def update(self, pod: Obj) -> None:
        """A newer version of the pod; one with a deletionTimestamp ends it."""
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp") and not self._ending.is_set():
            self._grace = float(pod["metadata"].get("deletionGracePeriodSeconds", 30))
            self._ending.set()

    def vanish(self) -> None:
        """The pod was removed by force: end it at once."""
        self._gone, self._grace = True, 0.0
        self._ending.set()
        for box in self._all():
            if box.running is not None:
                box.running.kill()

    def log_file(self, container: str, *, previous: bool) -> Path | None:
        """The log of a container's current or previous run."""
        box = next((one for one in self._all() if one.body["name"] == container), None)
        if box is None:
            return None
        if not previous:
            return box.log.path
        number = int(box.log.path.stem) - 1
        return box.folder / f"{number}.log" if number >= 0 else None

    def is_running(self, container: str) -> bool:
        """Whether a container's process runs now."""
        return any(one.running is not None for one in self._all() if one.body["name"] == container)

    def state_of(self, container: str) -> str:
        """Why a container has no log yet."""
        box = next((one for one in self._all() if one.body["name"] == container), None)
        return box.state.waiting[0] if box is not None else ""

    def _all(self) -> list[_Box]:
        return [*self._inits, *self._boxes]

    # --- the whole pod

    async def run(self) -> None:
        """Run until the pod is over, report all the while, and remove it when it was deleted."""
        async with asyncio.TaskGroup() as tasks:
            reporter = tasks.create_task(self._report())
            work = tasks.create_task(self._run_containers())
            ending = tasks.create_task(self._ending.wait())
            await ending
            if not self._gone:
                await self._end()
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            for box in self._all():
                if box.running is not None:
                    box.running.kill()
                    await box.running.wait()
            reporter.cancel()
        await self._host.network.detach(self.address)
        if not self._gone:
            with contextlib.suppress(ApiFailure):  # the pod goes in any case
                await self._write_status()
            await self._remove()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _remove(self) -> None:
        meta = self.pod["metadata"]
        path = PODS.path(meta["namespace"], meta["name"])
        await self._host.client.delete(path, gracePeriodSeconds=0, preconditions={"uid": meta["uid"]})

    async def _attach(self) -> None:
        """Give the pod its network, however often that takes."""
        while True:
            try:
                return await self._host.network.attach(self.address)
            except NetworkError as error:
                told = f"Failed to create pod sandbox: {error}"
                await self._event("FailedCreatePodSandBox", told, kind="Warning", box=self._boxes[0])
                await asyncio.sleep(_RETRY_CONFIG)

    async def _run_containers(self) -> None:
        try:
            await self._attach()
            for box in self._inits:
                if not await self._run_init(box):
                    return
            for box in self._boxes:
                if box.state.waiting[0] == "PodInitializing":
                    box.state.waiting = ("ContainerCreating", "")
            async with asyncio.TaskGroup() as tasks:
                for box in self._boxes:
                    tasks.create_task(self._keep(box))
        except* (aiohttp.ClientError, ConnectionError) as errors:
            log.warning("pod %s: %s", self.pod["metadata"]["name"], errors.exceptions[0])

    async def _run_init(self, box: _Box) -> bool:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        while True:
            code = await self._attempt(box, init=True)
            if self._ending.is_set():
                return False
            if code == 0:
                box.state.ready = True
                self._changed.set()
                return True
            if code is not None and policy == "Never":
                return False
            if code is not None:
                await self._back_off(box)

    async def _keep(self, box: _Box) -> None:
        """Start a container again as often as its policy says."""
        policy = self.pod["spec"].get("restartPolicy", "Always")
        while True:
            begun = asyncio.get_running_loop().time()
            code = await self._attempt(box)
            if self._ending.is_set():
                return
            if code is None:
                continue
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                return
            if asyncio.get_running_loop().time() - begun > _RESET_AFTER:
                box.failures = 0
            await self._back_off(box)

    async def _back_off(self, box: _Box) -> None:
        """The first restart comes at once, each later one after twice the time."""
        state = box.state
        if box.failures:
            seconds = min(self._host.backoff * 2 ** (box.failures - 1), self._host.most_backoff)
            meta = self.pod["metadata"]
            name = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
            told = f"back-off {seconds:g}s restarting failed container={state.name} pod={name}"
            state.last, state.terminated = state.terminated or state.last, None
            state.waiting = ("CrashLoopBackOff", told)
            self._changed.set()
            await self._event(
                "BackOff",
                f"Back-off restarting failed container {state.name} in pod {meta['name']}",
                kind="Warning",
                box=box,
            )
            await asyncio.sleep(seconds)
        box.failures += 1

    # --- one attempt

    async def _attempt(self, box: _Box, *, init: bool = False) -> int | None:
        """One run of a container: its exit code, or None when it could not be started yet."""
        try:
            place, command = await self._prepare(box)
        except UnknownImage as error:
            await self._image_failed(box, str(error))
            return None
        except ConfigError as error:
            box.state.waiting = ("CreateContainerConfigError", str(error))
            self._changed.set()
            await self._event("Failed", f"Error: {error}", kind="Warning", box=box)
            await asyncio.sleep(_RETRY_CONFIG)
            return None
        state = box.state
        state.last, state.terminated = state.terminated or state.last, None
        if state.container_id:
            state.restarts += 1
        state.container_id = f"sandbox://{secrets.token_hex(32)}"
        box.log = Log(box.folder / f"{state.restarts}.log")
        (box.folder / f"{state.restarts - 2}.log").unlink(missing_ok=True)
        box.log.path.touch()
        await self._event("Created", f"Created container: {state.name}", box=box)
        try:
            work = place.paths.get(
                box.body.get("workingDir", ""), Path(box.body.get("workingDir") or box.values["HOME"])
            )
            command = [*self._host.network.enter(self.address), *command]
            running = box.running = await processes.start(command, box.values, work, box.log)
        except OSError as error:
            box.log.feed(f"{command[0]}: {error}\n".encode())
            now = datetime.now(UTC)
            state.terminated = terminated(127, now, now, str(error), state.container_id, killed_for="StartError")
            self._changed.set()
            await self._event(
                "Failed", f"Error: failed to start container {state.name}: {error}", kind="Warning", box=box
            )
            return 127
        state.running_since = running.started
        return await self._follow(box, running, place, init=init)

    async def _follow(self, box: _Box, running: Running, place: Place, *, init: bool) -> int:
        """From start to exit of a process, with its probes."""
        state = box.state
        state.started = state.ready = False
        watch = None if init else asyncio.create_task(self._probe(box))
        self._changed.set()
        await self._event("Started", f"Started container {state.name}", box=box)
        try:
            code = await running.wait()
        finally:
            if watch is not None:
                watch.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watch
        box.running = None
        state.running_since, state.started, state.ready = None, False, False
        message = self._message(box, place, code)
        now = datetime.now(UTC)
        state.terminated = terminated(code, running.started, now, message, state.container_id)
        self._changed.set()
        return code

    async def _prepare(self, box: _Box) -> tuple[Place, list[str]]:
        """Files, environment and command of a container. Raises ConfigError or UnknownImage."""
        self._host.images.command(box.body.get("image", ""))
        sources = await self._sources()
        await self._fetch_token()
        folders = {}
        for volume in self.pod["spec"].get("volumes") or []:
            target = self._folder / "volumes" / volume["name"]
            claims = self._host.state / "claims"
            folders[volume["name"]] = materialise(volume, target, claims, sources, lambda: self._token)
        paths = mount_paths(box.body, folders)
        box.folder.mkdir(parents=True, exist_ok=True)
        message = box.folder / "termination-log"
        message.write_bytes(b"")
        paths[box.body.get("terminationMessagePath") or "/dev/termination-log"] = message
        place = Place(self._host.network.everywhere(self.address), paths)
        values = environment(box.body, sources, place)
        own = processes.base_environment(box.folder / "home", self.pod["metadata"]["name"], self._host.reaper.mark)
        config = self._kubeconfig()
        if config is not None:
            own["KUBECONFIG"] = str(config)
        image = self._host.images.environment(box.body.get("image", ""))
        box.values = {**own, **{name: place.rewrite(value) for name, value in image.items()}, **values}
        return place, command_line(box.body, self._host.images, box.values, place)

    async def _sources(self) -> Sources:
        namespace = self.pod["metadata"]["namespace"]
        held: dict[str, dict[str, Obj]] = {"configmap": {}, "secret": {}}
        for kind, name in sorted(_references(self.pod["spec"])):
            body = await self._host.client.get(f"/api/v1/namespaces/{namespace}/{kind}s/{name}")
            if body is not None:
                held[kind][name] = decoded(kind, body)
        pod = {**self.pod, "status": {**(self.pod.get("status") or {}), "podIP": self.address}}
        return Sources(pod, held["configmap"], held["secret"], self._host.network.host, self._host.capacity)

    async def _fetch_token(self) -> None:
        spec, namespace = self.pod["spec"], self.pod["metadata"]["namespace"]
        if self._token or not spec.get("automountServiceAccountToken", True):
            return
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{spec.get('serviceAccountName', 'default')}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86400}}
        try:
            self._token = (await self._host.client.send("POST", path, body))["status"]["token"]
        except ApiFailure as failure:
            raise ConfigError(f"no token for the ServiceAccount: {failure.body.get('message', failure)}") from None

    def _kubeconfig(self) -> Path | None:
        """The file by which the pod reaches the API server as its ServiceAccount."""
        if not self._token:
            return None
        path = self._folder / "kubeconfig"
        namespace, trust = self.pod["metadata"]["namespace"], self._host.client.connection.trust
        write_kubeconfig(path, self._host.url, self._token, namespace=namespace, trust=trust)
        return path

    async def _image_failed(self, box: _Box, told: str) -> None:
        name = box.body.get("image", "")
        if not box.failures:
            box.state.waiting = ("ErrImagePull", told)
            await self._event("Failed", f'Failed to pull image "{name}": {told}', kind="Warning", box=box)
            self._changed.set()
            await asyncio.sleep(min(1.0, self._host.backoff))
        seconds = min(self._host.backoff * 2**box.failures, self._host.most_backoff)
        box.state.waiting = ("ImagePullBackOff", f'Back-off pulling image "{name}": {told}')
        self._changed.set()
        await self._event("BackOff", f'Back-off pulling image "{name}"', box=box)
        box.failures += 1
        await asyncio.sleep(seconds)

    def _message(self, box: _Box, place: Place, code: int) -> str:
        path = place.paths[box.body.get("terminationMessagePath") or "/dev/termination-log"]
        with contextlib.suppress(OSError):
            with path.open("rb") as file:
                text = file.read(MESSAGE_LIMIT).decode(errors="replace")
            if text:
                return text
        if box.body.get("terminationMessagePolicy") == "FallbackToLogsOnError" and code:
            return box.log.tail(80, 2048)
        return ""

    # --- probes

    async def _probe(self, box: _Box) -> None:
        target = Target(self.address, box.body, box.values, box.folder, self._host.network.enter(self.address))
        hook = (box.body.get("lifecycle") or {}).get("postStart")
        if hook:
            good, told = await ask(self._host.session, hook, target, 30.0)
            if not good:
                await self._event("FailedPostStartHook", f"PostStartHook failed: {told}", kind="Warning", box=box)
                return await self._stop(box, 2.0)
        startup = box.body.get("startupProbe")
        if startup and not await self._started_up(box, startup, target):
            return None
        box.state.started = True
        readiness, liveness = box.body.get("readinessProbe"), box.body.get("livenessProbe")
        box.state.ready = readiness is None
        self._changed.set()
        async with asyncio.TaskGroup() as tasks:
            if readiness:
                tasks.create_task(self._readiness(box, readiness, target))
            if liveness:
                tasks.create_task(self._liveness(box, liveness, target))
        return None

    async def _started_up(self, box: _Box, probe: Obj, target: Target) -> bool:
        counter = Counter(probe, good=False)
        async for good in self._answers(box, probe, target, "Startup"):
            if counter.count(good):
                return True
            if counter.failed:
                told = f"Container {box.state.name} failed startup probe, will be restarted"
                await self._event("Killing", told, box=box)
                await self._stop(box, self._grace_of(probe))
                return False
        return False

    async def _readiness(self, box: _Box, probe: Obj, target: Target) -> None:
        counter = Counter(probe, good=False)
        async for good in self._answers(box, probe, target, "Readiness"):
            if counter.count(good):
                box.state.ready = counter.good
                self._changed.set()

    async def _liveness(self, box: _Box, probe: Obj, target: Target) -> None:
        counter = Counter(probe, good=True)
        async for good in self._answers(box, probe, target, "Liveness"):
            if counter.count(good) and not counter.good:
                told = f"Container {box.state.name} failed liveness probe, will be restarted"
                await self._event("Killing", told, box=box)
                return await self._stop(box, self._grace_of(probe))
        return None

    def _grace_of(self, probe: Obj) -> float:
        own = probe.get("terminationGracePeriodSeconds")
        return float(own if own is not None else self.pod["spec"].get("terminationGracePeriodSeconds", 30))

    async def _answers(self, box: _Box, probe: Obj, target: Target, name: str) -> AsyncIterator[bool]:
        """The answers to a probe, one each period."""
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        while True:
            good, told = await ask(self._host.session, probe, target, float(probe.get("timeoutSeconds", 1)))
            if not good:
                await self._event("Unhealthy", f"{name} probe failed: {told}", kind="Warning", box=box)
            yield good
            await asyncio.sleep(probe.get("periodSeconds", 10))

    # --- the end

    async def _stop(self, box: _Box, grace: float) -> None:
        if box.running is None:
            return
        running = box.running
        running.terminate()
        try:
            async with asyncio.timeout(grace):
                await running.process.wait()
        except TimeoutError:
            running.kill()

    async def _end(self) -> None:
        """preStop, SIGTERM, and SIGKILL when the grace period is over, for all containers at once."""
        async with asyncio.TaskGroup() as tasks:
            for box in self._all():
                if box.running is not None:
                    tasks.create_task(self._end_one(box))

    async def _end_one(self, box: _Box) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._grace
        await self._event("Killing", f"Stopping container {box.state.name}", box=box)
        hook = (box.body.get("lifecycle") or {}).get("preStop")
        if hook and self._grace > 0:
            target = Target(self.address, box.body, box.values, box.folder, self._host.network.enter(self.address))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace):
                    good, told = await ask(self._host.session, hook, target, self._grace)
                if not good:
                    await self._event("FailedPreStopHook", f"PreStopHook failed: {told}", kind="Warning", box=box)
        # As a kubelet: a hook that took all the time leaves two seconds.
        await self._stop(box, max(deadline - loop.time(), 2.0 if hook and self._grace > 0 else 0.0))

    # --- reporting

    async def _event(self, reason: str, message: str, *, kind: str = "Normal", box: _Box) -> None:
        path = f"spec.containers{{{box.body['name']}}}"
        await self._host.recorder.event(self.pod, reason, message, kind=kind, path=path)

    async def _report(self) -> None:
        """Write the status whenever it changed, never twice at once."""
        self._changed.set()
        pause = 0.1
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._write_status()
                pause = 0.1
            except (ApiFailure, aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                if isinstance(error, ApiFailure) and error.code in (404, 409, 422):
                    return  # the pod is gone, or another one has its name
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                self._changed.set()

    async def _write_status(self) -> None:
        state = PodState(
            self.pod,
            self._host.network.host,
            self.address,
            self._started,
            [box.state for box in self._inits],
            [box.state for box in self._boxes],
        )
        status = pod_status(state, datetime.now(UTC))
        before = self.pod.get("status") or {}
        if all(before.get(name) == value for name, value in status.items()):
            return
        meta = self.pod["metadata"]
        path = PODS.path(meta["namespace"], meta["name"], "status")
        answer = await self._host.client.merge(path, {"metadata": {"uid": meta["uid"]}, "status": status})
        if int(answer["metadata"]["resourceVersion"]) > int(self.pod["metadata"]["resourceVersion"]):
            self.pod = answer


def _references(spec: Obj) -> set[tuple[str, str]]:
    """The ConfigMaps and Secrets that a pod names."""
    found: set[tuple[str, str]] = set()
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        for source in container.get("envFrom") or []:
            for key, kind in (("configMapRef", "configmap"), ("secretRef", "secret")):
                if key in source:
                    found.add((kind, source[key].get("name", "")))
        for entry in container.get("env") or []:
            origin = entry.get("valueFrom") or {}
            for key, kind in (("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")):
                if key in origin:
                    found.add((kind, origin[key]["name"]))
    for volume in spec.get("volumes") or []:
        for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
            if "configMap" in source:
                found.add(("configmap", source["configMap"]["name"]))
            if "secret" in source:
                found.add(("secret", source["secret"].get("secretName") or source["secret"].get("name", "")))
    return {(kind, name) for kind, name in found if name}
