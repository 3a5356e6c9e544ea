"""Rollouts that hold when things go wrong: reports of users of other rollout controllers, each as its kind."""

from typing import Any

import pytest
from rollout_actions import BAD, GATEWAY, GOOD, NEXT, THIRD, annotate, at_phase, canary, live, spec, storage
from rollout_world import World

from model_operator.api.names import RENDERED_BY, REVISION, TEMPLATE
from model_operator.api.resource import ObjectKey
from model_operator.testing import Behaviour, is_pod_ready

PAUSED = [{"setWeight": 50}, {"pause": {}}]


def patch(world: World, key: ObjectKey, **fields: Any) -> None:
    world.cluster.change(key, lambda body: body["spec"].update(fields))


def request(world: World, key: ObjectKey, token: str) -> dict[str, Any]:
    answer: dict[str, Any] = world.status(key)["requests"][token]
    return answer


# --- the progress deadline ----------------------------------------------------------------------


async def test_every_pod_that_becomes_available_is_progress() -> None:
    world = World()
    # Eight pods one after the other, each in 20 s; the deadline is 60 s.
    world.cluster.behaviours[NEXT] = Behaviour(ready_after=20)
    key = await live(world, {"canary": {"steps": [{"setWeight": 50}], "maxSurge": 1}}, replicas=8)
    world.cluster.change(key, storage(NEXT))
    await world.turn(key, 240)
    assert world.status(key)["phase"] == "Healthy"
    assert world.status(key)["history"][0]["result"] == "Promoted"


async def test_a_pod_that_flaps_is_no_progress() -> None:
    world = World()
    world.cluster.behaviours[NEXT] = Behaviour(ready_after=None)
    key = await live(world, canary(routing=True, steps=PAUSED), replicas=2)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Degraded"))
    assert world.status(key)["history"][0]["reason"] == "ProgressDeadlineExceeded"


async def test_paused_time_does_not_count() -> None:
    world = World()
    world.cluster.behaviours[NEXT] = Behaviour(ready_after=30)
    key = await live(world, canary(routing=True, steps=PAUSED), replicas=4)
    world.cluster.change(key, storage(NEXT))
    await world.turn(key, 5)
    patch(world, key, paused=True)
    await world.turn(key, 90)
    world.cluster.behaviours[NEXT] = Behaviour(ready_after=100)
    patch(world, key, paused=False)
    await world.turn(key, 3)
    assert world.status(key)["phase"] in ("Progressing", "Paused")


async def test_a_timed_analysis_does_not_end_while_it_is_held() -> None:
    world = World()
    steps = [{"setWeight": 50}, {"analysis": {"minDuration": "10s", "maxDuration": "40s"}}]
    key = await live(
        world, canary(routing=True, steps=steps, analysis={"onInconclusive": "Abort", "metrics": [{"name": "errors"}]})
    )
    world.cluster.change(key, storage(NEXT))
    await world.turn(key, 12)
    assert world.status(key)["currentStepIndex"] == 1
    patch(world, key, paused=True)
    await world.turn(key, 60)
    patch(world, key, paused=False)
    await world.turn(key, 2)
    assert world.status(key)["phase"] == "Progressing"
    await world.run(key, until=at_phase("Degraded"))


async def test_a_deadline_that_pauses_says_why_and_expires() -> None:
    world = World()
    world.cluster.behaviours[NEXT] = Behaviour(ready_after=None)
    strategy = canary(routing=True, steps=PAUSED, maxPauseDuration="30s")
    key = await live(world, strategy, progressDeadlineAbort=False)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    status = world.status(key)
    assert "made no progress within 1m" in status["message"]
    assert status["pauseConditions"][0]["message"] in status["message"]
    await world.run(key, until=at_phase("Degraded"))
    assert world.status(key)["history"][0]["reason"] == "PauseExpired"


# --- nothing is proven by emptiness ---------------------------------------------------------------


