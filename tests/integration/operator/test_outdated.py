"""`status.server`: whether the stable revision still has the image and the pod template that a new one would have."""

from typing import Any

import orjson
from operator_in_cluster import Api, api_of, control_plane, operator
from rollout_actions import BAD, BROKEN, GOOD, NEXT, annotate, at_phase, canary, live, spec, storage
from rollout_world import World
from waiting import eventually

from model_operator.api.names import RENDERED_BY, TEMPLATE
from model_operator.api.resource import ObjectKey
from model_operator.clients.kinds import RESOURCE
from model_operator.manifests.pod_policy import PodPolicy
from model_operator.manifests.pod_security import Allowed
from model_operator.manifests.pods import PodSettings

Body = dict[str, Any]
CURRENT = {"image": "server", "currentImage": "server", "outdated": False}


def server(world: World, key: ObjectKey) -> Body:
    found: Body = world.status(key)["server"]
    return found


async def upgrade(world: World, key: ObjectKey, **settings: Any) -> None:
    """Replace the operator by one with other settings, and let it observe the model."""
    world.settings = PodSettings(**{"image": "server", **settings})
    world.start_operator()
    await world.run(key)


async def test_another_default_image_outdates_a_model_and_restarts_no_pod() -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}})
    assert server(world, key) == CURRENT
    pods = [pod["metadata"]["uid"] for pod in world.cluster.of_kind("Pod")]
    await upgrade(world, key, image="server:2")
    assert server(world, key) == {"image": "server", "currentImage": "server:2", "outdated": True}
    assert [pod["metadata"]["uid"] for pod in world.cluster.of_kind("Pod")] == pods
    await upgrade(world, key, image="server")
    assert server(world, key) == CURRENT


async def test_a_model_that_is_not_live_yet_has_no_server_to_report() -> None:
    world = World()
    key = world.cluster.create("fraud", spec(GOOD, {"rollingUpdate": {}}))
    await world.operate(key)
    assert world.status(key)["phase"] == "Pending"
    assert "server" not in world.status(key)
    await world.run(key)
    assert server(world, key) == CURRENT


async def test_a_first_revision_that_failed_is_reported() -> None:
    world = World()
    world.cluster.behaviours[BAD] = BROKEN
    key = world.cluster.create("fraud", spec(BAD, {"rollingUpdate": {}}))
    await world.run(key, until=at_phase("Degraded"))
    await upgrade(world, key, image="server:2")
    assert server(world, key) == {"image": "server", "currentImage": "server:2", "outdated": True}


async def test_a_refresh_rolls_out_the_current_image() -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}})
    revision = world.status(key)["stableRevision"]
    await upgrade(world, key, image="server:2")
    annotate(world, key, "refresh", "1")
    await world.run(key)
    assert world.status(key)["stableRevision"] != revision
    assert server(world, key) == {"image": "server:2", "currentImage": "server:2", "outdated": False}


async def test_during_a_rollout_it_is_the_stable_revision_that_counts() -> None:
    world = World()
    key = await live(world, canary(routing=True, steps=[{"setWeight": 50}, {"pause": {}}]))
    await upgrade(world, key, image="server:2")
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=at_phase("Paused"))
    assert server(world, key) == {"image": "server", "currentImage": "server:2", "outdated": True}


async def test_an_image_of_the_spec_is_not_outdated_by_another_default() -> None:
    world = World(pod_policy=PodPolicy(allowed=Allowed(images=["mine:*"])))
    key = await live(world, {"rollingUpdate": {}}, server={"image": "mine:7"})
    await upgrade(world, key, image="server:2")
    assert server(world, key) == {"image": "mine:7", "currentImage": "mine:7", "outdated": False}


async def test_a_setting_that_changes_the_pod_template_outdates_it_with_the_same_image() -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}})
    await upgrade(world, key, image_pull_secrets=("registry",))
    assert server(world, key) == {**CURRENT, "outdated": True}


async def test_a_newer_renderer_outdates_only_what_it_renders_otherwise() -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}})
    name = ObjectKey("default", f"fraud-{world.status(key)['stableRevision']}")

    def as_by_an_older_operator(body: Body) -> None:
        body["metadata"]["annotations"][RENDERED_BY] = "2-older"

    world.cluster.overwrite("Deployment", name, as_by_an_older_operator)
    await world.run(key)
    assert server(world, key) == CURRENT, "it would render the same"

    def without_a_probe(body: Body) -> None:
        annotations = body["metadata"]["annotations"]
        template = orjson.loads(annotations[TEMPLATE])
        del template["spec"]["containers"][0]["startupProbe"]
        annotations[TEMPLATE] = orjson.dumps(template).decode()
        body["spec"]["template"] = template

    world.cluster.overwrite("Deployment", name, without_a_probe)
    await world.run(key)
    assert server(world, key) == {**CURRENT, "outdated": True}


async def test_an_upgrade_of_a_running_operator_is_reported() -> None:
    async with control_plane() as cluster, api_of(cluster) as api:
        async with operator(cluster, server_image="example/server:1"):
            await api.create("fraud", model={"storageUri": "s3://models/fraud/1"})
            await eventually(lambda: reported(api, "example/server:1", outdated=False), "the first image is reported")
        async with operator(cluster, server_image="example/server:2"):
            found = await eventually(lambda: reported(api, "example/server:1", outdated=True), "it is outdated")
            assert found["currentImage"] == "example/server:2"
            refresh = {"metadata": {"annotations": {"modeldeploy.dev/refresh": "1"}}}
            await api.patch(RESOURCE, "fraud", refresh)
            await eventually(lambda: reported(api, "example/server:2", outdated=False), "the new image is live")


async def reported(api: Api, image: str, *, outdated: bool) -> Body | None:
    found: Body = (await api.status("fraud")).get("server") or {}
    return found if (found.get("image"), found.get("outdated")) == (image, outdated) else None
