"""One container of a pod: started, probed, restarted and ended as a kubelet does it. `pod.py` runs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from model_sandbox.client import ApiFailure, Obj
from model_sandbox.node import process as processes
from model_sandbox.node.environment import (
    IMAGES,
    ConfigError,
    Place,
    UnknownImage,
    command_line,
    environment,
    find_image,
)
from model_sandbox.node.probes import Target, ask
from model_sandbox.node.process import Log, Running
from model_sandbox.node.status import ContainerState
from model_sandbox.node.volumes import mount_paths

if TYPE_CHECKING:
    from model_sandbox.node.pod import PodRunner

log = logging.getLogger(__name__)
MESSAGE_LIMIT = 4096
RETRY = 1.0  # seconds
_RESET_AFTER = 600.0
_MOST_BACKOFF = 300.0


class Container:
    """Runs until it shall not run again; its state is what the pod's status is made of."""

    def __init__(self, pod: PodRunner, body: Obj, waiting: str) -> None:
        self.state = ContainerState(body["name"], body.get("image", ""), waiting=(waiting, ""))
        self.running: Running | None = None
        self._pod = pod
        self._body = body
        self._folder: Path = pod.folder / "containers" / body["name"]
        self._target = Target(pod.address, body)
        self._failures = 0
        for held in (pod.body.get("status") or {}).get("containerStatuses") or []:
            if held["name"] == body["name"]:  # it ran before this node was started again
                self.state.restarts, self.state.container_id = held.get("restartCount", 0), held.get("containerID", "")

    def log_file(self, *, previous: bool = False) -> Path:
        """The log of the current or previous run, which need not be there."""
        return self._folder / f"{self.state.restarts - previous}.log"

    async def _event(self, reason: str, message: str, *, warning: bool = False) -> None:
        self._pod.report()
        await self._pod.event(reason, message, self.state.name, warning=warning)

    async def run(self, policy: str, *, is_probed: bool = True) -> bool:
        """Start it as often as a restartPolicy says; whether it ended well."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            code = await self._attempt(is_probed=is_probed)
            if self._pod.ending.is_set():
                return False
            if code is None:
                continue
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                return code == 0
            if loop.time() - begun > _RESET_AFTER:
                self._failures = 0
            await self._back_off()

    async def end(self, grace: float) -> None:
        """preStop, SIGTERM, and SIGKILL when the grace period is over."""
        if self.running is None:
            return
        deadline, hook = asyncio.get_running_loop().time() + grace, (self._body.get("lifecycle") or {}).get("preStop")
        await self._event("Killing", f"Stopping container {self.state.name}")
        if hook and grace:
            good, told = False, f"timed out after {grace:g}s"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    good, told = await ask(self._pod.host.session, hook, self._target, grace)
            if not good:
                await self._event("FailedPreStopHook", f"PreStopHook failed: {told}", warning=True)
        # As a kubelet: a hook that took all the time leaves two seconds.
        left = max(deadline - asyncio.get_running_loop().time(), 2.0 if hook and grace else 0.0)
        if self.running is not None:
            await self.running.stop(left)

    # --- one attempt

    async def _attempt(self, *, is_probed: bool) -> int | None:
        """One run: its exit code, or None when it could not be started yet."""
        state = self.state
        try:
            message, work, command = await self._prepare()
        except (UnknownImage, ConfigError, ApiFailure, aiohttp.ClientError, OSError) as error:
            await self._postpone(error)
            return None
        state.last, state.terminated = state.terminated or state.last, None
        state.restarts += bool(state.container_id)
        state.container_id = f"sandbox://{secrets.token_hex(32)}"
        log_file = Log(self.log_file())
        log_file.path.touch()
        (self._folder / f"{state.restarts - 2}.log").unlink(missing_ok=True)
        await self._event("Created", f"Created container: {state.name}")
        try:
            self.running = await processes.start([*self._target.enter, *command], self._target.values, work, log_file)
        except OSError as error:
            log_file.feed(f"{command[0]}: {error}\n".encode())
            state.end(127, datetime.now(UTC), str(error), "StartError")
            await self._event("Failed", f"Error: failed to start container {state.name}: {error}", warning=True)
            return 127
        state.running_since = self.running.started
        await self._event("Started", f"Started container {state.name}")
        watch = asyncio.create_task(self._watch() if is_probed else asyncio.sleep(0))
        try:
            code = await self.running.wait()
        finally:
            self.running = None
            watch.cancel()
            await asyncio.wait([watch])
        if not watch.cancelled() and (problem := watch.exception()):
            log.error("probes of %s: %s", state.name, problem)
        state.end(code, datetime.now(UTC), self._message(message, log_file, code))
        state.ready = not is_probed and code == 0
        self._pod.report()
        return code

    async def _prepare(self) -> tuple[Path, Path, list[str]]:
        """The termination log, the working directory and the command. Raises ConfigError or UnknownImage."""
        host, body = self._pod.host, self._body
        entrypoint, given = find_image(self.state.image, {**IMAGES, **host.settings.images})
        sources, folders, own = await self._pod.files()
        paths = mount_paths(body, folders)
        message = paths[body.get("terminationMessagePath") or "/dev/termination-log"] = self._folder / "termination-log"
        message.parent.mkdir(parents=True, exist_ok=True)
        message.write_bytes(b"")
        place = Place(host.settings.network.everywhere(self._pod.address), paths)
        mark = host.reaper.mark if host.reaper is not None else ""
        basis = processes.base_environment(self._folder / "home", sources.pod["metadata"]["name"], mark)
        asked = environment(body, sources, place)
        values = {**basis, **own, **{name: place.rewrite(value) for name, value in given.items()}, **asked}
        enter = host.settings.network.enter(self._pod.address)
        self._target = Target(self._pod.address, body, values, self._folder, enter)
        work = body.get("workingDir") or values["HOME"]
        return message, paths.get(work, Path(work)), command_line(body, entrypoint, values, place)

    async def _postpone(self, error: Exception) -> None:
        """Say why it cannot be started yet, and wait: for an image longer each time."""
        if is_image := isinstance(error, UnknownImage):
            self.state.waiting = ("ErrImagePull", str(error))
            await self._event("Failed", f'Failed to pull image "{self.state.image}": {error}', warning=True)
            told = f'Back-off pulling image "{self.state.image}"'
            self.state.waiting = ("ImagePullBackOff", f"{told}: ErrImagePull: {error}")
            await self._event("BackOff", told)
        else:
            self.state.waiting = ("CreateContainerConfigError", str(error))
            await self._event("Failed", f"Error: {error}", warning=True)
        await asyncio.sleep(self._pause() if is_image else RETRY)
        self._failures += is_image

    def _pause(self) -> float:
        return float(min(self._pod.host.settings.backoff * 2 ** max(0, self._failures - 1), _MOST_BACKOFF))

    async def _back_off(self) -> None:
        """The first restart comes at once, each later one after twice the time."""
        state, meta = self.state, self._pod.body["metadata"]
        if self._failures:
            seconds = self._pause()
            name = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
            told = f"back-off {seconds:g}s restarting failed container={state.name} pod={name}"
            state.last, state.terminated = state.terminated or state.last, None
            state.waiting = ("CrashLoopBackOff", told)
            told = f"Back-off restarting failed container {state.name} in pod {meta['name']}"
            await self._event("BackOff", told, warning=True)
            await asyncio.sleep(seconds)
        self._failures += 1

    def _message(self, path: Path, log_file: Log, code: int) -> str:
        """What a container leaves as its last word."""
        with contextlib.suppress(OSError), path.open("rb") as file:
            if text := file.read(MESSAGE_LIMIT).decode(errors="replace"):
                return text
        falls_back = self._body.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        return log_file.tail(80, 2048) if falls_back and code else ""

    # --- probes

    async def _watch(self) -> None:
        """postStart, then the startup probe, then readiness and liveness as long as it runs."""
        hook = (self._body.get("lifecycle") or {}).get("postStart")
        if hook:
            good, told = await ask(self._pod.host.session, hook, self._target, 30.0)
            if not good:
                await self._event("FailedPostStartHook", f"PostStartHook failed: {told}", warning=True)
                return await self._stop(2.0)
        async for good in self._verdicts("startup", None):
            if not good:
                return await self._fail("startup")
            break
        self.state.started, self.state.ready = True, "readinessProbe" not in self._body
        self._pod.report()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_readiness())
            async for _ in self._verdicts("liveness", True):
                await self._fail("liveness")
        return None

    async def _follow_readiness(self) -> None:
        async for good in self._verdicts("readiness", False):
            self.state.ready = good
            self._pod.report()

    async def _verdicts(self, name: str, verdict: bool | None) -> AsyncIterator[bool]:
        """Each change of a probe's verdict, by its thresholds; none if there is no such probe."""
        probe: Obj | None = self._body.get(f"{name}Probe")
        if probe is None:
            return
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        count, last = 0, verdict
        while True:
            good, told = await ask(self._pod.host.session, probe, self._target, probe.get("timeoutSeconds", 1))
            if not good:
                await self._event("Unhealthy", f"{name.capitalize()} probe failed: {told}", warning=True)
            count, last = count + 1 if good is last else 1, good
            if good is not verdict and count >= probe.get(
                *(("successThreshold", 1) if good else ("failureThreshold", 3))
            ):
                verdict = good
                yield good
            await asyncio.sleep(probe.get("periodSeconds", 10))

    async def _fail(self, name: str) -> None:
        """A probe failed for good: end the process, which is started again."""
        await self._event("Killing", f"Container {self.state.name} failed {name} probe, will be restarted")
        own = self._body[f"{name}Probe"].get("terminationGracePeriodSeconds")
        await self._stop(own if own is not None else self._pod.body["spec"].get("terminationGracePeriodSeconds", 30))

    async def _stop(self, grace: float) -> None:
        if self.running is not None:
            await self.running.stop(grace)
