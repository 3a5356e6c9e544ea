"""Specs, versions and actions of users for rollouts in a `World`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from rollout_world import World

from model_operator.api.names import REVISION
from model_operator.api.resource import ObjectKey
from model_operator.clients.metrics_page import Sample
from model_operator.testing import Behaviour

GOOD, NEXT, THIRD, BAD, SLOW = (f"s3://models/{name}" for name in ("good", "next", "third", "bad", "slow"))


BROKEN = Behaviour(
    ready_after=None,
    restarts=1,
    termination={"reason": "ArtifactNotFound", "message": "no such object", "hint": "look", "permanent": True},
)


GATEWAY = {"gatewayAPI": {"parentRefs": [{"name": "public"}]}, "propagationSeconds": 2}


STEPS = [{"setWeight": 5}, {"pause": {"duration": "10s"}}, {"setWeight": 25}, {"setWeight": 50}]


def canary(routing: bool, **more: Any) -> dict[str, Any]:
    body = {"steps": STEPS, "maxSurge": 1, "scaleDownDelaySeconds": 3, "abortScaleDownDelaySeconds": 3, **more}
    return {"canary": {**body, **({"trafficRouting": GATEWAY} if routing else {})}}


def spec(uri: str, strategy: dict[str, Any], replicas: int = 2, **more: Any) -> dict[str, Any]:
    return {
        "model": {"storageUri": uri},
        "replicas": replicas,
        "strategy": strategy,
        "progressDeadlineSeconds": 60,
        **more,
    }


Story = Callable[[World, dict[str, Any]], Awaitable[ObjectKey]]


@dataclass(frozen=True)
class Scenario:
    """A story, the phase in which it ends, and the storage URI that serves then."""

    story: Story
    phase: str
    serves: str
    strategies: tuple[str, ...] = ("ratio", "gateway")


async def live(world: World, strategy: dict[str, Any], **more: Any) -> ObjectKey:
    """A first model, up and healthy."""
    world.cluster.behaviours[BAD] = BROKEN
    world.cluster.behaviours[SLOW] = Behaviour(ready_after=None)
    key = world.cluster.create("fraud", spec(GOOD, strategy, **more))
    await world.run(key)
    assert world.status(key)["phase"] == "Healthy", world.status(key)
    return key


def storage(uri: str) -> Callable[[dict[str, Any]], None]:
    def patch(body: dict[str, Any]) -> None:
        body["spec"]["model"]["storageUri"] = uri

    return patch


def annotate(world: World, key: ObjectKey, token: str, value: str) -> None:
    world.cluster.change(key, lambda body: body["metadata"]["annotations"].update({f"modeldeploy.dev/{token}": value}))


def at_weight(percent: int) -> Callable[[World], bool]:
    def holds(world: World) -> bool:
        (resource,) = world.cluster.of_kind("ModelDeployment")
        applied = (resource.get("status") or {}).get("weights", {}).get("applied", -1)
        return bool(applied >= percent if percent else applied == 0)

    return holds


def at_phase(*phases: str) -> Callable[[World], bool]:
    def holds(world: World) -> bool:
        (resource,) = world.cluster.of_kind("ModelDeployment")
        return (resource.get("status") or {}).get("phase") in phases

    return holds


def replicas_of(world: World, key: ObjectKey) -> dict[str, int]:
    """Return the pods that live revisions have, by the part they play."""
    parts = {world.status(key).get(part): part for part in ("stableRevision", "canaryRevision")}
    return {
        parts.get(body["metadata"]["labels"][REVISION], "kept"): body["spec"]["replicas"]
        for body in world.cluster.of_kind("Deployment")
        if body["spec"]["replicas"]
    }


def strategy_of(kind: str) -> dict[str, Any]:
    if kind == "ratio":
        return canary(routing=False)
    if kind == "gateway":
        return canary(routing=True)
    if kind == "abTest":
        return {"abTest": {"metric": "conversion", "minimumSampleSize": 1000, "trafficRouting": GATEWAY}}
    return {kind: {}}


def sleeper(uri: str = GOOD, **more: Any) -> dict[str, Any]:
    """A model that sleeps after a minute without a request."""
    body = {**spec(uri, {"rollingUpdate": {}}), "autoscaling": {"minReplicas": 0, "maxReplicas": 3, "idleAfter": "1m"}}
    del body["replicas"]
    return {**body, **more}


async def fall_asleep(world: World, key: ObjectKey) -> None:
    """Let a model serve until nothing asks it any more, and let its pods go."""
    await world.run(key, until=at_phase("Healthy"))
    world.pods.samples[world.status(key)["stableRevision"]] = Sample(model=None, requests=7, errors=0)
    await world.evidence.poll()
    await world.run(key, until=at_phase("Sleeping"))
    await world.turn(key, 3)
