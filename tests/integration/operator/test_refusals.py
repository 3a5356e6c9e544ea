"""What cannot be done is told where people look, and one resource stops no other."""

import asyncio
import json
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from rollout_actions import live
from rollout_world import World

from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.status import Phase
from model_operator.api.values import replace
from model_operator.engine.concurrency import KeyedTasks, chosen
from model_operator.engine.notifier import Notifier
from model_operator.errors import ApiError
from model_operator.policy.status.events import EventDraft
from model_operator.turns import Turns


async def events(world: World, reason: str) -> list[str]:
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await world.recorder.run()
    return [event["message"] for event in world.cluster.events if event["reason"] == reason]


def condition(status: Any, type_: str) -> tuple[str, str]:
    (found,) = [one for one in status["conditions"] if one["type"] == type_]
    return found["status"], found["reason"]


def foreign(name: str, kind: str = "Service", **metadata: Any) -> dict[str, Any]:
    about = {"name": name, "namespace": "default", "uid": "theirs", "resourceVersion": "1", "generation": 1, **metadata}
    return {"apiVersion": "v1", "kind": kind, "metadata": about, "spec": {"selector": {"app": "legacy"}}}


@pytest.mark.parametrize(
    "spec", [{"selector": {"app": "legacy"}}, {"ports": [{"port": 5432}]}], ids=["selector", "none"]
)
async def test_an_object_of_somebody_else_is_left_alone_and_told(spec: dict[str, Any]) -> None:
    world = World()
    world.cluster.objects["Service", "default", "shop"] = theirs = {**foreign("shop"), "spec": spec}
    key = world.cluster.create("shop", {"model": {"storageUri": "s3://models/shop/1"}})
    with pytest.raises(ApiError, match="exists and has another owner"):
        await world.operate(key)
    assert world.cluster.get("Service", ObjectKey("default", "shop")) == theirs
    with pytest.raises(ApiError):
        await world.operate(key)
    status = world.status(key)
    assert status["message"].startswith("Service shop cannot be written: AlreadyExists: a Service of this name exists")
    assert condition(status, "Ready")[0] == "False"
    assert condition(status, "Stalled") == ("True", "ApplyFailed")
    assert len(await events(world, "ApplyFailed")) == 1
    del world.cluster.objects["Service", "default", "shop"]
    await world.run(key, until=lambda seen: seen.status(key)["phase"] == "Healthy")
    assert condition(world.status(key), "Stalled") == ("False", "NotStalled")


async def test_what_the_api_server_refuses_is_told_and_tried_again() -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}}, replicas=1)
    is_refused = [True]

    def refuse(verb: str, body: Any) -> None:
        if is_refused[0] and body.get("kind") == "Deployment":
            raise ApiError(422, "Invalid", "spec.template.spec.containers[0].resources.limits: Invalid value: 1Gig")

    world.cluster.before_write = refuse
    world.cluster.change(key, lambda body: body["spec"]["model"].update(storageUri="s3://models/fraud/2"))
    for _ in range(2):
        with pytest.raises(ApiError):
            await world.operate(key)
    assert "limits: Invalid value: 1Gig" in world.status(key)["message"]
    assert len(await events(world, "ApplyFailed")) == 1
    is_refused[0] = False
    await world.run(key)
    assert (world.status(key)["phase"], world.status(key).get("canaryRevision")) == ("Healthy", None)
    assert "Invalid" not in world.status(key)["message"]


async def test_a_refusal_is_over_when_nobody_wants_it_any_more() -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}}, replicas=1)

    def refuse(verb: str, body: Any) -> None:
        if body.get("kind") == "HorizontalPodAutoscaler":
            raise ApiError(422, "Invalid", "spec.metrics[0].resource.name: Invalid value: cpuu")

    world.cluster.before_write = refuse
    scaling = {"minReplicas": 1, "maxReplicas": 3}
    world.cluster.change(key, lambda body: body["spec"].update(autoscaling=scaling))
    for _ in range(2):
        with pytest.raises(ApiError):
            await world.operate(key)
    assert "cannot be written" in world.status(key)["message"]
    world.cluster.change(key, lambda body: body["spec"].pop("autoscaling"))
    await world.operate(key)
    assert "cannot be written" not in world.status(key)["message"]
    assert condition(world.status(key), "Stalled") == ("False", "NotStalled")


