"""Scenarios of a rollout's surroundings: size, router, labels, autoscaler, labelled data."""

from typing import Any

from rollout_actions import (
    GATEWAY,
    GOOD,
    NEXT,
    Scenario,
    Story,
    annotate,
    at_phase,
    at_weight,
    live,
    replicas_of,
    storage,
)
from rollout_world import World
from version_scenarios import good

from model_operator.api.names import REVISION
from model_operator.api.resource import ObjectKey
from model_operator.testing import Behaviour, is_pod_ready


async def scaled_in_the_middle(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(25))
    world.cluster.change(key, lambda body: body["spec"].update(replicas=5))
    await world.run(key)
    return key


async def foreign_write(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(25))
    world.cluster.overwrite("HTTPRoute", key, lambda body: body["spec"]["rules"][-1]["backendRefs"][0].update(weight=1))
    await world.operate(key)
    backends = world.cluster.get("HTTPRoute", key)["spec"]["rules"][-1]["backendRefs"]
    assert [backend["weight"] for backend in backends] == [75, 25]
    await world.run(key)
    return key


async def route_kind_vanishes(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(25))
    route = world.cluster.objects.pop(("HTTPRoute", *key))
    world.cluster.missing_kinds.add("HTTPRoute")
    await world.run(key, until=at_phase("Paused"))
    assert world.status(key)["pauseConditions"][0]["reason"] == "RouterMissing"
    del route
    world.cluster.missing_kinds.clear()
    await world.run(key)
    return key


async def gateway_refuses(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.gateways_accept = False
    world.cluster.tick()
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    assert world.status(key)["pauseConditions"][0]["reason"] == "RouteNotProgrammed"
    world.cluster.gateways_accept = True
    annotate(world, key, "promote", world.status(key)["canaryRevision"])
    await world.run(key)
    return key


async def routing_is_removed_and_returns(world: World, strategy: dict[str, Any]) -> ObjectKey:
    """The split changes between requests and pods while a canary waits for a user."""
    strategy["canary"]["steps"] = [{"setWeight": 50}, {"pause": {}}]
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    stable, canary = (world.status(key)[part] for part in ("stableRevision", "canaryRevision"))

    def front() -> str | None:
        selected: str | None = world.cluster.get("Service", key)["spec"]["selector"].get(REVISION)
        return selected

    assert front() == stable
    world.cluster.change(key, lambda body: body["spec"]["strategy"]["canary"].pop("trafficRouting"))
    await world.run(key)
    assert front() is None, "the number of pods is the split"
    world.cluster.change(key, lambda body: body["spec"]["strategy"]["canary"].update(trafficRouting=GATEWAY))
    await world.run(key)
    assert front() == stable, "who does not use the router reaches stable alone"
    assert world.status(key)["weights"]["applied"] == 50
    annotate(world, key, "promote", f"{canary}@1")
    await world.run(key)
    return key


async def header_and_mirror(world: World, strategy: dict[str, Any]) -> ObjectKey:
    strategy["canary"]["steps"] = [
        {"setMirrorRoute": {"percentage": 20}},
        {"setHeaderRoute": {"match": [{"headerName": "x-canary", "headerValue": {"exact": "1"}}]}},
        {"setWeight": 50},
    ]
    return await good(world, strategy)


async def autoscaled(world: World, strategy: dict[str, Any]) -> ObjectKey:
    """The autoscaler asks for other numbers before, during and after the rollout."""
    world.cluster.autoscalers_wish = 4
    key = await live(world, strategy, autoscaling={"minReplicas": 2, "maxReplicas": 6})
    assert replicas_of(world, key) == {"stableRevision": 4}
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Progressing", "Promoting"))
    world.cluster.autoscalers_wish = 9
    await world.run(key)
    assert replicas_of(world, key) == {"stableRevision": 6}, "the autoscaler's wish, within its bounds"
    (autoscaler,) = world.cluster.of_kind("HorizontalPodAutoscaler")
    assert autoscaler["spec"]["minReplicas"] == 2
    world.cluster.autoscalers_wish = 1
    await world.run(key)
    assert replicas_of(world, key) == {"stableRevision": 2}
    return key


async def relabelled(world: World, strategy: dict[str, Any]) -> ObjectKey:
    """The labels of all objects come, change and go while the rollout is on its way."""
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    for labels in ({"team": "risk"}, {"team": "fraud", "cost-center": "7"}, {}):
        await world.turn(key, 4)
        assert world.status(key).get("canaryRevision"), "the rollout is on its way"
        patch = {"commonLabels": labels, "commonAnnotations": labels}
        world.cluster.change(key, lambda body, patch=patch: body["spec"].update(patch))  # type: ignore[misc]
        await world.operate(key)
        for body in (*world.cluster.of_kind("Deployment"), *world.cluster.of_kind("Service")):
            for found in (body["metadata"]["labels"], body["metadata"]["annotations"]):
                assert {name: found[name] for name in ("team", "cost-center") if name in found} == labels
    await world.run(key)
    return key


async def without_surge(world: World, strategy: dict[str, Any]) -> ObjectKey:
    """No room for one more pod: each new one takes the place of an old one, and one at most is missing."""
    strategy["canary"].update(maxSurge=0, maxUnavailable=1)
    key = await live(world, strategy, replicas=4)
    world.cluster.change(key, storage(NEXT))

    def within_bounds(world: World) -> bool:
        pods = world.cluster.of_kind("Pod")
        ready = sum(map(is_pod_ready, pods))
        assert len(pods) <= 4, f"{len(pods)} pods where 4 have room"
        assert ready >= 3, f"{ready} ready pods where 3 are needed"
        return at_phase("Healthy")(world) and len(world.status(key)["history"]) == 2

    await world.run(key, until=within_bounds)
    await world.run(key)
    return key


EVALUATE = {
    "evaluate": {
        "dataset": "s3://data/holdout.csv",
        "target": "label",
        "metrics": [{"name": "accuracy", "min": 0.9, "maxDropFromStable": 0.01}],
    }
}


def evaluated(uri: str, measures: dict[str, Any]) -> Story:
    """A canary whose package measures so on labelled data; it gets no traffic before that."""

    async def story(world: World, strategy: dict[str, Any]) -> ObjectKey:
        strategy["canary"]["steps"] = [EVALUATE, {"setWeight": 50}]
        world.cluster.behaviours[uri] = Behaviour(measures=measures)
        key = await live(world, strategy)
        world.cluster.change(key, storage(uri))
        await world.run(key)
        assert not world.cluster.of_kind("Job"), "a Job lives as long as its step"
        had_traffic = any("'applied': 50" in line for line in world.log)
        assert had_traffic == at_phase("Healthy")(world)
        (row,) = world.status(key)["evaluation"]["metrics"]
        assert (row["canary"], row["stable"]) == (measures["metrics"]["accuracy"], 0.95)
        return key

    return story


async def evaluation_is_fixed(world: World, strategy: dict[str, Any]) -> ObjectKey:
    """A data set that does not fit pauses the rollout; the corrected step goes on."""
    strategy["canary"]["steps"] = [EVALUATE, {"setWeight": 50}]
    error = {"reason": "DatasetInvalid", "message": "no column 'label'", "hint": "write y", "permanent": True}
    world.cluster.behaviours[NEXT] = Behaviour(measures=error)
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    assert world.status(key)["pauseConditions"][0]["reason"] == "EvaluationError"
    assert "no column 'label'" in world.status(key)["message"]
    world.cluster.behaviours[NEXT] = Behaviour()
    corrected = {"evaluate": {**EVALUATE["evaluate"], "target": "y"}}
    steps = [corrected, {"setWeight": 50}]
    world.cluster.change(key, lambda body: body["spec"]["strategy"]["canary"].update(steps=steps))
    await world.run(key)
    return key


async def reverted_while_evaluated(world: World, strategy: dict[str, Any]) -> ObjectKey:
    strategy["canary"]["steps"] = [EVALUATE, {"setWeight": 50}]
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=lambda w: bool(w.cluster.of_kind("Job")))
    world.cluster.change(key, storage(GOOD))
    await world.run(key)
    assert not world.cluster.of_kind("Job")
    return key