@pytest.mark.parametrize("strategy", [{"rollingUpdate": {}}, canary(routing=False), canary(routing=True)])
async def test_a_version_that_arrives_at_no_replicas_waits_for_pods(strategy: dict[str, Any]) -> None:
    world = World()
    key = await live(world, strategy)
    stable = world.status(key)["stableRevision"]
    patch(world, key, replicas=0)
    await world.run(key)
    world.cluster.change(key, storage(BAD))
    await world.run(key)
    status = world.status(key)
    assert (status["stableRevision"], status.get("canaryRevision")) == (stable, None)
    assert "scaled to zero" in status["message"]
    ready = next(one for one in status["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ScaledToZero")
    patch(world, key, replicas=2)
    await world.run(key)
    assert world.status(key)["stableRevision"] == stable
    assert world.status(key)["history"][0]["result"] == "Aborted"


async def test_a_rollout_that_is_scaled_to_zero_on_its_way_is_not_promoted() -> None:
    world = World()
    key = await live(world, canary(routing=True, steps=[{"setWeight": 50}, {"pause": {"duration": "5s"}}]))
    world.cluster.change(key, storage(NEXT))
    await world.turn(key, 6)
    patch(world, key, replicas=0)
    await world.turn(key, 60)
    assert world.status(key)["stableRevision"] != world.status(key).get("canaryRevision", "")
    assert [entry["result"] for entry in world.status(key)["history"]] == ["Promoted"]


# --- pods that are none ---------------------------------------------------------------------------


async def test_an_evicted_pod_is_not_counted_and_its_reason_is_kept() -> None:
    world = World()
    key = await live(world, canary(routing=False, steps=PAUSED))
    stable = world.status(key)["stableRevision"]
    pod = world.cluster.pods(stable)[0]
    dead = {**pod, "metadata": {**pod["metadata"], "name": "evicted", "uid": "evicted"}}
    words = "The node was low on resource: memory."
    conditions = [{"type": "Ready", "status": "False"}]
    dead["status"] = {"phase": "Failed", "reason": "Evicted", "message": words, "conditions": conditions}
    world.cluster._store(dead)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    status = world.status(key)
    assert status["mode"] == "Steps"
    assert {"revision": stable, "reason": "Evicted", "message": words, "count": 1} in status["podFailures"]


@pytest.mark.parametrize(
    ("waiting", "message", "seconds", "phase"),
    [
        pytest.param("ErrImagePull", "pull QPS exceeded", 30, "Progressing", id="a first error may pass"),
        pytest.param("ImagePullBackOff", "Back-off: i/o timeout", 30, "Progressing", id="a slow registry may recover"),
        pytest.param("ImagePullBackOff", "Back-off: manifest unknown", 5, "Degraded", id="no such image"),
        pytest.param("ImagePullBackOff", "Back-off: i/o timeout", 400, "Degraded", id="but not for ever"),
    ],
)
async def test_a_failed_pull_ends_a_rollout_when_it_is_final(
    waiting: str, message: str, seconds: int, phase: str
) -> None:
    world = World()
    key = await live(world, canary(routing=True, steps=PAUSED), progressDeadlineSeconds=3600)
    world.cluster.behaviours[NEXT] = Behaviour(ready_after=None, waiting=waiting, message=message)
    world.cluster.change(key, storage(NEXT))
    await world.turn(key, seconds)
    assert world.status(key)["phase"] == phase


# --- requests are answered once -------------------------------------------------------------------


async def test_a_promotion_during_an_analysis_is_refused_and_not_done_later() -> None:
    world = World()
    steps = [{"setWeight": 50}, {"analysis": {"minDuration": "10s", "maxDuration": "20s"}}]
    key = await live(
        world, canary(routing=True, steps=steps, analysis={"onInconclusive": "Pause", "metrics": [{"name": "errors"}]})
    )
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=lambda world: world.status(key).get("currentStepIndex") == 1)
    status = world.status(key)
    annotate(world, key, "promote", f"{status['canaryRevision']}@{status['currentStepIndex']}/1")
    await world.turn(key, 1)
    answer = request(world, key, "promote")
    assert not answer["accepted"]
    assert "the analysis of step 2 of 2 is still running; promote --full skips" in answer["message"]
    await world.run(key, until=at_phase("Paused"))
    await world.turn(key, 30)
    assert world.status(key)["phase"] == "Paused"


