"""kubectl and plain HTTP against a sandbox in the test's own process."""

import asyncio
import io
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

Kubectl = Callable[..., Awaitable[str]]


class Api:
    """Plain HTTP requests with the administrator's token."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def send(self, method: str, path: str, body: Any = None, media: str = "application/json") -> tuple[int, Any]:
        text = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        data = io.BytesIO(text) if text else None
        headers = {"Content-Type": media}
        async with self.session.request(method, self.url + path, data=data, headers=headers) as response:
            return response.status, await response.json(content_type=None)


@pytest.fixture
async def api_of() -> AsyncIterator[Callable[[Any], Api]]:
    sessions = []

    def make(server: Any) -> Api:
        session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.token}"})
        sessions.append(session)
        return Api(session, server.url)

    yield make
    for session in sessions:
        await session.close()


@pytest.fixture
def kubectl_of(tmp_path: Path) -> Callable[[Path], Kubectl]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")

    def make(kubeconfig: Path) -> Kubectl:
        async def kubectl(*arguments: str, stdin: str = "", fails: bool = False) -> str:
            environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(kubeconfig)}
            process = await asyncio.create_subprocess_exec(
                "kubectl",
                *arguments,
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 40)
            text = output.decode()
            assert (process.returncode != 0) is fails, f"kubectl {' '.join(arguments)}: {text}"
            return text

        return kubectl

    return make
