"""`spec.commonLabels` and `spec.commonAnnotations`: on every object of a model, on no pod, and no rollout for them."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from cluster_scenarios import EVALUATE
from operator_in_cluster import Api, api_of, control_plane, operator
from rollout_actions import GATEWAY, GOOD, NEXT, live, spec, storage
from rollout_world import World
from waiting import eventually

from model_operator.api.names import NAME
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.status import Retraining
from model_operator.clients.kinds import BY_KIND, RESOURCE
from model_operator.manifests.pods import PodSettings
from model_operator.manifests.retraining import retraining_job

Body = dict[str, Any]

LABELS, ANNOTATIONS = {"example.com/team": "risk"}, {"example.com/runbook": "https://example.com/fraud"}
COMMON = {"commonLabels": LABELS, "commonAnnotations": ANNOTATIONS}
#: A model with one object of each kind that the operator writes.
EVERYTHING: Body = {
    "autoscaling": {"minReplicas": 2, "maxReplicas": 4},
    "monitoring": {"serviceMonitor": True, "alerts": True},
}
WITH_JOB = {"canary": {"steps": [EVALUATE, {"setWeight": 50}, {"pause": {}}], "trafficRouting": GATEWAY}}
KINDS = {
    "Deployment",
    "Service",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "HTTPRoute",
    "Job",
    "ServiceMonitor",
    "PrometheusRule",
}


def children(world: World, key: ObjectKey) -> list[Body]:
    """What the operator wrote for a model; pods are not its own work."""
    uid = world.cluster.get("ModelDeployment", key)["metadata"]["uid"]
    owned = [
        body
        for body in world.cluster.objects.values()
        if any(owner["uid"] == uid for owner in body["metadata"].get("ownerReferences", ()))
    ]
    return [body for body in owned if body["kind"] in KINDS]


def has(body: Body, labels: Body, annotations: Body) -> bool:
    metadata = body["metadata"]
    return all(metadata["labels"].get(name) == value for name, value in labels.items()) and all(
        metadata["annotations"].get(name) == value for name, value in annotations.items()
    )


async def with_everything(world: World, **more: Any) -> ObjectKey:
    body = {**spec(GOOD, WITH_JOB, **EVERYTHING), **more}
    del body["replicas"]
    key = world.cluster.create("fraud", body)
    await world.run(key)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=lambda world: any(body["kind"] == "Job" for body in world.cluster.objects.values()))
    return key


async def test_every_object_has_them_and_no_pod() -> None:
    world = World()
    key = await with_everything(world, **COMMON)
    found = children(world, key)
    assert {body["kind"] for body in found} == KINDS
    assert not [body for body in found if not has(body, LABELS, ANNOTATIONS)]
    templates = [body["spec"]["template"] for body in found if body["kind"] in ("Deployment", "Job")]
    for pod in (*world.cluster.of_kind("Pod"), *templates):
        assert not LABELS.keys() & pod["metadata"]["labels"].keys()
        assert not ANNOTATIONS.keys() & pod["metadata"].get("annotations", {}).keys()


@pytest.mark.parametrize(
    ("labels", "annotations"),
    [
        pytest.param({"example.com/team": "fraud"}, ANNOTATIONS, id="another value"),
        pytest.param({"cost-center": "7"}, {}, id="another label, and no annotation"),
        pytest.param({}, {}, id="none any more"),
    ],
)
async def test_a_change_is_no_rollout_and_restarts_no_pod(labels: Body, annotations: Body) -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}}, **COMMON)
    revision, before = world.status(key)["stableRevision"], dict(world.cluster.objects)
    world.cluster.change(
        key, lambda body: body["spec"].update({"commonLabels": labels, "commonAnnotations": annotations})
    )
    await world.run(key)
    assert world.status(key)["stableRevision"] == revision
    assert world.cluster.of_kind("Pod") == [body for (kind, *_), body in before.items() if kind == "Pod"]
    gone = {*LABELS, *ANNOTATIONS} - {*labels, *annotations}
    for body in children(world, key):
        assert has(body, labels, annotations)
        assert not gone & {*body["metadata"]["labels"], *body["metadata"]["annotations"]}
        assert body["spec"] == before[(body["kind"], key.namespace, body["metadata"]["name"])]["spec"]


@pytest.mark.parametrize("value", [None, "x"], ids=["removed", "changed"])
@pytest.mark.parametrize(("part", "common"), [("labels", LABELS), ("annotations", ANNOTATIONS)])
async def test_what_somebody_changes_comes_back_and_is_reported(part: str, common: Body, value: str | None) -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}}, **COMMON)
    (name,) = common

    def edit(body: Body) -> None:
        body["metadata"][part] = {**body["metadata"][part], name: value}
        if value is None:
            del body["metadata"][part][name]

    world.cluster.overwrite("Service", key, edit)
    await world.run(key)
    assert has(world.cluster.get("Service", key), LABELS, ANNOTATIONS)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await world.recorder.run()
    assert "DriftCorrected" in [event["reason"] for event in world.cluster.events]


async def test_the_operator_wins_over_a_label_of_its_own() -> None:
    # The definition refuses such labels; an object that was stored before it did must not lose its children.
    world = World()
    key = await live(world, {"rollingUpdate": {}}, commonLabels={NAME: "other", "app.kubernetes.io/managed-by": "me"})
    for body in children(world, key):
        assert body["metadata"]["labels"][NAME] == "fraud"
        assert body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "modeldeploy"


async def test_the_labels_by_which_prometheus_selects_win() -> None:
    world = World()
    world.settings = PodSettings(image="server", monitoring_labels=(("release", "prometheus"),))
    world.start_operator()
    common = {"commonLabels": {"release": "7", **LABELS}}
    await live(world, {"rollingUpdate": {}}, monitoring={"serviceMonitor": True}, **common)
    (monitor,) = world.cluster.of_kind("ServiceMonitor")
    assert (monitor["metadata"]["labels"]["release"], has(monitor, LABELS, {})) == ("prometheus", True)
    assert {body["metadata"]["labels"]["release"] for body in world.cluster.of_kind("Service")} == {"7"}


def test_the_template_of_a_training_job_wins() -> None:
    metadata = {"name": "fraud", "namespace": "default", "uid": "1", "generation": 1, "resourceVersion": "1"}
    owner = ModelDeployment.from_body({"metadata": metadata, "spec": {"model": {"storageUri": GOOD}, **COMMON}})
    asked = Retraining(requested_at=datetime(2026, 1, 1, tzinfo=UTC), reason="drift", revision="r", job="fraud-train")
    own = {"labels": {"example.com/team": "training"}}
    job = retraining_job(owner, asked, {"metadata": own, "spec": {"template": {"spec": {"containers": []}}}})
    assert has(job, {"example.com/team": "training", NAME: "fraud"}, ANNOTATIONS)


async def test_a_revision_that_is_kept_has_them_too() -> None:
    world = World()
    key = await live(world, {"rollingUpdate": {}})
    world.cluster.change(key, storage(NEXT))
    await world.run(key)
    world.cluster.change(key, lambda body: body["spec"].update(COMMON))
    await world.run(key)
    assert sorted(body["spec"]["replicas"] for body in world.cluster.of_kind("Deployment")) == [0, 2]
    assert all(has(body, LABELS, ANNOTATIONS) for body in world.cluster.of_kind("Deployment"))


async def test_an_api_server_removes_what_the_spec_no_longer_has() -> None:
    async with control_plane() as cluster, api_of(cluster) as api, operator(cluster):
        await api.create("fraud", model={"storageUri": "s3://models/fraud/1"}, replicas=2, **COMMON)
        await eventually(lambda: labelled(api, "risk"), "all objects have the label")
        pods = await eventually(lambda: two_pods(api), "its pods are there")
        await api.patch(RESOURCE, "fraud", {"spec": {"commonLabels": {"example.com/team": "fraud"}}})
        await eventually(lambda: labelled(api, "fraud"), "all objects have the new value")
        await api.patch(RESOURCE, "fraud", {"spec": {"commonLabels": None, "commonAnnotations": None}})
        await eventually(lambda: labelled(api, None), "no object has the label")
        assert await api.names("Pod") == pods


async def two_pods(api: Api) -> list[str]:
    pods = await api.names("Pod")
    return pods if len(pods) == 2 else []


async def labelled(api: Api, value: str | None) -> bool:
    """Whether Deployment, Service and budget are there, and the label has this value on each of them."""
    kinds = ("Deployment", "Service", "PodDisruptionBudget")
    lists = [(await api.call("GET", BY_KIND[kind].collection("default")))["items"] for kind in kinds]
    ours = [[one["metadata"] for one in found if one["metadata"]["name"].startswith("fraud")] for found in lists]
    notes = None if value is None else ANNOTATIONS["example.com/runbook"]
    return all(ours) and all(
        (one["labels"].get("example.com/team"), one["annotations"].get("example.com/runbook")) == (value, notes)
        for found in ours
        for one in found
    )
