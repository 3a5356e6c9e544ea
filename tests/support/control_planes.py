"""The API server that integration tests of the operator run on: the sandbox's, or a real one.

With KUBEBUILDER_ASSETS set to a folder with `etcd` and `kube-apiserver`, a real control plane is started;
the sandbox's controllers and its node (pods are Ready as soon as they exist) work on it through its API.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import yaml
from free_ports import free_port
from waiting import eventually

from model_sandbox.client import Connection
from model_sandbox.controllers import manager, scheduler
from model_sandbox.controllers.base import run as run_parts
from model_sandbox.node import kubelet
from model_sandbox.node.host import NodeSettings
from model_sandbox.testing import sandbox


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where it is, and how an administrator reaches it."""

    url: str
    token: str
    kubeconfig: Path
    tls: ssl.SSLContext | bool = True


@asynccontextmanager
async def control_plane() -> AsyncIterator[ControlPlane]:
    """A control plane with controllers and instant pods, until the context ends."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        async with real(Path(assets)) as plane:
            yield plane
        return
    async with sandbox(pods="instant", controllers=True) as plane:
        yield ControlPlane(plane.url, plane.token, plane.kubeconfig)


@asynccontextmanager
async def real(assets: Path) -> AsyncIterator[ControlPlane]:
    """A real etcd and kube-apiserver on loopback, with the sandbox's controllers and node."""
    if not shutil.which("openssl"):
        pytest.fail("a real kube-apiserver needs a key for its ServiceAccounts: install openssl")
    with tempfile.TemporaryDirectory(prefix="control-plane-") as name, contextlib.ExitStack() as stack:
        folder, token = Path(name), secrets.token_hex(16)
        (folder / "tokens").write_text(f"{token},admin,1,system:masters\n")
        await run("openssl", "genrsa", "-out", folder / "key", "2048")
        store, peer, port = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}", free_port()
        processes = [
            await asyncio.create_subprocess_exec(
                assets / "etcd",
                *("--data-dir", folder / "etcd", "--log-level", "error"),
                *("--listen-client-urls", store, "--advertise-client-urls", store, "--listen-peer-urls", peer),
            ),
            await asyncio.create_subprocess_exec(
                assets / "kube-apiserver",
                *("--etcd-servers", store, "--bind-address", "127.0.0.1", "--secure-port", str(port)),
                *("--cert-dir", folder, "--token-auth-file", folder / "tokens", "--authorization-mode", "RBAC"),
                *("--service-account-key-file", folder / "key", "--service-account-signing-key-file", folder / "key"),
                *("--service-account-issuer", "https://kubernetes.default.svc"),
                *("--service-cluster-ip-range", "10.96.0.0/16"),
                stderr=asyncio.subprocess.DEVNULL,
            ),
        ]
        for process in processes:
            stack.callback(process.terminate)
        url = f"https://127.0.0.1:{port}"
        await until_ready(url, token)
        plane = ControlPlane(url, token, folder / "kubeconfig", tls=unverified())
        plane.kubeconfig.write_text(kubeconfig(url, token))
        connection = Connection(url, token, plane.tls)
        settings = NodeSettings(state=folder / "node", instant=True, images={}, backoff=10.0)
        running = asyncio.create_task(run_parts(connection, manager.run, scheduler.run, partial(kubelet.run, settings)))
        try:
            yield plane
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def unverified() -> ssl.SSLContext:
    """The server signs its own certificate; it is on this machine."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def until_ready(url: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    connector = aiohttp.TCPConnector(ssl=unverified())
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

        async def is_ready() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/readyz") as response:
                    return response.status == 200
            return False

        await eventually(is_ready, f"the API server at {url} is ready")


async def run(*command: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0, command


def kubeconfig(url: str, token: str) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    return yaml.safe_dump(config)
