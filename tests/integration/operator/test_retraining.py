"""A live model that has become worse is reported once, whoever dies meanwhile; a good one never."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from rollout_actions import live
from rollout_world import World

from model_operator.api.estimate import EstimatedMetric
from model_operator.api.resource import ObjectKey
from model_operator.api.sums import SumStats
from model_operator.clients.metrics_page import Sample
from model_operator.errors import ApiError, ProviderError
from model_operator.manifests.pod_policy import PodPolicy

HOOK = {"url": "http://pipeline.example/train", "cooldown": "6h", "drift": True}


TRAIN = {"name": "train", "image": "train", "env": [{"name": "MODELDEPLOY_REASON", "value": "mine"}]}
JOB: dict[str, Any] = {
    "metadata": {"labels": {"team": "risk"}},
    "spec": {"backoffLimit": 1, "template": {"spec": {"containers": [TRAIN], "serviceAccountName": "trainer"}}},
}


async def model(*, base: dict[str, Any] = HOOK, **hook: Any) -> tuple[World, ObjectKey]:
    """A live model with a retrain hook."""
    world = World(pod_policy=PodPolicy(level="baseline"))
    key = await live(world, {"rollingUpdate": {}})
    world.cluster.change(key, lambda body: body["spec"].update(hooks={"retrain": {**base, **hook}}))
    await world.run(key)
    return world, key


async def minutes(
    world: World,
    key: ObjectKey,
    count: int,
    *,
    drifted: bool = False,
    right: float = 1.0,
    estimate: str | None = None,
    estimated: float = 1.0,
) -> Any:
    """Let minutes pass, in each of which every pod answers 50 requests that are labelled later."""
    stable = world.status(key)["stableRevision"]
    for _ in range(count):
        before = world.pods.samples.get(stable)
        wrong = 50 * (1 - right)
        labels = SumStats(count=50, total=wrong, squares=wrong) + (before.quality["accuracy"] if before else SumStats())
        world.pods.samples[stable] = Sample(
            model=None,
            requests=0,
            errors=0,
            quality={"accuracy": labels},
            drifted=frozenset({"amount"} if drifted else ()),
            estimate=estimate,
            estimated={
                "accuracy": EstimatedMetric(value=estimated, low=estimated - 0.01, high=estimated + 0.01, rows=3000)
            },
        )
        world.clock.advance(timedelta(seconds=61))
        world.sync()
        await world.retrainer.poll()
        await world.operate(key)
        world.sync()
        await world.retrainer.poll()
        await world.operate(key)
    return world.status(key).get("retraining")


async def test_drifted_inputs_are_reported_once_in_the_cool_down() -> None:
    world, key = await model()
    asked = await minutes(world, key, 10, drifted=True)
    assert (asked["told"], asked["reason"]) == (True, "the inputs have drifted: amount")
    (told,) = world.hooks.told
    assert (told["name"], told["revision"]) == ("fraud", world.status(key)["stableRevision"])
    world.clock.advance(timedelta(hours=6))
    await minutes(world, key, 2, drifted=True)
    assert len(world.hooks.told) == 2


async def test_a_glimpse_of_drift_is_no_cause() -> None:
    world, key = await model()
    await minutes(world, key, 2, drifted=True)
    await minutes(world, key, 1)
    assert await minutes(world, key, 2, drifted=True) is None


@pytest.mark.parametrize(
    ("right", "is_reported"),
    [pytest.param(0.7, True, id="worse than its bound"), pytest.param(0.92, False, id="better than its bound")],
)
async def test_quality_below_its_bound_is_reported(right: float, is_reported: bool) -> None:
    world, key = await model(drift=False, quality=[{"name": "accuracy", "min": 0.9}])
    await minutes(world, key, 1)  # the counters from which increases are taken
    asked = await minutes(world, key, 60, right=right)
    assert (asked is not None) is is_reported
    if asked:
        assert asked["reason"].startswith("accuracy is 0.7 on ")
        assert asked["reason"].endswith("and must be at least 0.9")


async def test_a_model_that_was_good_for_long_is_found_bad_soon() -> None:
    world, key = await model(drift=False, quality=[{"name": "accuracy", "min": 0.9}])
    assert await minutes(world, key, 200, right=0.95) is None
    assert await minutes(world, key, 30, right=0.6) is not None


@pytest.mark.parametrize(
    ("estimate", "estimated", "is_reported"),
    [
        pytest.param("", 0.85, True, id="surely below its bound"),
        pytest.param("", 0.89, False, id="below its bound by less than three standard errors"),
        pytest.param("InputsDrifted", 0.5, False, id="below its bound, and not to be trusted"),
    ],
)
async def test_quality_that_is_estimated_to_be_below_its_bound_is_reported(
    estimate: str, estimated: float, is_reported: bool
) -> None:
    world, key = await model(drift=False, estimatedQuality=[{"name": "accuracy", "min": 0.9}])
    world.cluster.change(key, lambda body: body["spec"].update(monitoring={"estimatedQuality": True}))
    assert await minutes(world, key, 2, estimate=estimate, estimated=estimated) is None
    asked = await minutes(world, key, 2, estimate=estimate, estimated=estimated)
    assert (asked is not None) is is_reported
    if asked:
        assert asked["reason"] == (
            "the estimated accuracy is 0.85 (0.84 to 0.86) on 6000 answers without labels, and must be at least 0.9"
        )


async def test_drift_is_no_cause_where_it_is_not_asked_for() -> None:
    world, key = await model(drift=False, quality=[{"name": "accuracy", "min": 0.9}])
    assert await minutes(world, key, 10, drifted=True) is None


async def test_a_hook_that_nobody_takes_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world, key = await model()
    tries = []

    async def refuse(*_: Any) -> None:
        tries.append(world.clock.now())
        raise ProviderError("answered 503")

    with monkeypatch.context() as patched:
        patched.setattr(world.hooks, "notify", refuse)
        asked = await minutes(world, key, 8, drifted=True)
        assert not asked["told"]
        assert len(tries) > 2
    assert (await minutes(world, key, 2))["told"]


async def test_an_operator_that_dies_between_asking_and_telling_tells() -> None:
    world, key = await model()
    world.cluster.overwrite(
        "ModelDeployment",
        key,
        lambda body: body["status"].update(
            retraining={
                "requestedAt": "2026-01-01T12:00:00Z",
                "reason": "the inputs have drifted: amount",
                "revision": body["status"]["stableRevision"],
                "told": False,
            }
        ),
    )
    world.start_operator()
    world.sync()
    asked = await minutes(world, key, 1)
    assert asked["told"]
    assert len(world.hooks.told) == 1


async def test_a_job_is_made_of_the_template_and_told_why() -> None:
    world, key = await model(base={"jobTemplate": JOB})
    asked = await minutes(world, key, 10, drifted=True)
    assert asked["told"]
    (job,) = world.cluster.of_kind("Job")
    assert job["metadata"]["name"] == asked["job"]
    assert job["metadata"]["labels"]["team"] == "risk"
    assert (job["spec"]["backoffLimit"], job["spec"]["template"]["spec"]["restartPolicy"]) == (1, "Never")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    told = {entry["name"]: entry["value"] for entry in container["env"]}
    assert (told["MODELDEPLOY_NAME"], told["MODELDEPLOY_REVISION"]) == ("fraud", world.status(key)["stableRevision"])
    assert told["MODELDEPLOY_REASON"] == "mine", "what the template says itself stays"


async def test_the_last_job_stays_until_the_next_one_is_made() -> None:
    world, key = await model(base={"jobTemplate": JOB, "cooldown": "6h"})
    first = (await minutes(world, key, 10, drifted=True))["job"]
    world.clock.advance(timedelta(hours=6))
    second = (await minutes(world, key, 2, drifted=True))["job"]
    assert [job["metadata"]["name"] for job in world.cluster.of_kind("Job")] == [second]
    assert second != first
    world.cluster.objects.pop(("Job", "default", second))  # as its time to live ends
    await minutes(world, key, 3, drifted=True)
    assert not world.cluster.of_kind("Job"), "a Job that is gone was made"


async def test_a_template_that_became_another_after_the_request_is_held_to_the_pod_policy() -> None:
    world, key = await model(base={"jobTemplate": JOB})
    await minutes(world, key, 10, drifted=True)
    world.clock.advance(timedelta(days=2))
    for job in list(world.cluster.of_kind("Job")):
        world.cluster.objects.pop(("Job", "default", job["metadata"]["name"]))
    request: dict[str, Any] = {
        "requestedAt": "2026-01-04T00:00:00Z",
        "reason": "drift",
        "revision": world.status(key)["stableRevision"],
    }
    request["job"] = "fraud-retrain-2"
    world.cluster.overwrite("ModelDeployment", key, lambda body: body["status"].update(retraining=request))
    pod = JOB["spec"]["template"]["spec"]
    hook = {"jobTemplate": {"spec": {"template": {"spec": {**pod, "hostPID": True}}}}}
    world.cluster.change(key, lambda body: body["spec"]["hooks"].update(retrain=hook))
    world.sync()
    await world.retrainer.poll()
    assert not world.cluster.of_kind("Job")
    resource = world.cache.get(key)
    assert resource is not None
    assert "template.spec.hostPID is a namespace of the node" in world.retrainer.view(resource).problem


async def test_a_job_that_failed_is_told_once() -> None:
    world, key = await model(base={"jobTemplate": JOB})
    asked = await minutes(world, key, 10, drifted=True)
    why = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too many tries"}
    job = ObjectKey(key.namespace, asked["job"])
    world.cluster.overwrite("Job", job, lambda body: body.update(status={"conditions": [why]}))
    told = await minutes(world, key, 3, drifted=True)
    assert told["problem"] == "its Job failed: BackoffLimitExceeded: too many tries"
    assert (told["told"], told["requestedAt"]) == (True, asked["requestedAt"])
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await world.recorder.run()
    events = [event["message"] for event in world.cluster.events if event["reason"] == "RetrainFailed"]
    assert events == [f"Job {asked['job']}: {told['problem']}"]


async def test_a_template_that_is_refused_holds_nothing_and_is_tried_again() -> None:
    world, key = await model(base={"jobTemplate": JOB})
    refused = [True]

    def refuse(verb: str, body: Any) -> None:
        if body.get("kind") == "Job" and refused[0]:
            raise ApiError(422, "Invalid", "spec.template.spec.containers: Required value")

    world.cluster.before_write = refuse
    asked = await minutes(world, key, 8, drifted=True)
    assert (asked["told"], world.status(key)["phase"]) == (False, "Healthy")
    assert "containers: Required value" in asked["problem"]
    refused[0] = False
    asked = await minutes(world, key, 2, drifted=True)
    assert asked["told"]
    assert "problem" not in asked


@pytest.mark.parametrize("protect", [["metrics"], ["docs"], []])
async def test_protected_metrics_are_read_with_the_token_of_the_model_and_open_ones_without(protect: list[str]) -> None:
    world = World()
    auth = {"secretName": "keys", "protect": protect}
    key = await live(world, {"rollingUpdate": {}}, server={"auth": auth}, hooks={"retrain": HOOK})
    world.sync()
    await world.evidence.poll()
    wanted = {key if "metrics" in protect else None}
    assert world.pods.tokens == wanted, "of a model that is served"
    world.pods.tokens.clear()
    world.clock.advance(timedelta(seconds=61))
    await world.retrainer.poll()
    assert world.pods.tokens == wanted, "of a model that may degrade"
