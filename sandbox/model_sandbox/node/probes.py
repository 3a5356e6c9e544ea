"""Probes and hooks: one question to a container, and how often a pod is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from model_sandbox.client import Obj
from model_sandbox.node.process import run_once


@dataclass(frozen=True, slots=True)
class Target:
    """The container that is asked."""

    address: str
    container: Obj
    values: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    enter: tuple[str, ...] = ()

    def port(self, port: int | str) -> int:
        """A port by number or by its name in the container."""
        if isinstance(port, int) or str(port).isdecimal():
            return int(port)
        for one in self.container.get("ports") or []:
            if one.get("name") == port:
                return int(one["containerPort"])
        raise ValueError(f"couldn't find port {port!r} in container {self.container['name']}")


async def ask(session: aiohttp.ClientSession, action: Obj, target: Target, seconds: float) -> tuple[bool, str]:
    """Whether a probe's or hook's action went well, and what it said."""
    try:
        if "exec" in action:
            command = [*target.enter, *(action["exec"].get("command") or [])]
            return await run_once(command, target.values, target.folder, seconds)
        if "httpGet" in action:
            return await _http(session, action["httpGet"], target, seconds)
        if "sleep" in action:
            await asyncio.sleep(action["sleep"]["seconds"])
            return True, ""
        if "tcpSocket" in action or "grpc" in action:
            given = action.get("tcpSocket") or action["grpc"]
            host, port = given.get("host") or target.address, target.port(given["port"])
            async with asyncio.timeout(seconds):
                _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return True, ""
    except TimeoutError:
        return False, f"timed out after {seconds:g}s"
    except (OSError, ValueError) as error:
        return False, str(error)
    return True, ""


async def _http(session: aiohttp.ClientSession, get: Obj, target: Target, seconds: float) -> tuple[bool, str]:
    host, port = get.get("host") or target.address, target.port(get["port"])
    path = get.get("path", "/")
    url = f"{get.get('scheme', 'HTTP').lower()}://{host}:{port}{path if path.startswith('/') else '/' + path}"
    headers = {"User-Agent": "kube-probe/1.36", "Accept": "*/*"}
    headers.update({one["name"]: one["value"] for one in get.get("httpHeaders") or []})
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with session.get(url, headers=headers, timeout=timeout, ssl=False) as response:
            if 200 <= response.status < 400:
                return True, ""
            return False, f"HTTP probe failed with statuscode: {response.status}"
    except aiohttp.ClientError as error:
        return False, f'Get "{url}": {error}'


@dataclass(slots=True)
class Counter:
    """Turns single answers into a verdict by the probe's thresholds."""

    probe: Obj
    good: bool
    _run: int = 0
    _last: bool | None = None

    def count(self, success: bool) -> bool:
        """Take one answer; whether the verdict changed."""
        self._run = self._run + 1 if success is self._last else 1
        self._last = success
        needed = self.probe.get("successThreshold", 1) if success else self.probe.get("failureThreshold", 3)
        if success is not self.good and self._run >= needed:
            self.good = success
            return True
        return False

    @property
    def failed(self) -> bool:
        """Whether the failure threshold has been reached."""
        return self._last is False and self._run >= self.probe.get("failureThreshold", 3)
