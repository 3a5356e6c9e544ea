"""Parts that stand alone against any API server, and pods in network namespaces, which real API servers need."""

import asyncio
import ipaddress
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from waiting import eventually

from model_sandbox.client import Connection, read_kubeconfig
from model_sandbox.controllers import scheduler
from model_sandbox.controllers.base import run
from model_sandbox.testing import sandbox

SPACE = "/namespaces/default"
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["NAME"].encode())
    def log_message(self, *arguments):
        pass
print("listening", flush=True)
http.server.ThreadingHTTPServer((sys.argv[1], 8080), Handler).serve_forever()
"""
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
IMAGE = f"python={sys.executable} -c"


@asynccontextmanager
async def part(*words: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m model_sandbox WORDS...`, ended on exit."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "model_sandbox", *words, **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def template(name: str, *arguments: str, policy: str = "Always") -> Any:
    container = {
        "name": "main",
        "image": "python",
        "args": list(arguments),
        "env": [{"name": "NAME", "value": name}],
    }
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"restartPolicy": policy, "terminationGracePeriodSeconds": 0, "containers": [container]},
    }


async def logged(api: Any, pod: str) -> str:
    """The log of a pod, once there is one."""

    async def look() -> str:
        async with api.session.get(f"{api.url}/api/v1{SPACE}/pods/{pod}/log") as response:
            return await response.text() if response.status == 200 else ""

    return str(await eventually(look))


async def test_controllers_and_a_node_join_another_api_server(api_of: Any, tmp_path: Path) -> None:
    async with sandbox() as server:
        connection = Connection(server.url, server.token)
        scheduling = asyncio.create_task(run(connection, scheduler.run))
        where = ("--kubeconfig", str(server.kubeconfig))
        api = api_of(server)
        try:
            async with (
                part("controllers", *where),
                part("node", *where, "--name", "joined", "--state", str(tmp_path / "node"), "--image", IMAGE),
            ):

                async def node() -> Any:
                    code, body = await api.send("GET", f"{NODES}/joined")
                    return body if code == 200 and "capacity" in body.get("status", {}) else None

                status = (await eventually(node))["status"]
                assert status["capacity"]["cpu"] == str(os.cpu_count())
                assert {one["type"]: one["status"] for one in status["conditions"]} == {"Ready": "True"}

                async def heartbeat() -> Any:
                    code, body = await api.send("GET", f"{LEASES}/joined")
                    return body["spec"] if code == 200 else None

                lease = await eventually(heartbeat)
                assert (lease["holderIdentity"], lease["leaseDurationSeconds"]) == ("joined", 40)

                body = {
                    "metadata": {"name": "web"},
                    "spec": {
                        "replicas": 2,
                        "selector": {"matchLabels": {"app": "web"}},
                        "template": template("web", SERVER, "0.0.0.0"),
                    },
                }
                await api.send("POST", f"/apis/apps/v1{SPACE}/deployments", body)

                async def ready() -> bool:
                    _, found = await api.send("GET", f"/apis/apps/v1{SPACE}/deployments/web")
                    return found.get("status", {}).get("readyReplicas") == 2

                await eventually(ready)
                _, pods = await api.send("GET", f"/api/v1{SPACE}/pods")
                assert {pod["spec"]["nodeName"] for pod in pods["items"]} == {"joined"}
                assert await logged(api, pods["items"][0]["metadata"]["name"]) == "listening\n"
        finally:
            scheduling.cancel()
            await asyncio.gather(scheduling, return_exceptions=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param([], "Give --kubeconfig FILE", id="no kubeconfig"),
        pytest.param(["--kubeconfig", "/nowhere"], "cannot read /nowhere: No such", id="none that can be read"),
    ],
)
async def test_a_part_says_which_api_server_it_lacks(words: list[str], told: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    async with part("scheduler", *words, env=environment, stderr=asyncio.subprocess.PIPE) as process:
        _, text = await process.communicate()
    assert process.returncode == 1
    assert told in text.decode()
    assert b"Traceback" not in text


def left_of(bridge: str) -> list[str]:
    """Interfaces and namespaces of a network."""
    found = [*Path("/sys/class/net").glob(f"{bridge}*"), *Path("/run").glob(f"netns/{bridge}*")]
    return [path.name for path in found]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="namespaces need root and iproute2")
async def test_pods_in_namespaces_reach_each_other_and_leave_nothing(tmp_path: Path) -> None:
    words = ("up", "--network", "netns", "--image", IMAGE, "--state", str(tmp_path), "--exit-with-parent")
    async with (
        part(*words, stdout=asyncio.subprocess.PIPE) as process,
        aiohttp.ClientSession() as session,
    ):
        assert process.stdout is not None
        while b"KUBECONFIG" not in (line := await process.stdout.readline()):
            assert line, "the sandbox ended"
        url = read_kubeconfig(tmp_path / "kubeconfig").url

        async def send(method: str, path: str, body: Any = None) -> Any:
            async with session.request(method, f"{url}/api/v1{SPACE}{path}", json=body) as response:
                return await response.json(content_type=None)

        # Both have the port of their own namespace, bound to all addresses.
        for name in ("one", "two"):
            await send("POST", "/pods", template(name, SERVER, "0.0.0.0"))
            body = {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 8080}]}}
            await send("POST", "/services", body)

        async def address(name: str) -> str:
            return str((await send("GET", f"/services/{name}"))["spec"]["clusterIP"])

        async def answer() -> str:
            try:
                async with session.get(f"http://{await address('one')}:8080/") as response:
                    return await response.text()
            except aiohttp.ClientError:
                return ""

        assert await eventually(answer) == "one"
        pods = [await send("GET", f"/pods/{name}") for name in ("one", "two")]
        addresses = [ipaddress.ip_address(pod["status"]["podIP"]) for pod in pods]
        assert len(set(addresses)) == 2
        assert all(one.is_private and not one.is_loopback for one in addresses)

        asked = f"http://{await address('two')}:8080/"
        await send("POST", "/pods", template("asker", ASK, asked, policy="OnFailure"))

        async def told() -> str:
            async with session.get(f"{url}/api/v1{SPACE}/pods/asker/log") as response:
                text = await response.text()
                return text if response.status == 200 and "two" in text else ""

        assert (await eventually(told)).endswith("two\n")

        [space] = [name for name in left_of("mds") if name.endswith(f"-{int(addresses[0]) & 0xFFFF:04x}")]
        bridge = space.partition("-")[0]
        process.send_signal(signal.SIGKILL)
        await process.wait()

        async def nothing_left() -> bool:
            return not left_of(bridge)

        await eventually(nothing_left)


@pytest.mark.skipif(not shutil.which("unshare"), reason="privileges are dropped by unshare (util-linux)")
async def test_without_privileges_it_is_said_what_is_missing() -> None:
    command = ("unshare", "--user", sys.executable, "-m", "model_sandbox", "up", "--network", "netns")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, told = await process.communicate()
    assert process.returncode == 1
    assert b"--network netns needs root" in told
