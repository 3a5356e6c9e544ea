"""A new object behind an unchanged URI: what a server saw becomes a new revision, and goes the way of any other."""

from typing import Any

import pytest
from rollout_actions import GOOD, NEXT, annotate, at_phase, canary, live, storage
from rollout_world import World

from model_operator.api.resource import ObjectKey
from model_operator.api.status import ModelInfo
from model_operator.api.times import parse_duration
from model_operator.clients.metrics_page import Sample


async def polled(world: World, interval: str = "30s") -> ObjectKey:
    """A model that is polled, serves, and has said what it is."""
    key = await live(world, canary(routing=False))
    world.cluster.change(key, lambda body: body["spec"]["model"].update(pollInterval=interval))
    await world.run(key)
    await says(world, key, world.status(key)["stableRevision"])
    return key


async def says(world: World, key: ObjectKey, revision: str, changed: str = "", sha256: str = "aa") -> None:
    """Let the revision's servers say something, and the operator hear it."""
    model = ModelInfo(uri=GOOD, version="1", format="onnx", sha256=sha256)
    world.pods.samples[revision] = Sample(model=model, requests=0, errors=0, changed_fingerprint=changed)
    world.sync()
    await world.evidence.poll()
    await world.operate(key)


async def after_the_interval(world: World, key: ObjectKey, **said: str) -> Any:
    world.clock.advance(parse_duration("31s"))
    await says(world, key, world.status(key)["stableRevision"], **said)
    return world.status(key)


async def test_a_new_object_is_rolled_out_as_a_new_revision() -> None:
    world = World()
    key = await polled(world)
    before = world.status(key)
    status = await after_the_interval(world, key, changed="m1")
    assert status["source"] == {"uri": GOOD, "fingerprint": "m1", "mark": "m1"}
    assert status["stableRevision"] == before["stableRevision"] != status["canaryRevision"]
    world.pods.samples[status["canaryRevision"]] = Sample(
        model=ModelInfo(uri=GOOD, version="1", sha256="bb"), requests=0, errors=0
    )
    await world.run(key, until=lambda w: at_phase("Healthy")(w))
    await after_the_interval(world, key, sha256="bb")
    after = world.status(key)
    assert after["stableRevision"] == status["canaryRevision"]
    assert (before["model"]["sha256"], after["model"]["sha256"]) == ("aa", "bb")


async def test_nothing_is_asked_more_often_than_the_interval_says() -> None:
    world = World()
    key = await polled(world)
    await after_the_interval(world, key)
    stable = world.status(key)["stableRevision"]
    await says(world, key, stable, changed="m1")
    assert "source" not in world.status(key)
    assert (await after_the_interval(world, key, changed="m1"))["source"]["fingerprint"] == "m1"


async def test_an_object_that_was_refused_stays_refused_and_the_next_one_is_tried() -> None:
    world = World()
    key = await polled(world)
    good = world.status(key)["stableRevision"]
    aborted = (await after_the_interval(world, key, changed="bad"))["canaryRevision"]
    annotate(world, key, "abort", aborted)
    await world.run(key, until=lambda w: at_phase("Degraded")(w))
    await after_the_interval(world, key, changed="bad")
    assert world.status(key)["abortedRevision"] == aborted, "the same object is not tried again"
    status = await after_the_interval(world, key, changed="better")
    assert status["stableRevision"] == good
    assert status["canaryRevision"] not in ("", aborted)


async def test_what_one_pod_of_several_has_seen_counts() -> None:
    world = World()
    key = await polled(world)
    stable = world.status(key)["stableRevision"]
    pods = [pod["metadata"]["name"] for pod in world.cluster.of_kind("Pod") if f"-{stable}-" in pod["metadata"]["name"]]
    assert len(pods) > 1
    model = ModelInfo(uri=GOOD, version="1", format="onnx", sha256="aa")
    for place, pod in enumerate(pods):
        world.pods.by_pod[pod] = Sample(model=model, requests=0, errors=0, changed_fingerprint="" if place else "m1")
    world.clock.advance(parse_duration("31s"))
    world.sync()
    await world.evidence.poll()
    await world.operate(key)
    assert world.status(key)["source"]["fingerprint"] == "m1"


