"""Pods of a server of the user's own: ours stands in front of it, and has what the operator and Services need."""

from typing import Any

import pytest

from model_operator.api.resource import ObjectKey
from model_operator.api.spec import parse_model, parse_server
from model_operator.manifests.pods import PodSettings, pod_template

CONTAINER = {"image": "vllm/vllm-openai:v0.11", "port": 8000, "protocol": "openAI"}
SETTINGS = PodSettings(image="modeldeploy/server:1", token_secret=b"s")


def pod(model: dict[str, Any] | None = None, container: dict[str, Any] | None = None, **server: Any) -> dict[str, Any]:
    own = {**CONTAINER, **(container or {})}
    key = ObjectKey("team-a", "chat")
    template = pod_template(key, "r1", parse_model(model or {}), parse_server({"container": own, **server}), SETTINGS)
    spec: dict[str, Any] = template["spec"]
    return spec


def containers(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in (*spec.get("initContainers", ()), *spec["containers"])}


def variables(container: dict[str, Any]) -> dict[str, Any]:
    return {one["name"].removeprefix("MODEL_SERVER_"): one.get("value") for one in container["env"]}


def test_the_meter_has_the_name_the_port_and_the_probes_of_a_model_server() -> None:
    meter = containers(pod())["server"]
    assert meter["args"] == ["meter"]
    assert meter["image"] == "modeldeploy/server:1"
    assert meter["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    assert meter["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


def test_the_meter_is_told_what_is_behind_it() -> None:
    found = variables(containers(pod(container={"predictionPaths": ["/v1/chat", "/v1/completions"]}))["server"])
    expected = {
        "METER_UPSTREAM_PORT": "8000",
        "METER_PROTOCOL": "openAI",
        "METER_READINESS_PATH": "/health",
        "METER_PREDICTION_PATHS": "/v1/chat,/v1/completions",
        "METER_URI": "vllm/vllm-openai:v0.11",
        "VERSION": "v0.11",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "STORAGE_URI" not in found
    assert "SHADOW_PORT" not in found


def test_a_container_is_what_the_user_wrote() -> None:
    given = {"command": ["vllm"], "args": ["serve"], "env": [{"name": "A", "value": "b"}]}
    app = containers(pod(container={**given, "resources": {"limits": {"nvidia.com/gpu": 1}}}))["app"]
    assert {name: app[name] for name in given} == given
    assert app["image"] == CONTAINER["image"]
    assert app["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    assert app["ports"] == [{"name": "app", "containerPort": 8000, "protocol": "TCP"}]


def test_a_container_ends_after_the_meter() -> None:
    app = containers(pod())["app"]
    assert app["lifecycle"]["preStop"] == {"httpGet": {"path": "/meter/drained", "port": 8080}}
    secured = containers(pod(tls={"secretName": "cert"}))["app"]
    assert secured["lifecycle"]["preStop"]["httpGet"]["scheme"] == "HTTPS"


@pytest.mark.parametrize(
    ("container", "path"),
    [
        pytest.param({"protocol": "openInference"}, "/v2/health/live", id="the protocol has a path"),
        pytest.param({"livenessPath": "/alive"}, "/alive", id="the user's path comes first"),
        pytest.param({"protocol": "http", "readinessPath": "/ready"}, None, id="without a path nothing is asked"),
    ],
)
def test_what_is_asked_whether_a_container_works(container: dict[str, Any], path: str | None) -> None:
    app = containers(pod(container=container))["app"]
    assert app.get("livenessProbe", {}).get("httpGet", {}).get("path") == path
    assert ("startupProbe" in app) == (path is not None)


def test_an_artifact_is_fetched_before_the_container_starts() -> None:
    found = containers(pod({"storageUri": "s3://m/llama", "secretName": "s3", "sha256": "a" * 64}))
    assert found["fetch"]["args"] == ["fetch", "/mnt/models"]
    assert variables(found["fetch"])["STORAGE_URI"] == "s3://m/llama"
    assert "readinessProbe" not in found["fetch"]
    assert {"name": "artifact", "mountPath": "/mnt/models"} in found["fetch"]["volumeMounts"]
    assert found["app"]["volumeMounts"] == [{"name": "artifact", "mountPath": "/mnt/models", "readOnly": True}]
    assert variables(found["server"])["METER_URI"] == "s3://m/llama"


def test_only_the_one_that_fetches_has_credentials_of_the_storage() -> None:
    found = containers(pod({"storageUri": "s3://m/llama", "secretName": "s3"}))
    assert found["fetch"]["envFrom"] == [{"secretRef": {"name": "s3"}}]
    for name in ("server", "app"):
        assert "envFrom" not in found[name]
        assert not [one for one in found[name].get("volumeMounts", ()) if one["name"] == "credentials"]


def test_without_an_artifact_nothing_is_fetched() -> None:
    spec = pod()
    assert "initContainers" not in spec
    assert [volume["name"] for volume in spec["volumes"]] == ["model"]


def test_a_container_runs_as_the_user_of_its_image_and_ours_as_ours() -> None:
    spec = pod()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert "runAsUser" not in spec["securityContext"]
    assert containers(spec)["server"]["securityContext"]["runAsUser"] == 65532
    assert "runAsUser" not in containers(spec)["app"]["securityContext"]


def test_the_overlay_reaches_a_container_by_its_name() -> None:
    overlay = {"spec": {"containers": [{"name": "app", "securityContext": {"runAsUser": 1000}}]}}
    app = containers(pod(podTemplate=overlay))["app"]
    assert app["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsUser": 1000,
    }


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("vllm:v1", "v1"),
        ("example.com:5000/vllm:v1", "v1"),
        ("example.com:5000/vllm", ""),
        ("vllm:v1@sha256:abc", "v1"),
        ("vllm@sha256:abc", ""),
    ],
)
def test_the_tag_of_an_image_is_the_version(image: str, tag: str) -> None:
    container = parse_server({"container": {**CONTAINER, "image": image}}).container
    assert container is not None
    assert container.tag == tag