async def test_a_spec_that_is_not_understood_says_so_and_can_be_deleted() -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}}, replicas=1)
    world.cluster.change(key, lambda body: body["spec"]["model"].update(pollInterval="9999999999999d"))
    await world.operate(key)
    status = world.status(key)
    assert "'9999999999999d' is longer than 3650 days" in status["message"]
    assert condition(status, "Stalled") == ("True", "InvalidSpec")
    assert status["phase"] == "Healthy", "what served goes on serving"
    await world.evidence.poll()
    writes = world.writes
    await world.operate(key)
    assert world.writes == writes, "it was told already"
    assert len(await events(world, "InvalidSpec")) == 1
    world.cluster.change(key, lambda body: body["spec"]["model"].pop("pollInterval"))
    await world.operate(key)
    assert condition(world.status(key), "Stalled") == ("False", "NotStalled")


async def test_a_field_of_a_newer_definition_is_reported_once_and_stops_nothing() -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}}, replicas=1)
    stable = world.status(key)["stableRevision"]
    world.cluster.change(key, lambda body: body["spec"].update(server={"surprise": 1}, priority=5))
    await world.operate(key)
    assert condition(world.status(key), "SpecSupported") == ("False", "UnknownFields")
    (found,) = [one["message"] for one in world.status(key)["conditions"] if one["type"] == "SpecSupported"]
    assert "have no effect: spec.priority, spec.server.surprise; upgrade the operator or remove them" in found
    assert (world.status(key)["stableRevision"], world.status(key)["phase"]) == (stable, "Healthy")
    world.cluster.change(key, lambda body: body["spec"].update(replicas=2))
    await world.run(key)
    assert world.status(key)["readyReplicas"] == 2, "the rest of the spec has its effect"
    assert await events(world, "UnknownFields") == [found]
    world.cluster.change(key, lambda body: body["spec"].pop("priority"))
    world.cluster.change(key, lambda body: body["spec"].pop("server"))
    await world.operate(key)
    assert "SpecSupported" not in {one["type"] for one in world.status(key)["conditions"]}


async def test_two_models_do_not_share_a_service() -> None:
    world = World()
    key = await live(world, {"blueGreen": {"autoPromote": False}}, replicas=1)
    world.cluster.change(key, lambda body: body["spec"]["model"].update(storageUri="s3://models/fraud/2"))
    await world.run(key, until=lambda seen: seen.status(key)["phase"] == "Paused")
    taken = world.cluster.get("Service", ObjectKey("default", f"{key.name}-preview"))
    other = world.cluster.create(f"{key.name}-preview", {"model": {"storageUri": "s3://models/other/1"}})
    world.cluster.before_write = world.cluster.after_write = lambda *_: None  # what the world checks is of one model
    told = ""
    for _ in range(9):
        world.sync()
        try:
            await world.reconciler.reconcile(other)
        except ApiError as error:
            told = error.message
            break
    assert f"has another owner (the ModelDeployment {key.name})" in told
    assert world.cluster.get("Service", ObjectKey("default", f"{key.name}-preview")) == taken


async def test_a_look_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    async def look(key: ObjectKey) -> None:
        if key.name == "bad":
            raise OverflowError
        seen.append(key.name)

    tasks = KeyedTasks()
    tasks.start([ObjectKey("default", name) for name in ("a", "bad", "b")], look)
    await tasks.settle()
    assert seen == ["a", "b"]
    assert "default/bad" in caplog.text


async def test_a_question_that_fails_on_one_resource_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def is_due(key: ObjectKey) -> bool:
        if key.name == "bad":
            raise OverflowError
        return key.name != "later"

    keys = [ObjectKey("default", name) for name in ("a", "bad", "later", "b")]
    assert [key.name for key in chosen(keys, is_due)] == ["a", "b"]
    assert "default/bad" in caplog.text