async def test_a_promotion_after_a_retry_is_done() -> None:
    world = World()
    key = await live(
        world, canary(routing=True, steps=[{"setWeight": 33}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}])
    )
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    revision = world.status(key)["canaryRevision"]
    annotate(world, key, "promote", f"{revision}@1/100")
    await world.run(key, until=lambda w: w.status(key).get("currentStepIndex") == 3)
    annotate(world, key, "abort", f"{revision}@1")
    await world.run(key, until=at_phase("Degraded"))
    annotate(world, key, "retry", f"{revision}@2")
    await world.run(key, until=at_phase("Paused"))
    annotate(world, key, "promote", f"{revision}@1/200")
    await world.turn(key, 2)
    assert request(world, key, "promote")["accepted"]
    await world.run(key, until=lambda w: w.status(key).get("currentStepIndex") == 3)


async def test_a_promotion_of_a_held_rollout_is_refused() -> None:
    world = World()
    key = await live(world, canary(routing=True, steps=PAUSED))
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    patch(world, key, paused=True)
    await world.turn(key, 2)
    annotate(world, key, "promote", f"{world.status(key)['canaryRevision']}@1/1")
    await world.turn(key, 2)
    assert request(world, key, "promote") == {
        "value": f"{world.status(key)['canaryRevision']}@1/1",
        "accepted": False,
        "message": "the rollout is held by spec.paused; resume it first",
    }


async def test_an_undo_of_a_refresh_is_refused_with_the_reason() -> None:
    world = World()
    key = await live(world, canary(routing=True))
    first = world.status(key)["stableRevision"]
    annotate(world, key, "refresh", "monday")
    await world.run(key)
    assert world.status(key)["stableRevision"] != first
    annotate(world, key, "undo", f"{first}@1")
    await world.turn(key, 3)
    answer = request(world, key, "undo")
    assert not answer["accepted"]
    assert "its former content is not kept" in answer["message"]


# --- going back -----------------------------------------------------------------------------------


async def test_an_undone_version_takes_its_steps_again() -> None:
    world = World()
    key = await live(world, canary(routing=True, steps=PAUSED))
    first = world.status(key)["stableRevision"]
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    annotate(world, key, "promote", f"{world.status(key)['canaryRevision']}@1/1")
    await world.run(key)
    annotate(world, key, "undo", f"{first}@1")
    await world.run(key)
    assert world.status(key)["stableRevision"] == first
    results = [(entry["result"], entry["reason"]) for entry in world.status(key)["history"]]
    assert results[:2] == [("Promoted", "AllStepsDoneFast"), ("Undone", "WentBack")]
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    assert world.status(key)["mode"] == "Steps"


async def test_stable_has_its_capacity_before_it_takes_the_traffic_back() -> None:
    world = World()
    world.cluster.autoscalers_wish = 4
    scaling = {"minReplicas": 1, "maxReplicas": 6}
    world.cluster.behaviours[BAD] = Behaviour(ready_after=None)
    body = spec(GOOD, canary(routing=True, steps=[{"setWeight": 90}, {"pause": {}}]), autoscaling=scaling)
    del body["replicas"]
    key = world.cluster.create("fraud", body)
    await world.run(key, until=lambda w: w.status(key).get("readyReplicas") == 4)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    status = world.status(key)
    deployment = ObjectKey("default", f"fraud-{status['stableRevision']}")
    world.cluster.autoscalers_wish = 1
    await world.turn(key, 5)
    assert world.cluster.get("Deployment", deployment)["spec"]["replicas"] == 1
    annotate(world, key, "abort", f"{status['canaryRevision']}@1")
    while world.status(key)["weights"]["applied"] > 0:
        ready = sum(map(is_pod_ready, world.cluster.pods(status["stableRevision"])))
        await world.turn(key, 1)
    assert ready >= 4
    assert world.cluster.get("Deployment", deployment)["spec"]["replicas"] >= 4


