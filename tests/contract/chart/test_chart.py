"""The chart, rendered by the real Helm engine: what it makes is valid, safe, and follows its values."""

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from model_operator.clients import kinds as kinds_of_operator
from model_operator.settings import settings_from

helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "modeldeploy"
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()

VALUES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "one replica": {"replicas": 1},
    "two namespaces": {"watch": {"namespaces": ["team-a", "team-b"]}},
    "everything on": {
        "fullnameOverride": "serving",
        "image": {"registry": "mirror.example.com:5000/x", "pullSecrets": [{"name": "mirror"}]},
        "metrics": {
            "port": 9999,
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        },
        "grafana": {"dashboards": {"enabled": True, "annotations": {"grafana_folder": "Models"}}},
        "networkPolicy": {"enabled": True},
        "serviceAccount": {"name": "op", "annotations": {"a": "b"}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "ml"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "x", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "priorityClassName": "system-cluster-critical",
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
    },
    "nothing optional": {
        "rbac": {"create": False},
        "serviceAccount": {"create": False},
        "podDisruptionBudget": {"enabled": False},
        "aggregateRoles": False,
    },
}


def render(values: dict[str, Any], *, name: str = "md", namespace: str = "serving") -> list[dict[str, Any]]:
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(values, name=name, namespace=namespace)
    texts = [text for file, text in files.items() if file.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def only(kind: str, objects: list[dict[str, Any]]) -> dict[str, Any]:
    found = [one for one in objects if one["kind"] == kind]
    assert len(found) == 1, f"{len(found)} of kind {kind}"
    return found[0]


def kinds(values: dict[str, Any]) -> set[str]:
    return {one["kind"] for one in render(values)}


def container(values: dict[str, Any]) -> dict[str, Any]:
    return only("Deployment", render(values))["spec"]["template"]["spec"]["containers"][0]


def env(values: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container(values)["env"]}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", [pytest.param(values, id=case) for case, values in VALUES.items()])
def test_every_object_is_valid_for_kubernetes(values: dict[str, Any], version: str) -> None:
    for one in render(values):
        if one["kind"] not in {"ServiceMonitor", "PrometheusRule"}:  # not Kubernetes' own
            kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("values", [pytest.param(values, id=case) for case, values in VALUES.items()])
def test_objects_have_distinct_names_and_the_release_namespace(values: dict[str, Any]) -> None:
    objects = render(values)
    keys = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects]
    assert len(keys) == len(set(keys))
    cluster_wide = {"ClusterRole", "ClusterRoleBinding"}
    watched = set(values.get("watch", {}).get("namespaces", ()))
    for kind, namespace, _ in keys:
        assert (namespace is None) == (kind in cluster_wide)
        assert namespace in {None, "serving"} | watched


