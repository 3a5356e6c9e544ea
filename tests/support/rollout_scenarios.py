"""What happens to rollouts: each scenario is a story that a World plays, with or without sudden deaths."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from rollout_world import World

from model_operator.api.names import REVISION
from model_operator.api.resource import ObjectKey
from model_operator.testing import Behaviour, is_pod_ready

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


async def good(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    return key


async def fast_bad(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(BAD))
    await world.run(key)
    return key


async def slow_bad(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(SLOW))
    await world.run(key)
    return key


async def bad_image(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.behaviours[BAD] = Behaviour(ready_after=None, waiting="ImagePullBackOff")
    world.cluster.change(key, storage(BAD))
    await world.run(key)
    return key


async def crash_at_half(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(50))
    world.cluster.behaviours[NEXT] = Behaviour(
        ready_after=None, termination={"reason": "Oops", "message": "boom"}, restarts=5
    )
    world.cluster.fail_pods(world.status(key)["canaryRevision"], world.cluster.behaviours[NEXT])
    await world.run(key)
    return key


async def endpoints_vanish_and_return(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(25))
    revision = world.status(key)["canaryRevision"]
    world.cluster.behaviours[NEXT] = Behaviour(ready_after=None)
    world.cluster.fail_pods(revision, world.cluster.behaviours[NEXT])
    await world.run(key, until=at_weight(0))
    world.cluster.behaviours[NEXT] = Behaviour()
    await world.run(key)
    return key


def change_at(percent: int) -> Story:
    async def story(world: World, strategy: dict[str, Any]) -> ObjectKey:
        key = await live(world, strategy)
        world.cluster.change(key, storage(NEXT))
        await world.run(key, until=at_weight(percent))
        world.cluster.change(key, storage(THIRD))
        await world.run(key)
        return key

    return story


def revert_at(percent: int) -> Story:
    async def story(world: World, strategy: dict[str, Any]) -> ObjectKey:
        key = await live(world, strategy)
        world.cluster.change(key, storage(NEXT))
        await world.run(key, until=at_weight(percent))
        world.cluster.change(key, storage(GOOD))
        await world.run(key)
        return key

    return story


async def mended_while_promoting(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(SLOW))
    await world.run(key, until=at_phase("Promoting", "Progressing"))
    world.cluster.change(key, storage(NEXT))
    await world.run(key, seconds=30)
    return key


async def two_changes_at_once(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    world.cluster.change(key, storage(THIRD))
    await world.run(key)
    return key


async def steps_change(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(25))
    steps = [{"setWeight": 10}, {"setWeight": 40}, {"pause": {"duration": "5s"}}]
    world.cluster.change(key, lambda body: body["spec"]["strategy"]["canary"].update(steps=steps))
    await world.run(key)
    return key


async def broken_stable_is_rescued(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.behaviours[GOOD] = Behaviour(
        ready_after=None, termination={"reason": "X", "message": "y"}, restarts=9
    )
    world.cluster.fail_pods(world.status(key)["stableRevision"], world.cluster.behaviours[GOOD])
    await world.run(key, until=at_phase("Degraded"))
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    return key


async def born_broken_then_mended(world: World, strategy: dict[str, Any]) -> ObjectKey:
    world.cluster.behaviours[BAD] = BROKEN
    key = world.cluster.create("fraud", spec(BAD, strategy))
    await world.run(key, until=at_phase("Degraded"))
    world.cluster.change(key, storage(GOOD))
    await world.run(key)
    return key


async def abort_by_hand(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(25))
    annotate(world, key, "abort", world.status(key)["canaryRevision"])
    await world.run(key)
    return key


async def retry_after_abort(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await abort_by_hand(world, strategy)
    aborted = world.status(key)["abortedRevision"]
    annotate(world, key, "retry", aborted)
    await world.run(key)
    return key


async def stale_token(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    annotate(world, key, "abort", "bcdfghjk")
    annotate(world, key, "promote", "bcdfghjk@1")
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    return key


async def abort_beats_promote(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(5))
    revision = world.status(key)["canaryRevision"]

    def both(body: dict[str, Any]) -> None:
        tokens = {"modeldeploy.dev/promote-full": revision, "modeldeploy.dev/abort": revision}
        body["metadata"]["annotations"].update(tokens)

    world.cluster.change(key, both)
    await world.run(key)
    return key


async def a_persons_gate(world: World, strategy: dict[str, Any]) -> ObjectKey:
    strategy["canary"]["steps"] = [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))

    def paused_at(index: int) -> Callable[[World], bool]:
        return lambda w: at_phase("Paused")(w) and w.status(key)["currentStepIndex"] == index

    for index in (1, 3):
        await world.run(key, until=paused_at(index))
        annotate(world, key, "promote", f"{world.status(key)['canaryRevision']}@{index}")
    await world.run(key)
    return key


async def promote_fully(world: World, strategy: dict[str, Any]) -> ObjectKey:
    strategy["canary"]["steps"] = [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    annotate(world, key, "promote-full", world.status(key)["canaryRevision"])
    await world.run(key)
    return key


async def _ab_test(world: World, strategy: dict[str, Any]) -> ObjectKey:
    """A test whose users have been split, each with a rule that keeps them where they are."""
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=lambda w: w.status(key).get("currentStepIndex") == 1)
    assert len(world.cluster.get("HTTPRoute", key)["spec"]["rules"]) == 3
    return key


async def end_ab_test(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await _ab_test(world, strategy)
    annotate(world, key, "promote-full", world.status(key)["canaryRevision"])
    await world.run(key)
    assert len(world.cluster.get("HTTPRoute", key)["spec"]["rules"]) == 1
    return key


async def revert_ab_test(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await _ab_test(world, strategy)
    world.cluster.change(key, storage(GOOD))
    await world.run(key)
    assert len(world.cluster.get("HTTPRoute", key)["spec"]["rules"]) == 1
    return key


async def pause_expires(world: World, strategy: dict[str, Any]) -> ObjectKey:
    strategy["canary"].update(steps=[{"setWeight": 25}, {"pause": {}}], maxPauseDuration="30s")
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    return key


async def undo(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    first = world.status(key)["stableRevision"]
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    annotate(world, key, "undo", first)
    await world.run(key)
    return key


async def paused_by_the_spec(world: World, strategy: dict[str, Any]) -> ObjectKey:
    key = await live(world, strategy)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_weight(25))
    world.cluster.change(key, lambda body: body["spec"].update(paused=True))
    await world.run(key)
    assert world.status(key)["phase"] == "Paused"
    world.cluster.change(key, lambda body: body["spec"].update(paused=False))
    await world.run(key)
    return key


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


async def evaluation_is_mended(world: World, strategy: dict[str, Any]) -> ObjectKey:
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


def replicas_of(world: World, key: ObjectKey) -> dict[str, int]:
    """Return the pods that live revisions have, by the part they play."""
    parts = {world.status(key).get(part): part for part in ("stableRevision", "canaryRevision")}
    return {
        parts.get(body["metadata"]["labels"][REVISION], "kept"): body["spec"]["replicas"]
        for body in world.cluster.of_kind("Deployment")
        if body["spec"]["replicas"]
    }


SCENARIOS: dict[str, Scenario] = {
    "a good model goes live": Scenario(good, "Healthy", NEXT, ("ratio", "gateway", "blueGreen", "rollingUpdate")),
    "a broken artifact goes back at once": Scenario(
        fast_bad, "Degraded", GOOD, ("ratio", "gateway", "blueGreen", "rollingUpdate")
    ),
    "a model that never gets ready misses the deadline": Scenario(slow_bad, "Degraded", GOOD),
    "an image that cannot be pulled goes back": Scenario(bad_image, "Degraded", GOOD),
    "a crash at half the traffic goes back": Scenario(crash_at_half, "Degraded", GOOD),
    "lost endpoints lose their weight and get it again": Scenario(endpoints_vanish_and_return, "Healthy", NEXT),
    **{f"a third model at {p} % starts over": Scenario(change_at(p), "Healthy", THIRD) for p in (0, 5, 25, 50)},
    **{f"a revert at {p} % ends healthy": Scenario(revert_at(p), "Healthy", GOOD) for p in (0, 5, 25, 50)},
    "a revert at 100 % ends healthy": Scenario(revert_at(100), "Healthy", GOOD, ("gateway",)),
    "a model that hangs is mended by the next one": Scenario(
        mended_while_promoting, "Healthy", NEXT, ("ratio", "gateway", "blueGreen", "rollingUpdate")
    ),
    "of two changes the last one goes live": Scenario(two_changes_at_once, "Healthy", THIRD),
    "changed steps go on where they are": Scenario(steps_change, "Healthy", NEXT),
    "a broken stable does not block its mending": Scenario(broken_stable_is_rescued, "Healthy", NEXT),
    "a model born broken is mended by a new one": Scenario(born_broken_then_mended, "Healthy", GOOD),
    "a person aborts": Scenario(abort_by_hand, "Degraded", GOOD),
    "a person retries what was aborted": Scenario(retry_after_abort, "Healthy", NEXT),
    "a token for another revision does nothing": Scenario(stale_token, "Healthy", NEXT),
    "of abort and promote in one patch abort wins": Scenario(abort_beats_promote, "Degraded", GOOD),
    "a person opens each gate": Scenario(a_persons_gate, "Healthy", NEXT),
    "a person skips the rest of the steps": Scenario(promote_fully, "Healthy", NEXT),
    "a person ends an A/B test": Scenario(end_ab_test, "Healthy", NEXT, ("abTest",)),
    "an A/B test is reverted": Scenario(revert_ab_test, "Healthy", GOOD, ("abTest",)),
    "a pause that nobody ends goes back": Scenario(pause_expires, "Degraded", GOOD),
    "undo brings the old model back": Scenario(undo, "Healthy", GOOD),
    "spec.paused holds and lets go": Scenario(paused_by_the_spec, "Healthy", NEXT),
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
    "an evaluation without a result pauses until it has one": Scenario(evaluation_is_mended, "Healthy", NEXT),
    "a revert in an evaluation ends healthy": Scenario(reverted_while_evaluated, "Healthy", GOOD),
    "a router that leaves the spec and returns splits again": Scenario(
        routing_is_removed_and_returns, "Healthy", NEXT, ("gateway",)
    ),
    "header and mirror routes come and go": Scenario(header_and_mirror, "Healthy", NEXT, ("gateway",)),
}


def strategy_of(kind: str) -> dict[str, Any]:
    if kind == "ratio":
        return canary(routing=False)
    if kind == "gateway":
        return canary(routing=True)
    if kind == "abTest":
        return {"abTest": {"metric": "conversion", "minimumSampleSize": 1000, "trafficRouting": GATEWAY}}
    return {kind: {}}


CASES = [(name, kind) for name, scenario in SCENARIOS.items() for kind in scenario.strategies]