@pytest.mark.parametrize("quantity", ["1e99999999", "1e999999", "1e-999999", "9e99"])
async def test_a_quantity_beyond_measure_is_told_and_stops_no_look(quantity: str) -> None:
    world = World()
    server = {"resources": {"limits": {"memory": quantity}}}
    model = {"storageUri": "s3://models/shop/1", "pollInterval": "30s"}
    key = world.cluster.create("shop", {"model": model, "server": server})
    await world.operate(key)
    await world.evidence.poll()
    assert world.status(key)["message"].startswith("waiting for revision ")
    (deployment,) = world.cluster.of_kind("Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == quantity, "the API server says that it is none"


async def test_work_that_hangs_delays_no_other_and_ends_with_its_resource() -> None:
    """Ten tarpits of one team: the work of the other team is done again and again."""
    tarpits = [ObjectKey("team-a", f"tarpit-{number}") for number in range(10)]
    other, done, ended = ObjectKey("team-b", "fraud"), list[str](), list[str]()

    async def work(key: ObjectKey) -> None:
        if key.namespace == "team-b":
            done.append(key.name)
            return
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(key.name)

    tasks = KeyedTasks()
    for _ in range(3):
        tasks.start([*tarpits, other], work)
        while len(done) < 1 or not done[-1]:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert done == ["fraud"] * 3
    tasks.cancel_except([other])
    await tasks.settle()
    assert sorted(ended) == sorted(key.name for key in tarpits)


async def test_notifications_of_one_team_do_not_wait_for_those_of_another() -> None:
    sent: list[str] = []

    class Hooks:
        async def ask(self, address: Any, namespace: str, body: Any) -> Any:
            raise NotImplementedError

        async def notify(self, address: Any, namespace: str, body: Any) -> None:
            if namespace == "team-a":
                await asyncio.Event().wait()
            sent.append(namespace)

    world = World()
    notifier = Notifier(Hooks(), world.clock)
    running = asyncio.create_task(notifier.run())
    await asyncio.sleep(0)
    hooks = {"notifications": [{"name": "chat", "url": "http://hooks.example.com"}]}
    for namespace in ("team-a",) * 20 + ("team-b",):
        key = world.cluster.create("fraud", {"model": {"storageUri": "s3://m/1"}, "hooks": hooks}, namespace)
        resource = ModelDeployment.from_body(world.cluster.get("ModelDeployment", key))
        notifier.notify(resource, replace(resource.status, phase=Phase.HEALTHY))
    for _ in range(5):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sent == ["team-b"]


async def test_a_message_says_what_is_wrong_and_what_to_write_however_long_what_it_quotes_is() -> None:
    world = World()
    long = "x" * 1_000_000
    containers = [{"name": "server", "env": [{"name": long}, {"name": long}]}]
    server = {"podTemplate": {"spec": {"containers": containers}}}
    key = world.cluster.create("shop", {"model": {"storageUri": "s3://models/shop/1"}, "server": server})
    await world.operate(key)
    message = world.status(key)["message"]
    assert message.startswith(
        "the spec is invalid: spec.server.podTemplate.spec.containers[0].env[1] has the name 'xxx"
    )
    assert message.endswith("xxx' of an entry before it; merge the two")
    assert len(message) < 5_000


async def test_long_messages_of_one_team_cost_little_and_keep_no_event_of_another_back() -> None:
    world = World()
    about = {"apiVersion": "v1", "kind": "Pod"}
    hostile = about | {"metadata": {"name": "a", "namespace": "team-a", "uid": "a", "resourceVersion": "1"}}
    other = about | {"metadata": {"name": "b", "namespace": "team-b", "uid": "b", "resourceVersion": "1"}}
    tracemalloc.start()
    try:
        for number in range(2_000):
            world.recorder.record_for(hostile, EventDraft("InvalidSpec", f"{number}" + "x" * 100_000))
        assert tracemalloc.get_traced_memory()[0] < 16 * 2**20
    finally:
        tracemalloc.stop()
    world.recorder.record_for(other, EventDraft("RolloutCompleted", "revision r is live"))
    assert await events(world, "RolloutCompleted") == ["revision r is live"]


async def test_pods_of_one_team_that_do_not_answer_take_no_turn_of_another() -> None:
    turns, held, most = Turns(of_one=3, of_all=4), list[str](), 0

    async def ask(namespace: str) -> None:
        nonlocal most
        async with turns.of(namespace):
            held.append(namespace)
            most = max(most, len(held))
            try:
                await asyncio.Event().wait()
            finally:
                held.remove(namespace)

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask("team-a")) for _ in range(100)]
        await asyncio.sleep(0.01)
        asking += [group.create_task(ask("team-b")) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert sorted(held) == ["team-a"] * 3 + ["team-b"]
        for task in asking:
            task.cancel()
    assert (held, most) == ([], 4)


async def test_annotations_of_any_size_are_answered_within_what_a_status_holds() -> None:
    world = World()
    key = await live(world, {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}, replicas=1)
    asked = {f"modeldeploy.dev/{token}": f"{token}{'x' * 40_000}" for token in ("promote", "abort", "retry", "undo")}
    unknown = {f"modeldeploy.dev/{'y' * 50}{number}": "" for number in range(1_000)}
    world.cluster.change(key, lambda body: body["metadata"].setdefault("annotations", {}).update(asked | unknown))
    await world.run(key)
    status = world.status(key)
    assert condition(status, "AnnotationsAccepted") == ("False", "AnnotationIgnored")
    assert len(json.dumps(status)) < 50_000