def test_helm_finds_nothing_to_complain_about() -> None:
    findings = helm.lint(str(CHART))
    assert findings["errors"] == []
    assert not [one for one in findings["messages"] if one["severity"] > 1]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        pytest.param({"replicas": "two"}, "replicas", id="a wrong type"),
        pytest.param({"replicas": -1}, "replicas", id="a number out of range"),
        pytest.param({"replica": 1}, "replica", id="an unknown value"),
        pytest.param({"image": {"tag": "1"}}, "tag", id="an unknown value further in"),
        pytest.param({"logLevel": "loud"}, "logLevel", id="a word that is not on the list"),
        pytest.param({"image": {"registry": "https://mirror"}}, "registry", id="a registry with a scheme"),
        pytest.param({"watch": {"namespaces": ["A_B"]}}, "namespaces", id="a namespace that cannot be"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with (
        helm.Chart.load(str(CHART)) as chart,
        pytest.raises(helm.HelmError, match=named),
    ):
        chart.validate_schema(values)


def test_the_schema_knows_every_value_that_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(defaults) == set(schema["properties"]) - {"global"}


def test_one_value_moves_every_image_to_a_mirror() -> None:
    values = {"image": {"registry": "mirror.example.com/x/"}}
    assert container(values)["image"] == "mirror.example.com/x/modeldeploy/operator:0.1.0"
    assert env(values)["MODEL_OPERATOR_SERVER_IMAGE"] == "mirror.example.com/x/modeldeploy/server:0.1.0"


def test_versions_of_chart_and_project_are_the_same() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'\nversion = "{chart["appVersion"]}"\n' in project
    assert chart["version"] == chart["appVersion"]


def test_with_namespaces_no_right_reaches_beyond_them() -> None:
    values = {"watch": {"namespaces": ["team-a", "team-b"]}}
    assert not kinds(values) & {"ClusterRole", "ClusterRoleBinding"}
    roles = [one["metadata"] for one in render(values) if one["kind"] == "Role"]
    assert {one["namespace"] for one in roles} == {"team-a", "team-b", "serving"}
    assert env(values)["MODEL_OPERATOR_WATCH_NAMESPACES"] == "team-a,team-b"


def test_without_a_namespace_the_operator_watches_all() -> None:
    assert "MODEL_OPERATOR_WATCH_NAMESPACES" not in env({})
    assert {"ClusterRole", "ClusterRoleBinding"} <= kinds({})


@pytest.mark.parametrize("values", [pytest.param(values, id=case) for case, values in VALUES.items()])
def test_the_operator_understands_what_the_chart_tells_it(values: dict[str, Any]) -> None:
    told = {name: value if isinstance(value, str) else "from-the-pod" for name, value in env(values).items()}
    settings = settings_from(told)
    assert settings.server_image.endswith("modeldeploy/server:0.1.0")
    assert settings.lease_namespace == "from-the-pod"
    ports = {one["name"]: one["containerPort"] for one in container(values)["ports"]}
    assert ports == {"metrics": settings.metrics_port, "health": settings.health_port}


def role(values: dict[str, Any], kind: str, name: str) -> list[tuple[str, str, str]]:
    (found,) = [one for one in render(values) if one["kind"] == kind and one["metadata"]["name"] == name]
    return flat(found["rules"])


def flat(rules: list[dict[str, list[str]]]) -> list[tuple[str, str, str]]:
    """One entry for each group, resource and verb."""
    return sorted(
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


def test_the_role_is_exactly_what_the_operator_uses() -> None:
    used = flat(kinds_of_operator.rbac_rules())
    assert role({}, "ClusterRole", "serving-md-modeldeploy") == used
    assert role({"watch": {"namespaces": ["team-a"]}}, "Role", "serving-md-modeldeploy") == used
    reader = flat(kinds_of_operator.rbac_rules(read_secrets=True))
    assert role({"rbac": {"readSecrets": True}}, "ClusterRole", "serving-md-modeldeploy") == reader


def test_the_lease_is_all_that_the_operator_may_write_in_its_own_namespace() -> None:
    lease = kinds_of_operator.LEASE
    used = sorted((lease.group, lease.plural, verb) for verb in lease.verbs)
    assert role({}, "Role", "md-modeldeploy-lease") == used


def test_a_budget_for_disruptions_needs_a_second_replica() -> None:
    assert "PodDisruptionBudget" in kinds({"replicas": 2})
    assert "PodDisruptionBudget" not in kinds({"replicas": 1})


def test_optional_objects_appear_when_asked_for() -> None:
    optional = {"ServiceMonitor", "PrometheusRule", "ConfigMap", "NetworkPolicy"}
    assert not kinds({}) & optional
    assert optional <= kinds(VALUES["everything on"])


def test_the_pod_meets_the_restricted_standard() -> None:
    pod = only("Deployment", render({}))["spec"]["template"]["spec"]
    security = pod["containers"][0]["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["containers"][0]["resources"]["limits"]["memory"]


def test_the_service_leads_to_the_pods() -> None:
    objects = render({}, name="other")
    selector = only("Service", objects)["spec"]["selector"]
    labels = only("Deployment", objects)["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()


def test_releases_of_one_name_in_two_namespaces_do_not_meet() -> None:
    def cluster_wide(namespace: str) -> set[tuple[str, str]]:
        objects = render({}, name="modeldeploy", namespace=namespace)
        return {(one["kind"], one["metadata"]["name"]) for one in objects if "namespace" not in one["metadata"]}

    assert cluster_wide("team-a") & cluster_wide("team-b") == set()
    assert ("ClusterRole", "modeldeploy") in cluster_wide("modeldeploy")


def test_what_is_requested_for_users_can_be_limited() -> None:
    values = {"egress": {"hosts": ["*.monitoring.svc", "hooks.example.com"], "networks": ["10.9.0.0/16"]}}
    assert env(values)["MODEL_OPERATOR_EGRESS_HOSTS"] == "*.monitoring.svc,hooks.example.com"
    assert env(values)["MODEL_OPERATOR_EGRESS_NETWORKS"] == "10.9.0.0/16"
    assert "MODEL_OPERATOR_EGRESS_HOSTS" not in env({})
