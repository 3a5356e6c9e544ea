"""A model that sleeps and is woken, in virtual time: what is written, in which order, and after each death."""

from typing import Any

import pytest
from rollout_actions import BAD, BROKEN, GATEWAY, GOOD, NEXT, at_phase, fall_asleep, sleeper, storage
from rollout_world import World

from model_operator.api.resource import ObjectKey
from model_operator.api.values import replace
from model_operator.clients.metrics_page import Sample


def world_with_activators() -> World:
    world = World()
    world.activators.is_installed = True
    world.activators.endpoints = ("10.0.0.7", "10.0.0.8")
    return world


async def asleep(world: World, **more: Any) -> ObjectKey:
    key = world.cluster.create("fraud", sleeper(**more))
    await fall_asleep(world, key)
    return key


def replicas(world: World) -> list[int]:
    return [one["spec"]["replicas"] for one in world.cluster.of_kind("Deployment")]


async def test_the_activators_are_endpoints_before_the_pods_go() -> None:
    world = world_with_activators()
    key = await asleep(world)
    (written,) = world.cluster.of_kind("EndpointSlice")
    assert written["metadata"]["labels"]["kubernetes.io/service-name"] == "fraud"
    assert [one["addresses"] for one in written["endpoints"]] == [["10.0.0.7"], ["10.0.0.8"]]
    assert written["ports"] == [{"name": "http", "port": world.status(key)["sleep"]["port"], "protocol": "TCP"}]
    assert replicas(world) == [0]
    assert world.cluster.of_kind("HorizontalPodAutoscaler") == []
    order = [line for line in world.log if "EndpointSlice" in line or "Deployment" in line]
    assert "EndpointSlice" in order[-2]


async def test_a_request_wakes_it_whenever_the_operator_dies() -> None:
    world = world_with_activators()
    key = await asleep(world)
    world.activators.held = 3
    world._with_deaths = True
    await world.run(key, until=at_phase("Healthy"))
    assert world.deaths > 0
    assert replicas(world) == [1]
    assert len(world.cluster.of_kind("EndpointSlice")) == 1, "a node may not know the pod yet"
    await world.turn(key, 12)
    assert world.cluster.of_kind("EndpointSlice") == []
    assert len(world.cluster.of_kind("HorizontalPodAutoscaler")) == 1


async def test_what_activators_listen_is_kept_until_they_have_answered_a_new_operator() -> None:
    world = world_with_activators()
    key = await asleep(world)
    world.activators.endpoints = None
    world.start_operator()
    await world.operate(key)
    (written,) = world.cluster.of_kind("EndpointSlice")
    assert len(written["endpoints"]) == 2
    world.activators.endpoints = ()
    await world.operate(key)
    (written,) = world.cluster.of_kind("EndpointSlice")
    assert written["endpoints"] == []


@pytest.mark.parametrize("uri", [pytest.param(NEXT, id="a good one"), pytest.param(BAD, id="one that cannot start")])
async def test_a_new_version_wakes_stable_first_and_then_is_rolled_out(uri: str) -> None:
    world = world_with_activators()
    world.cluster.behaviours[BAD] = BROKEN
    key = await asleep(world)
    stable = world.status(key)["stableRevision"]
    world.cluster.change(key, storage(uri))
    seen = len(world.reached)
    await world.run(key, until=lambda world: world.status(key)["phase"] in ("Degraded", "Sleeping"))
    phases = [phase for phase, _ in world.reached[seen:]]
    assert phases[:2] == ["Waking", "Promoting"]
    assert phases[-1] == ("Sleeping" if uri == NEXT else "Degraded")
    assert (world.status(key)["stableRevision"] == stable) is (uri == BAD)


@pytest.mark.parametrize(
    ("server", "ports"),
    [
        pytest.param({"grpcPort": 9000}, {"http": 0, "grpc": -10_000}, id="gRPC"),
        pytest.param({"tls": {"secretName": "fraud-tls"}}, {"https": 0}, id="TLS"),
        pytest.param(
            {"tls": {"secretName": "fraud-tls"}, "grpcPort": 9000}, {"https": 0, "grpc": -10_000}, id="gRPC over TLS"
        ),
    ],
)
async def test_activators_take_what_the_service_takes(server: dict[str, Any], ports: dict[str, int]) -> None:
    world = world_with_activators()
    key = await asleep(world, server=server)
    (written,) = world.cluster.of_kind("EndpointSlice")
    base = world.status(key)["sleep"]["port"]
    assert {one["name"]: one["port"] - base for one in written["ports"]} == ports
    (service,) = (one for one in world.cluster.of_kind("Service") if one["metadata"]["name"] == "fraud")
    assert {one["name"] for one in service["spec"]["ports"]} == set(ports)


async def test_with_a_router_the_service_of_stable_has_the_activators_too() -> None:
    world = world_with_activators()
    strategy = {"canary": {"steps": [{"setWeight": 50}], "trafficRouting": GATEWAY}}
    key = await asleep(world, strategy=strategy)
    stable = world.status(key)["stableRevision"]
    services = {
        one["metadata"]["labels"]["kubernetes.io/service-name"] for one in world.cluster.of_kind("EndpointSlice")
    }
    assert services == {"fraud", f"fraud-{stable}"}


async def test_without_an_activator_it_keeps_its_pod_and_says_what_to_set() -> None:
    world = World()
    key = world.cluster.create("fraud", sleeper())
    await world.run(key, until=at_phase("Healthy"))
    world.pods.samples[world.status(key)["stableRevision"]] = Sample(model=None, requests=7, errors=0)
    await world.evidence.poll()
    await world.turn(key, 90)
    found = next(one for one in world.status(key)["conditions"] if one["type"] == "ActivatorReady")
    assert (found["status"], found["reason"]) == ("False", "NotInstalled")
    assert "activator.enabled" in found["message"]
    assert replicas(world) == [1]


@pytest.mark.parametrize(
    ("first", "then", "phase"),
    [
        pytest.param({}, {}, "Sleeping", id="silence"),
        pytest.param({}, {"requests": 8}, "Healthy", id="a prediction"),
        pytest.param({}, {"explanations": 1}, "Healthy", id="an explanation"),
        pytest.param({"in_flight": 1}, {"in_flight": 1}, "Healthy", id="a prediction that takes its time"),
    ],
)
async def test_what_keeps_it_awake(first: dict[str, Any], then: dict[str, Any], phase: str) -> None:
    world = world_with_activators()
    key = world.cluster.create("fraud", sleeper())
    await world.run(key, until=at_phase("Healthy"))
    revision = world.status(key)["stableRevision"]
    for counted in (first, then):
        world.pods.samples[revision] = replace(Sample(model=None, requests=7, errors=0), **counted)
        await world.evidence.poll()
        await world.turn(key, 40)
    assert world.status(key)["phase"] == phase


async def test_a_schedule_that_never_comes_is_named_in_the_status() -> None:
    world = world_with_activators()
    scaling = {
        "minReplicas": 0,
        "maxReplicas": 1,
        "idleAfter": "1m",
        "wakeAt": [{"schedule": "0 7 30 2 *", "for": "1h"}],
    }
    key = world.cluster.create("fraud", sleeper(GOOD, autoscaling=scaling))
    await world.operate(key)
    assert "spec.autoscaling.wakeAt[0].schedule: '0 7 30 2 *'" in world.status(key)["message"]