async def test_paused_holds_a_third_version_too() -> None:
    world = World()
    key = await live(world, canary(routing=True, steps=PAUSED))
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    before = world.status(key)
    patch(world, key, paused=True)
    world.cluster.change(key, storage(THIRD))
    await world.turn(key, 10)
    after = world.status(key)
    assert (after["canaryRevision"], after["weights"]["applied"]) == (before["canaryRevision"], 50)
    patch(world, key, paused=False)
    await world.run(key, until=lambda w: w.status(key).get("canaryRevision") not in (None, before["canaryRevision"]))


# --- objects --------------------------------------------------------------------------------------


async def test_one_budget_protects_the_pods_of_all_revisions() -> None:
    world = World()
    key = await live(world, canary(routing=False, steps=PAUSED))
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    (budget,) = world.cluster.of_kind("PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert REVISION not in budget["spec"]["selector"]["matchLabels"]
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


async def test_a_foreign_edit_is_corrected_after_an_upgrade_too() -> None:
    world = World()
    key = await live(world, canary(routing=False))
    name = ObjectKey("default", f"fraud-{world.status(key)['stableRevision']}")
    before = world.cluster.get("Deployment", name)
    assert TEMPLATE in before["metadata"]["annotations"]

    def as_by_another_operator(body: Any) -> None:
        body["metadata"]["annotations"][RENDERED_BY] = "2-older"
        body["spec"]["template"]["spec"]["containers"][0]["image"] = "other/image:9"

    world.cluster.overwrite("Deployment", name, as_by_another_operator)
    world.start_operator()
    await world.turn(key, 3)
    after = world.cluster.get("Deployment", name)
    assert after["spec"]["template"] == before["spec"]["template"]
    assert after["metadata"]["annotations"][RENDERED_BY] == "2-older"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (
            {"spec": {"containers": [{"image": "busybox"}]}},
            "spec.server.podTemplate.spec.containers[0] needs the field name",
        ),
        (
            {"spec": {"volumes": ["data"]}},
            "spec.server.podTemplate.spec.volumes[0] must be an object with the field name",
        ),
        ({"spec": {"containers": {}}}, "spec.server.podTemplate.spec.containers must be a list, and is an object"),
        (
            {"spec": {"containers": [{"name": "server", "ports": [{"name": "admin"}]}]}},
            "containers[0].ports[0] needs the field containerPort",
        ),
        ({"spec": "x"}, "spec.server.podTemplate.spec must be an object, and is a string"),
        ({"spec": None}, "spec.server.podTemplate.spec must be an object, and is null"),
        (
            {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}},
            "containers[1] has the name 'a' of an entry before it",
        ),
    ],
)
async def test_a_pod_template_of_the_wrong_shape_is_named_in_one_pass(template: Any, problem: str) -> None:
    world = World()
    key = await live(world, canary(routing=False))
    world.cluster.change(key, lambda body: body["spec"].update(server={"podTemplate": template}))
    await world.operate(key)
    assert problem in world.status(key)["message"]
    stalled = next(one for one in world.status(key)["conditions"] if one["type"] == "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")


@pytest.mark.parametrize("labels", [{"env": "prod"}, {"ports": "x", "containers": "y"}])
async def test_labels_may_be_called_like_lists(labels: dict[str, str]) -> None:
    world = World()
    body = spec(GOOD, {"rollingUpdate": {}}, server={"podTemplate": {"metadata": {"labels": labels}}})
    key = world.cluster.create("fraud", body)
    await world.run(key)
    assert world.status(key)["phase"] == "Healthy"
    assert GATEWAY
