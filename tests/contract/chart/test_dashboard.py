"""The dashboard of the chart: off unless asked for, reads and nothing else, and is started as the command knows it."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from modeldeploy.app import build
from modeldeploy.fleet.rates import Rates

helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")

CHART = Path(__file__).resolve().parents[3] / "helm" / "modeldeploy"
ON = {"dashboard": {"enabled": True}}
FROM = [{"podSelector": {"matchLabels": {"app": "oauth2-proxy"}}}]
RATES = {"currency": "EUR", "cpuHour": 0.04}
VALUES: dict[str, dict[str, Any]] = {
    "alone": ON,
    "two namespaces": {**ON, "watch": {"namespaces": ["team-a", "team-b"]}},
    "everything": {
        "dashboard": {"enabled": True, "replicas": 2, "port": 9000, "networkPolicy": {"from": FROM}, "rates": RATES},
        "fullnameOverride": "x" * 63,
        "image": {"pullSecrets": [{"name": "mirror"}]},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "x", "operator": "Exists"}],
    },
}
CASES = [pytest.param(values, id=case) for case, values in VALUES.items()]


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of the dashboard."""
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="md", namespace="serving")
    texts = [text for file, text in files.items() if file.endswith(".yaml")]
    objects = [document for text in texts for document in yaml.safe_load_all(text) if document]
    return [one for one in objects if one["metadata"]["labels"].get("app.kubernetes.io/component") == "dashboard"]


def only(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    (found,) = [one for one in render(values) if one["kind"] == kind]
    return found


def test_it_is_off_unless_asked_for() -> None:
    assert render({}) == []


@pytest.mark.parametrize("values", CASES)
def test_every_object_is_valid_for_kubernetes(values: dict[str, Any]) -> None:
    objects = render(values)
    assert {"Deployment", "Service", "ServiceAccount", "NetworkPolicy"} <= {one["kind"] for one in objects}
    for one in objects:
        assert len(one["metadata"]["name"]) <= 63
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("values", CASES)
def test_it_reads_models_pools_pods_and_events_and_nothing_else(values: dict[str, Any]) -> None:
    roles = [one for one in render(values) if one["kind"] in ("Role", "ClusterRole")]
    rights = {
        (resource, verb)
        for role in roles
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {resource for resource, _ in rights} == {"modeldeployments", "modelpools", "pods", "events"}
    assert {verb for _, verb in rights} == {"get", "list", "watch"}


def test_with_namespaces_no_right_reaches_beyond_them() -> None:
    objects = render(VALUES["two namespaces"])
    assert not {one["kind"] for one in objects} & {"ClusterRole", "ClusterRoleBinding"}
    assert {one["metadata"]["namespace"] for one in objects if one["kind"] == "Role"} == {"team-a", "team-b"}


@pytest.mark.parametrize("values", CASES)
def test_the_command_line_knows_its_arguments(values: dict[str, Any]) -> None:
    pod = only("Deployment", values)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command: Any = typer.main.get_command(build())
    name, *arguments = container["args"]
    parsed = command.commands[name].make_context(name, list(arguments)).params
    assert parsed["shared"] is True
    assert parsed["port"] == container["ports"][0]["containerPort"]
    assert parsed["all_namespaces"] is ("watch" not in values)
    assert parsed["namespaces"] == (",".join(values["watch"]["namespaces"]) if "watch" in values else None)


def test_the_pod_meets_the_restricted_standard() -> None:
    pod = only("Deployment", ON)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_service_and_policy_lead_to_its_pods_alone() -> None:
    labels = only("Deployment", ON)["spec"]["template"]["metadata"]["labels"]
    assert only("Service", ON)["spec"]["selector"].items() <= labels.items()
    selector = only("NetworkPolicy", ON)["spec"]["podSelector"]["matchLabels"]
    assert selector["app.kubernetes.io/component"] == "dashboard"
    assert selector.items() <= labels.items()


def test_rates_are_read_from_a_config_map() -> None:
    values = VALUES["everything"]
    mapped = only("ConfigMap", values)
    assert Rates.from_document(yaml.safe_load(mapped["data"]["rates.yaml"])) == Rates(currency="EUR", cpu_hour=0.04)
    pod = only("Deployment", values)["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "rates"]
    assert f"--rates={mount['mountPath']}/rates.yaml" in container["args"]
    assert {"name": "rates", "configMap": {"name": mapped["metadata"]["name"]}} in pod["spec"]["volumes"]
    other = {"dashboard": {**values["dashboard"], "rates": {**RATES, "cpuHour": 0.05}}}
    assert only("Deployment", other)["spec"]["template"]["metadata"]["annotations"] != pod["metadata"]["annotations"]
    assert "annotations" not in only("Deployment", ON)["spec"]["template"]["metadata"]


def test_who_may_reach_it_can_be_limited() -> None:
    assert "from" not in only("NetworkPolicy", ON)["spec"]["ingress"][0]
    assert only("NetworkPolicy", VALUES["everything"])["spec"]["ingress"][0]["from"] == FROM
