"""The activator of the chart: off unless asked for, without rights, and started as its process knows it."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from model_operator.activator.settings import Settings, settings_from
from model_operator.api.activation import FIRST_PORT, GRPC_BELOW, LAST_PORT, TOKEN_KEY

helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")

CHART = Path(__file__).resolve().parents[3] / "helm" / "modeldeploy"
ON = {"activator": {"enabled": True}}
VALUES: dict[str, dict[str, Any]] = {
    "alone": ON,
    "two namespaces": {**ON, "watch": {"namespaces": ["team-a", "team-b"]}},
    "everything": {
        "activator": {
            "enabled": True,
            "replicas": 3,
            "holdSeconds": 600,
            "maxHeld": 10,
            "requestsPerPod": 2,
            "maxGrpcMessageBytes": 10_485_760,
        },
        "fullnameOverride": "x" * 63,
        "image": {"pullSecrets": [{"name": "mirror"}]},
        "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
    },
}
CASES = [pytest.param(values, id=case) for case, values in VALUES.items()]


def render(values: dict[str, Any], component: str = "activator") -> list[dict[str, Any]]:
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="md", namespace="serving")
    texts = [text for file, text in files.items() if file.endswith(".yaml")]
    objects = [document for text in texts for document in yaml.safe_load_all(text) if document]
    return [one for one in objects if one["metadata"]["labels"].get("app.kubernetes.io/component") == component]


def only(kind: str, values: dict[str, Any], component: str = "activator") -> dict[str, Any]:
    (found,) = [one for one in render(values, component) if one["kind"] == kind]
    return found


def container(values: dict[str, Any], component: str = "activator") -> dict[str, Any]:
    found: dict[str, Any] = only("Deployment", values, component)["spec"]["template"]["spec"]["containers"][0]
    return found


def test_it_is_off_unless_asked_for_and_the_operator_knows() -> None:
    assert render({}) == []
    names = [one["name"] for one in container({}, "operator")["env"]]
    assert "MODEL_OPERATOR_ACTIVATOR_SERVICE" not in names


@pytest.mark.parametrize("values", CASES)
def test_every_object_is_valid_for_kubernetes(values: dict[str, Any]) -> None:
    for one in render(values):
        assert len(one["metadata"]["name"]) <= 63
        if one["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("values", CASES)
def test_its_settings_are_those_of_the_process(values: dict[str, Any]) -> None:
    given = {one["name"]: one.get("value", "token") for one in container(values)["env"]}
    told = settings_from({name: text for name, text in given.items() if name.startswith("MODEL_ACTIVATOR_")})
    wanted = values["activator"]
    defaults = Settings(token="token")
    assert told.hold_seconds == wanted.get("holdSeconds", defaults.hold_seconds)
    assert told.max_held == wanted.get("maxHeld", defaults.max_held)
    assert told.max_held_per_model == wanted.get("maxHeldPerModel", defaults.max_held_per_model)
    assert told.requests_per_pod == wanted.get("requestsPerPod", defaults.requests_per_pod)
    assert told.max_grpc_message_bytes == wanted.get("maxGrpcMessageBytes", defaults.max_grpc_message_bytes)
    ports = {one["name"]: one["containerPort"] for one in container(values)["ports"]}
    assert ports == {"metrics": told.metrics_port, "control": told.control_port}


@pytest.mark.parametrize("values", CASES)
def test_what_is_held_is_answered_before_a_pod_ends(values: dict[str, Any]) -> None:
    spec = only("Deployment", values)["spec"]["template"]["spec"]
    given = {one["name"]: one.get("value", "token") for one in container(values)["env"]}
    assert spec["terminationGracePeriodSeconds"] > int(given["MODEL_ACTIVATOR_HOLD_SECONDS"])


@pytest.mark.parametrize("values", CASES)
def test_the_operator_finds_it_and_shares_its_token(values: dict[str, Any]) -> None:
    service = only("Service", values)
    told = {one["name"]: one for one in container(values, "operator")["env"]}
    assert told["MODEL_OPERATOR_ACTIVATOR_SERVICE"]["value"] == service["metadata"]["name"]
    reference = next(one for one in container(values)["env"] if one["name"] == "MODEL_ACTIVATOR_TOKEN")["valueFrom"]
    assert reference["secretKeyRef"]["name"] == told["MODEL_OPERATOR_TOKEN_SECRET_NAME"]["value"]
    assert reference["secretKeyRef"]["key"] == TOKEN_KEY
    assert "control" in [port["name"] for port in service["spec"]["ports"]]


def test_it_has_no_right_in_the_api_and_the_operator_no_more_than_to_find_it() -> None:
    spec = only("Deployment", ON)["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    (binding,) = [one for one in render(ON) if "Binding" in one["kind"]]
    assert [subject["name"] for subject in binding["subjects"]] == ["md-modeldeploy"]
    assert only("Role", ON)["rules"] == [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]}
    ]


def test_its_policy_opens_the_ports_of_models_to_everybody_and_its_control_to_the_operator() -> None:
    spec = only("NetworkPolicy", ON)["spec"]
    models, metrics, control = spec["ingress"]
    assert models == {"ports": [{"port": FIRST_PORT - GRPC_BELOW, "endPort": LAST_PORT, "protocol": "TCP"}]}
    assert metrics["ports"][0]["port"] == "metrics"
    operator = only("Deployment", ON, "operator")["spec"]["selector"]["matchLabels"]
    assert control["from"] == [{"podSelector": {"matchLabels": operator}}]
    (egress,) = spec["egress"]
    (to,) = egress["to"]
    assert to["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "model-server"


@pytest.mark.parametrize(
    ("values", "word"),
    [({"replicas": 0}, "replicas"), ({"holdSeconds": "5m"}, "holdSeconds"), ({"hold": 5}, "hold")],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], word: str) -> None:
    with pytest.raises(Exception, match=word):
        render({"activator": {"enabled": True, **values}})