async def test_another_uri_forgets_what_was_seen_at_the_first() -> None:
    world = World()
    key = await polled(world)
    await after_the_interval(world, key, changed="m1")
    await world.run(key, until=lambda w: at_phase("Healthy")(w))
    world.cluster.change(key, storage(NEXT))
    await world.operate(key)
    plain = World()
    other = await polled(plain)
    plain.cluster.change(other, storage(NEXT))
    await plain.operate(other)
    assert world.status(key)["canaryRevision"] == plain.status(other)["canaryRevision"]


@pytest.mark.parametrize("token", ["2026-01-02", "again"])
async def test_the_annotation_refresh_asks_for_a_new_revision_at_once(token: str) -> None:
    world = World()
    key = await live(world, canary(routing=False))
    before = world.status(key)["stableRevision"]
    world.cluster.change(key, lambda body: body["metadata"]["annotations"].update({"modeldeploy.dev/refresh": token}))
    await world.run(key)
    status = world.status(key)
    assert status["phase"] == "Healthy"
    assert status["stableRevision"] != before
    await world.run(key)
    assert world.status(key)["stableRevision"] == status["stableRevision"], "once is enough"


ALIAS = "models:/wine@champion"


def versions(world: World, key: ObjectKey) -> dict[str, str]:
    """The versions that pods of an alias find in their volume, by revision."""
    bodies = [one for one in world.cluster.of_kind("ConfigMap") if one["metadata"]["name"] == f"{key.name}-versions"]
    return dict(line.split() for body in bodies for line in body["data"]["versions"].splitlines())


async def tells(world: World, key: ObjectKey, revision: str, version: str, changed: str = "") -> Any:
    """Let time pass, and the operator hear which version a revision's servers have, and what they see."""
    world.clock.advance(parse_duration("31s"))
    model = ModelInfo(uri=ALIAS, version=version, format="onnx", sha256=version)
    world.pods.samples[revision] = Sample(model=model, requests=0, errors=0, changed_fingerprint=changed)
    world.sync()
    await world.evidence.poll()
    await world.operate(key)
    return world.status(key)


async def test_pods_that_start_later_load_the_version_of_their_revision_wherever_the_alias_is() -> None:
    world = World()
    key = await live(world, canary(routing=False))
    assert versions(world, key) == {}, "only an alias needs it"
    model = {"storageUri": ALIAS, "pollInterval": "30s"}
    world.cluster.change(key, lambda body: body["spec"].update(model=model))
    await world.run(key)
    first = world.status(key)["stableRevision"]
    assert versions(world, key) == {}, "nobody has told it yet"
    await tells(world, key, first, "1")
    assert versions(world, key) == {first: "1"}
    second = (await tells(world, key, first, "1", changed="2-13d7e7aba2461053"))["canaryRevision"]
    assert versions(world, key) == {first: "1", second: "2"}, "also before a pod of it has loaded anything"
    await tells(world, key, first, "2", changed="2-13d7e7aba2461053")
    assert versions(world, key) == {first: "1", second: "2"}, "what was written of a revision stays"
    (template,) = (
        body["spec"]["template"]["spec"]
        for body in world.cluster.of_kind("Deployment")
        if body["metadata"]["name"] == f"fraud-{first}"
    )
    (mount,) = (one for one in template["containers"][0]["volumeMounts"] if one["name"] == "versions")
    (file,) = (one["value"] for one in template["containers"][0]["env"] if one["name"].endswith("REGISTERED_VERSIONS"))
    assert file == f"{mount['mountPath']}/versions"
    assert {"name": "versions", "configMap": {"name": "fraud-versions", "optional": True}} in template["volumes"]
