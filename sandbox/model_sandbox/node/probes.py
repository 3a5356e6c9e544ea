"""What a container is asked by probes and hooks."""

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

    def endpoint(self, action: Obj) -> tuple[str, int]:
        """Host and port of a TCP, gRPC or HTTP action; a port is given by number or by its name in the container."""
        port, named = action["port"], self.container.get("ports") or []
        number = next((one["containerPort"] for one in named if one.get("name") == port), port)
        if not str(number).isdecimal():
            raise ValueError(f"couldn't find port {port!r} in container {self.container['name']}")
        return action.get("host") or self.address, int(number)


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
        elif "tcpSocket" in action or "grpc" in action:
            async with asyncio.timeout(seconds):
                given = action.get("tcpSocket") or action["grpc"]
                _, writer = await asyncio.open_connection(*target.endpoint(given))
            writer.close()
    except TimeoutError:
        return False, f"timed out after {seconds:g}s"
    except (OSError, ValueError, aiohttp.ClientError) as error:
        return False, str(error)
    return True, ""


async def _http(session: aiohttp.ClientSession, get: Obj, target: Target, seconds: float) -> tuple[bool, str]:
    host, port = target.endpoint(get)
    url = f"{get.get('scheme', 'HTTP').lower()}://{host}:{port}/{get.get('path', '/').removeprefix('/')}"
    headers = {"User-Agent": "kube-probe/1.36", "Accept": "*/*"}
    headers |= {one["name"]: one["value"] for one in get.get("httpHeaders") or []}
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with session.get(url, headers=headers, timeout=timeout, ssl=False) as response:
            good = 200 <= response.status < 400
            return good, "" if good else f"HTTP probe failed with statuscode: {response.status}"
    except aiohttp.ClientError as error:
        return False, f'Get "{url}": {error}'
