"""The operator's side of the activators: what they are told, and what is learnt from them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from waiting import eventually

from model_operator.activator.metrics import Metrics
from model_operator.activator.table import Table
from model_operator.api.activation import FIRST_PORT, Bound, Demand, Route, Routes
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.version import KIND
from model_operator.engine.activation import Activation
from model_operator.engine.cache import Cache
from model_operator.engine.queue import WorkQueue
from model_operator.errors import ProviderError
from model_operator.ports import ActivatorPod

KEY = ObjectKey("shop", "fraud")
URL = "http://10.0.0.7:8082"


class Closed:
    async def stop(self) -> None:
        """Nothing was opened."""


async def listen(route: Route) -> Closed:
    if route.port == 29_999:
        raise OSError("in use")
    return Closed()


def table() -> Table:
    return Table(listen, Metrics(), most_per_model=10, per_pod=2)


class Near:
    """Activators of this process, by URL; one of them may be away."""

    is_installed = True

    def __init__(self) -> None:
        self.tables = {URL: table()}
        self.away: set[str] = set()

    async def find(self) -> Sequence[ActivatorPod]:
        return [ActivatorPod(url.split("/")[2].split(":")[0], url, is_ready=True) for url in self.tables]

    async def tell(self, url: str, routes: Routes) -> Bound:
        return Bound(ports=await self._at(url).apply(routes))

    async def demand(self, url: str, after: int) -> Demand:
        return await self._at(url).demand(after, 0.05)

    def _at(self, url: str) -> Table:
        if url in self.away:
            raise ProviderError("it does not answer")
        return self.tables[url]


class Scene:
    """A cache with models, and the activation that works on it."""

    def __init__(self) -> None:
        self.cache, self.queue, self.near = Cache(), WorkQueue(), Near()
        self.activation = Activation(self.cache, self.queue, self.near)
        self.version = 1

    def put(self, body: dict[str, Any]) -> None:
        self.version += 1
        metadata = {"namespace": "shop", "uid": body["kind"] + body["metadata"]["name"], "generation": 1}
        body["metadata"] = {**metadata, **body["metadata"], "resourceVersion": str(self.version)}
        self.cache.upsert(body)
        self.activation.changed(ObjectKey("shop", body["metadata"]["name"]) if body["kind"] == KIND else KEY)

    def model(self, name: str = "fraud", **status: Any) -> ModelDeployment:
        scaling = {"minReplicas": 0, "maxReplicas": 1, "idleAfter": "15m"}
        spec = {"model": {"storageUri": "s3://models/fraud"}, "autoscaling": scaling}
        body = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name}}
        self.put({**body, "spec": spec, "status": status})
        found = self.cache.get(ObjectKey("shop", name))
        assert found is not None
        return found

    def pod(self, *, ready: bool) -> None:
        labels = {"modeldeploy.dev/name": "fraud"}
        status = {"podIP": "10.0.0.9", "conditions": [{"type": "Ready", "status": str(ready)}]}
        service = {"kind": "Service", "metadata": {"name": "fraud", "labels": labels}, "spec": {"selector": labels}}
        self.put(service)
        self.put({"kind": "Pod", "metadata": {"name": "pod", "labels": labels}, "status": status})


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(
    "forged", [FIRST_PORT, 22, -1, 70_000], ids=["another's", "no activator's", "none", "too high"]
)
async def test_a_port_that_somebody_wrote_into_a_status_leads_nothing_anywhere(scene: Scene, forged: int) -> None:
    async with running(scene):
        scene.model(phase="Healthy", sleep={"port": FIRST_PORT})
        await eventually(lambda: done(scene.near.tables[URL].line(FIRST_PORT)), "the activator has the model")
        forger = scene.model("forger", phase="Sleeping", sleep={"port": forged})
        honest = scene.model("honest", phase="Healthy", sleep={"port": FIRST_PORT + 7})
        await eventually(lambda: done(scene.near.tables[URL].line(FIRST_PORT + 7)), "it goes on to take routes")
        line = scene.near.tables[URL].line(FIRST_PORT)
        assert line is not None
        assert line.route.name == "fraud"
        assert scene.activation.view(forger).port not in (forged, FIRST_PORT, FIRST_PORT + 7)
        assert scene.activation.view(honest).port == FIRST_PORT + 7


async def test_an_activator_is_an_endpoint_as_soon_as_it_listens(scene: Scene) -> None:
    model = scene.model(phase="Healthy", sleep={"port": FIRST_PORT})
    assert scene.activation.view(model).endpoints is None, "nothing is known yet"
    async with running(scene):
        view = await eventually(lambda: done(scene.activation.view(model).endpoints), "it listens")
        assert view == ("10.0.0.7",)
        other = scene.model("other", sleep={"port": 29_999})
        assert scene.activation.view(other).endpoints == (), "the port is in use"


async def test_a_request_brings_the_model_to_the_front_of_the_queue(scene: Scene) -> None:
    model = scene.model(phase="Sleeping", sleep={"port": FIRST_PORT})
    async with running(scene):
        await eventually(lambda: done(scene.activation.view(model).endpoints), "it listens")
        while len(scene.queue):
            scene.queue.done(await scene.queue.get())
        line = scene.near.tables[URL].line(FIRST_PORT)
        assert line is not None
        request = asyncio.create_task(line.enter())
        assert await asyncio.wait_for(scene.queue.get(), 5) == KEY
        assert scene.activation.view(model).held == 1
        scene.pod(ready=False)
        await asyncio.sleep(0.1)
        assert not request.done()
        scene.pod(ready=True)
        assert await asyncio.wait_for(request, 5) == "http://10.0.0.9:8080"
        line.leave("http://10.0.0.9:8080")
        await eventually(lambda: done(scene.activation.view(model).held == 0), "the operator knows that it is over")


async def test_an_activator_that_starts_again_is_told_again(scene: Scene) -> None:
    model = scene.model(phase="Sleeping", sleep={"port": FIRST_PORT})
    async with running(scene):
        await eventually(lambda: done(scene.activation.view(model).endpoints), "it listens")
        scene.near.tables[URL] = fresh = table()
        await eventually(lambda: done(fresh.line(FIRST_PORT)), "it has the routes")


async def test_requests_of_an_activator_that_is_gone_wake_nothing(scene: Scene) -> None:
    model = scene.model(phase="Sleeping", sleep={"port": FIRST_PORT})
    async with running(scene):
        await eventually(lambda: done(scene.activation.view(model).endpoints), "it listens")
        line = scene.near.tables[URL].line(FIRST_PORT)
        assert line is not None
        request = asyncio.create_task(line.enter())
        await eventually(lambda: done(scene.activation.view(model).held), "it is held")
        scene.near.away.add(URL)
        await eventually(lambda: done(scene.activation.view(model).held == 0), "nobody holds it")
        request.cancel()


async def test_those_that_wait_are_told_that_a_model_cannot_start(scene: Scene) -> None:
    scene.model(phase="Degraded", message="ArtifactNotFound: gone", sleep={"port": FIRST_PORT})
    async with running(scene):
        table = scene.near.tables[URL]
        line = await eventually(lambda: done(table.line(FIRST_PORT)), "it has the route")
        assert line.route.problem == "ArtifactNotFound: gone"


@pytest.mark.parametrize(
    ("calls", "port", "tls"),
    [
        pytest.param({"appProtocol": "kubernetes.io/h2c"}, 9000, False, id="plain"),
        pytest.param({}, 9000, True, id="with a certificate"),
        pytest.param(None, 0, False, id="none"),
    ],
)
async def test_activators_are_told_of_the_port_for_grpc(
    scene: Scene, calls: dict[str, Any] | None, port: int, tls: bool
) -> None:
    ports: list[dict[str, Any]] = [{"name": "http", "port": 80}]
    if calls is not None:
        ports.append({"name": "grpc", "port": 9000, **calls})
    labels = {"modeldeploy.dev/name": "fraud"}
    service = {"kind": "Service", "metadata": {"name": "fraud", "labels": labels}, "spec": {"ports": ports}}
    scene.model(phase="Sleeping", sleep={"port": FIRST_PORT})
    scene.put(service)
    async with running(scene):
        line = await eventually(lambda: done(scene.near.tables[URL].line(FIRST_PORT)), "it has the route")
        assert (line.route.grpc_port, line.route.grpc_tls) == (port, tls)
        assert line.route.grpc_listening == FIRST_PORT - 10_000


def test_each_model_has_a_port_of_its_own_for_good(scene: Scene) -> None:
    first = scene.model("first", sleep={"port": FIRST_PORT + 1})
    second, third = scene.model("second"), scene.model("third")
    ports = [scene.activation.view(one).port for one in (first, second, third, second)]
    assert ports == [FIRST_PORT + 1, FIRST_PORT, FIRST_PORT + 2, FIRST_PORT]


@asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[None]:
    """The exchange with the activators, until the context ends."""
    task = asyncio.create_task(scene.activation.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def done(value: Any) -> Any:
    return value
