"""A status that somebody else wrote, or that came back from a backup, harms its own resource alone."""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rollout_actions import GOOD, NEXT, live, spec, storage
from rollout_world import (
    STATUS,
    CountingPods,
    GivenActivators,
    GivenHooks,
    GivenPredictions,
    GivenReplays,
    GivenValues,
    World,
)

from model_operator.api.activation import FIRST_PORT, Bound, Routes
from model_operator.api.hooks import WebhookEndpoint
from model_operator.api.resource import ObjectKey
from model_operator.api.source import VersionTags
from model_operator.api.version import KIND
from model_operator.engine.concurrency import logged
from model_operator.engine.engine import Engine
from model_operator.engine.reflector import Change
from model_operator.manifests.pods import PodSettings
from model_operator.policy.admission import Admission
from model_operator.ports import ActivatorPod
from model_operator.telemetry import Telemetry
from model_operator.testing import snapshot


def nested(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = {"name": found}
    return found


#: What JSON has, and what a number, a text or an object must not be. Two are such that the types of the definition fit.
ODD: list[Any] = [
    None,
    "NaN",
    "x" * 200_000,
    'a"b\\c\nd',
    -1,
    2**63 - 1,
    float("nan"),
    [],
    [None],
    [{}],
    {"name": None},
    {"canary": "text", "stable": []},
    [{"name": "errors"}, {"name": "errors", "verdict": "Fail", "evidence": "much", "requests": {"canary": None}}],
    [{"name": f"metric-{number}", "verdict": "Fail"} for number in range(5_000)],
    nested(200),
    [nested(900)],
]
#: Parts of which the definition says nothing.
OPEN = {
    "analysis.metrics[]": ("name", "verdict", "rule", "evidence", "failAt", "value", "stableValue", "badRate", "state")
}
assert isinstance(STATUS.schema, Mapping)
FIELDS = STATUS.schema["properties"]
NEIGHBOR = ObjectKey("other", "neighbor")


class NoRegistries:
    async def write(self, address: WebhookEndpoint, namespace: str, wanted: VersionTags) -> None:
        raise NotImplementedError


class ToldActivators(GivenActivators):
    """One activator, which remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.is_installed, self.routes = True, Routes(routes=())

    async def find(self) -> Sequence[ActivatorPod]:
        return (ActivatorPod(address="10.0.0.1", url="http://10.0.0.1", is_ready=True),)

    async def tell(self, url: str, routes: Routes) -> Bound:
        self.routes = routes
        return Bound(ports=())


class Operator:
    """The whole engine, without watches: what they would bring is handed to it."""

    def __init__(self, world: World) -> None:
        self.cluster, settings, self.telemetry = world.cluster, PodSettings(image="server"), Telemetry()
        self.activators = ToldActivators()
        self.engine = Engine(
            cluster=self.cluster,
            sources=[],
            pods=CountingPods(),
            predictions=GivenPredictions(),
            replays=GivenReplays(),
            values=GivenValues(),
            hooks=GivenHooks(),
            activators=self.activators,
            registries=NoRegistries(),
            clock=world.clock,
            settings=settings,
            admission=Admission(settings=settings),
            telemetry=self.telemetry,
            identity="test",
        )
        for body in list(self.cluster.objects.values()):
            self._hand_on(snapshot(body), Change.LISTED)

    def forge(self, saved: Mapping[Any, Mapping[str, Any]], key: ObjectKey, status: Any) -> None:
        """Bring everything back as it was, but for a status, as watches tell it."""
        for identity in self.cluster.objects.keys() - saved.keys():
            self._hand_on(snapshot(self.cluster.objects.pop(identity)), Change.DELETED)
        for identity, old in saved.items():
            body = snapshot(old)
            self.cluster.version += 1
            body["metadata"]["resourceVersion"] = str(self.cluster.version)
            if identity == (KIND, *key):
                body["status"] = status
            self.cluster.objects[identity] = body
            self._hand_on(snapshot(body), Change.CHANGED)

    def _hand_on(self, body: Any, change: Change) -> None:
        with logged("taking it"):  # as a reflector does
            (self.engine.changed if body["kind"] == KIND else self.engine.child_changed)(body, change)

    async def turn(self) -> None:
        """Let the workers and every poller do what is due."""
        engine = self.engine
        for _ in range(100):
            await asyncio.sleep(0)
        for poller in (
            engine.evidence,
            engine.starts,
            engine.gatekeeper,
            engine.replayer,
            engine.retrainer,
            engine.registry_writer,
        ):
            await poller.poll()
        for _ in range(20):
            await asyncio.sleep(0)

    def series(self) -> set[tuple[str, str]]:
        """Return names of families, and the resources that they show, as Prometheus reads them."""
        text = self.telemetry.expose().decode()
        return {
            (sample.name, sample.labels["name"])
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if "name" in sample.labels
        }


def paths(schema: Mapping[str, Any], where: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every field of a schema; `[]` is the first entry of a list."""
    yield where
    for name, inner in schema.get("properties", {}).items():
        yield from paths(inner, (*where, name))
    if "items" in schema:
        yield from paths(schema["items"], (*where, "[]"))
        for name in OPEN.get(".".join((*where, "[]")).replace(".[]", "[]"), ()):
            yield (*where, "[]", name)


def forged(status: Any, path: tuple[str, ...], value: Any) -> Any:
    """Return a status with a value at a path; what leads there is made."""
    if not path:
        return value
    if path[0] == "[]":
        entries = status if isinstance(status, list) and status else [{}]
        return [forged(entries[0], path[1:], value), *entries[1:]]
    base = status if isinstance(status, dict) else {}
    return {**base, path[0]: forged(base.get(path[0]), path[1:], value)}


async def rollout() -> tuple[World, ObjectKey]:
    """A canary that is judged and waits for people, and a neighbor of another team."""
    world = World()
    steps = [{"setWeight": 50}, {"pause": {}}]
    key = await live(world, {"canary": {"steps": steps, "analysis": {"metrics": [{"name": "errors", "fail": {}}]}}})
    hooks = {
        "gates": [{"name": "window", "url": "http://window.example", "before": ["Promotion"]}],
        "retrain": {"url": "http://train.example", "drift": True},
        "registry": {"url": "http://registry.example"},
    }
    world.cluster.change(key, lambda body: body["spec"].update(hooks=hooks))
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    assert world.status(key)["phase"] == "Paused", world.status(key)["message"]
    world.cluster.before_write = world.cluster.after_write = lambda *_: None  # what the world checks is of one model
    world.cluster.create(NEIGHBOR.name, spec(GOOD, {"rollingUpdate": {}}), NEIGHBOR.namespace)
    return world, key


@pytest.mark.parametrize("field", sorted(FIELDS))
async def test_a_forged_status_harms_no_other_resource(field: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    world, key = await rollout()
    metric = {"name": "errors", "verdict": "Undecided", "requests": {"canary": 93, "stable": 771}, "evidence": 1.3}
    revision = world.status(key)["canaryRevision"]
    honest = {**world.status(key), "analysis": {"revision": revision, "phase": "Running", "metrics": [metric]}}
    saved = dict(world.cluster.objects)
    operator = Operator(world)
    working = asyncio.create_task(operator.engine.work())
    for path in paths(FIELDS[field], (field,)):
        for value in ODD:
            operator.forge(saved, key, forged(honest, path, value))
            await operator.turn()
            # Whatever a pass made of it: what an operator of another version would take it for.
            operator.telemetry.observe(key, {"status": forged(honest, path, value)})
            assert NEIGHBOR.name.encode() in operator.telemetry.expose(), (path, value)
            assert not working.done(), (path, value)
        assert ("modeldeploy_operator_phase", NEIGHBOR.name) in operator.series(), path
    assert len(operator.telemetry.expose()) < 2 * 2**20
    operator.cluster.change(NEIGHBOR, lambda body: body["spec"].update(replicas=3))
    operator.engine.changed(snapshot(operator.cluster.get(KIND, NEIGHBOR)), Change.CHANGED)
    await operator.turn()
    replicas = [
        one["spec"]["replicas"]
        for one in world.cluster.of_kind("Deployment")
        if one["metadata"]["namespace"] == "other"
    ]
    assert replicas == [3], "the neighbor is looked after"
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    operator.engine.queue.close()


async def test_a_long_message_is_not_told_to_activators_which_take_the_routes_of_all_in_one_request() -> None:
    world, key = await rollout()
    operator = Operator(world)
    sleeping = {**world.status(key), "phase": "Degraded", "message": "x" * 1_000_000, "sleep": {"port": FIRST_PORT}}
    operator.forge(dict(world.cluster.objects), key, sleeping)
    working = asyncio.create_task(operator.engine.activation.run())
    await operator.turn()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    (route,) = operator.activators.routes.routes
    assert 0 < len(route.problem) < 5_000
    operator.engine.queue.close()
