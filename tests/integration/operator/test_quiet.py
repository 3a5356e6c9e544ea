"""What goes wrong around the operator is one line of its log, and what is not wrong is none."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from control_planes import control_plane
from free_ports import free_port
from operator_in_cluster import api_of
from rollout_actions import canary, live
from rollout_world import World
from waiting import eventually

from model_operator.clients.kinds import RESOURCE
from model_operator.errors import ApiError

MODEL = {"storageUri": "file:///models/fraud.joblib", "trusted": True}


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class Logged:
    """An operator whose log is read."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode().rstrip())

    async def end(self) -> int:
        if self.process.returncode is None:
            self.process.terminate()
        return await self.process.wait()


async def start(kubeconfig: Path, **settings: object) -> Logged:
    ports = {"METRICS_PORT": free_port(), "HEALTH_PORT": free_port()}
    wanted = {"HOST": "127.0.0.1", "LOG_FORMAT": "text", **ports, **settings}
    environment = {f"MODEL_OPERATOR_{name}": str(value) for name, value in wanted.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "model_operator",
        env={**os.environ, "KUBECONFIG": str(kubeconfig), **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    return Logged(process)


def nowhere(folder: Path) -> Path:
    """A kubeconfig of an API server that is away."""
    file = folder / "kubeconfig"
    body = {
        "current-context": "away",
        "contexts": [{"name": "away", "context": {"cluster": "away"}}],
        "clusters": [{"name": "away", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}],
    }
    file.write_text(yaml.safe_dump(body))
    return file


@pytest.mark.parametrize("setting", ["METRICS_PORT", "HEALTH_PORT"])
async def test_a_port_in_use_is_one_line(tmp_path: Path, taken: int, setting: str) -> None:
    running = await start(nowhere(tmp_path), **{setting: taken})
    await running.read()
    assert await running.process.wait() == 1
    wish = f"set MODEL_OPERATOR_{setting} to another one"
    assert running.lines == [f"model_operator: port {taken} of 127.0.0.1 is in use; {wish}"]


async def test_a_kubeconfig_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text("current-context: x\n")
    running = await start(file)
    await running.read()
    assert await running.process.wait() == 78
    (line,) = running.lines
    assert line.startswith(f"model_operator: the kubeconfig {file} cannot be read: ")


async def test_an_api_server_that_is_away_is_one_line(tmp_path: Path) -> None:
    running = await start(nowhere(tmp_path))
    reading = asyncio.create_task(running.read())

    async def has_spoken() -> bool:
        return bool(running.lines)

    await eventually(has_spoken, "the outage is in the log")
    await asyncio.wait([reading], timeout=3)  # it goes on trying, and says no more of it
    await running.end()
    await reading
    (line,) = running.lines
    assert "does not answer: Cannot connect to host 127.0.0.1" in line


async def test_the_deletion_of_a_namespace_is_no_fault() -> None:
    async with control_plane() as cluster, api_of(cluster) as api:
        running = await start(cluster.kubeconfig)
        reading = asyncio.create_task(running.read())
        await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "ending"}})
        for number in range(5):
            body = {"apiVersion": RESOURCE.api_version, "kind": RESOURCE.kind, "metadata": {"name": f"m{number}"}}
            await api.call("POST", RESOURCE.collection("ending"), {**body, "spec": {"model": MODEL, "replicas": 2}})

        async def is_healthy() -> bool:
            items = (await api.call("GET", RESOURCE.collection("ending")))["items"]
            return all((item.get("status") or {}).get("phase") == "Healthy" for item in items)

        await eventually(is_healthy, "all are healthy")
        await api.call("DELETE", "/api/v1/namespaces/ending")

        async def is_gone() -> bool:
            items = (await api.call("GET", "/api/v1/namespaces"))["items"]
            return all(item["metadata"]["name"] != "ending" for item in items)

        await eventually(is_gone, "the namespace is gone")
        await running.end()
        await reading
    loud = [line for line in running.lines if " INFO " not in line]
    assert loud == []


@pytest.mark.parametrize(
    "refusal",
    [
        ApiError(403, "Forbidden", "it is being terminated", causes=("NamespaceTerminating",)),
        ApiError(404, "NotFound", 'namespaces "default" not found', kind="namespaces"),
    ],
    ids=["being deleted", "gone"],
)
async def test_a_write_into_a_namespace_that_is_being_deleted_is_not_reported_as_refused(refusal: ApiError) -> None:
    world = World()
    key = await live(world, canary(routing=False))
    front = ("Service", "default", key.name)
    del world.cluster.objects[front]

    def refuse(verb: str, _: object) -> None:
        if verb == "apply":
            raise refusal

    world.cluster.before_write = refuse
    world.sync()
    with pytest.raises(ApiError) as raised:
        await world.reconciler.reconcile(key)
    assert raised.value.is_namespace_terminating
    reasons = [world.recorder._queue.get_nowait()["reason"] for _ in range(world.recorder._queue.qsize())]
    assert "ApplyFailed" not in reasons