SURROUNDINGS: dict[str, Scenario] = {
    "scaling in the middle changes sizes alone": Scenario(scaled_in_the_middle, "Healthy", NEXT),
    "the autoscaler is followed all the way": Scenario(
        autoscaled, "Healthy", NEXT, ("ratio", "gateway", "blueGreen", "rollingUpdate")
    ),
    "labels change in a rollout": Scenario(relabelled, "Healthy", NEXT),
    "without surge pods change places one by one": Scenario(without_surge, "Healthy", NEXT, ("ratio",)),
    "a foreign write to the weights is put right": Scenario(foreign_write, "Healthy", NEXT, ("gateway",)),
    "a router that vanishes pauses and returns": Scenario(route_kind_vanishes, "Healthy", NEXT, ("gateway",)),
    "a gateway that refuses pauses until promoted": Scenario(gateway_refuses, "Healthy", NEXT, ("gateway",)),
    "a model that measures well on labelled data goes live": Scenario(
        evaluated(NEXT, {"rows": 9, "metrics": {"accuracy": 0.95}}), "Healthy", NEXT
    ),
    "a model that measures below the limit goes back without traffic": Scenario(
        evaluated(NEXT, {"rows": 9, "metrics": {"accuracy": 0.5}}), "Degraded", GOOD
    ),
    "a model that measures worse than stable goes back without traffic": Scenario(
        evaluated(NEXT, {"rows": 9, "metrics": {"accuracy": 0.93}}), "Degraded", GOOD
    ),
    "an evaluation without a result pauses until it has one": Scenario(evaluation_is_fixed, "Healthy", NEXT),
    "a revert in an evaluation ends healthy": Scenario(reverted_while_evaluated, "Healthy", GOOD),
    "a router that leaves the spec and returns splits again": Scenario(
        routing_is_removed_and_returns, "Healthy", NEXT, ("gateway",)
    ),
    "header and mirror routes come and go": Scenario(header_and_mirror, "Healthy", NEXT, ("gateway",)),
}
