"""The chart, rendered by the real Helm engine: what it makes is valid, safe, and follows its values."""

import json
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from model_operator.api.names import own_labels
from model_operator.api.resource import TOKENS
from model_operator.clients import kinds as kinds_of_operator
from model_operator.manifests.pods import SHADOW_PORT
from model_operator.settings import settings_from

helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this machine")

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "modeldeploy"
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()

ADMISSION = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
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
        "rolloutVerbs": {"enabled": True},
        "networkPolicy": {"metricsFrom": [{"namespaceSelector": {}}], "modelNamespaces": ["team-a"]},
        "trafficPolicy": {
            "gateways": [
                {
                    "namespace": "infra",
                    "name": "shared",
                    "sectionNames": ["https"],
                    "hostnames": ["*.a.example.com", "*"],
                    "fromNamespaces": ["team-*"],
                },
                {
                    "kind": "Service",
                    "group": "",
                    "namespace": "a",
                    "name": "x",
                    "hostnames": ["*"],
                    "fromNamespaces": ["a"],
                },
            ]
        },
        "monitoring": {"labels": {"release": "prometheus"}, "namespaces": ["team-*"]},
        "rbac": {"secretNamespaces": ["team-a"]},
        "podPolicy": "baseline",
        "podPolicyExceptions": {
            "namespaces": {"team-gpu": "privileged", "team-c": "restricted"},
            "images": ["registry.example.com/ml/*"],
            "serviceAccounts": ["reader"],
            "hostPaths": ["/var/cache/modeldeploy"],
        },
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
        "podPolicyAdmission": False,
        "networkPolicy": {"enabled": False},
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
    cluster_wide = {"ClusterRole", "ClusterRoleBinding", *ADMISSION}
    watched = {*values.get("watch", {}).get("namespaces", ()), *values.get("rbac", {}).get("secretNamespaces", ())}
    watched |= set(values.get("networkPolicy", {}).get("modelNamespaces", ()))
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
        pytest.param({"image": {"server": {"digest": "sha256:1"}}}, "digest", id="a digest that is none"),
        pytest.param({"image": {"registry": "https://mirror"}}, "registry", id="a registry with a scheme"),
        pytest.param({"watch": {"namespaces": ["A_B"]}}, "namespaces", id="a namespace that cannot be"),
        pytest.param({"trafficPolicy": {"gateways": [{"name": "shared"}]}}, "hostnames", id="a Gateway for nobody"),
        pytest.param({"monitoring": {"namespaces": ["A,B"]}}, "namespaces", id="two namespaces in one"),
        pytest.param({"podPolicy": "strict"}, "podPolicy", id="a pod policy that is not known"),
        pytest.param({"podPolicyExceptions": {"namespaces": {"a": "none"}}}, "namespaces", id="one of a namespace"),
        pytest.param({"podPolicyExceptions": {"images": ["example.com*"]}}, "images", id="the beginning of a host"),
        pytest.param({"podPolicyExceptions": {"hostPaths": ["cache"]}}, "hostPaths", id="a folder nowhere"),
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


def test_a_digest_goes_before_the_tag() -> None:
    digest = f"sha256:{'a' * 64}"
    values = {"image": {"operator": {"tag": "1", "digest": digest}, "server": {"digest": digest}}}
    assert container(values)["image"] == f"modeldeploy/operator@{digest}"
    environment = {one["name"]: one.get("value") for one in container(values)["env"]}
    assert environment["MODEL_OPERATOR_SERVER_IMAGE"] == f"modeldeploy/server@{digest}"


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
    assert not kinds(values) & {
        "ClusterRole",
        "ClusterRoleBinding",
    }  # what is left of the cluster is a rule, not a right
    roles = [one["metadata"] for one in render(values) if one["kind"] == "Role"]
    assert {one["namespace"] for one in roles} == {"team-a", "team-b", "serving"}
    assert env(values)["MODEL_OPERATOR_WATCH_NAMESPACES"] == "team-a,team-b"


@pytest.mark.parametrize(
    ("monitoring", "namespaces"),
    [
        pytest.param({}, ("*",), id="all by default"),
        pytest.param({"namespaces": ["team-*", "shop"]}, ("team-*", "shop"), id="those on the list"),
        pytest.param({"namespaces": []}, (), id="none"),
    ],
)
def test_where_models_may_have_objects_for_prometheus(monitoring: dict[str, Any], namespaces: tuple[str, ...]) -> None:
    variable = "MODEL_OPERATOR_MONITORING_NAMESPACES"
    settings = settings_from({variable: env({"monitoring": monitoring})[variable]})
    assert settings.admission.monitored_namespaces == namespaces


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


def test_the_policy_of_verbs_covers_every_request_and_edit_has_them() -> None:
    values = {"rolloutVerbs": {"enabled": True}}
    (policy,) = [
        one
        for one in render(values)
        if one["metadata"]["name"].endswith("-rollout-verbs") and "validations" in one["spec"]
    ]
    rules = " ".join(one["expression"] for one in policy["spec"]["validations"])
    for token in TOKENS:
        assert f"variables.after[?'modeldeploy.dev/{token}']" in rules
    verbs = {verb for _, _, verb in role(values, "ClusterRole", "serving-md-modeldeploy-edit")}
    checked = {verb for verb in verbs if f"check('{verb}')" in rules}
    assert checked == {"promote", "abort", "retry", "undo", "refresh", "pause"}
    kept = {"rolloutVerbs": {"enabled": True, "aggregateToEdit": False}}
    assert ("modeldeploy.dev", "modeldeployments", "promote") not in role(
        kept, "ClusterRole", "serving-md-modeldeploy-edit"
    )
    assert not [one for one in render({}) if one["metadata"]["name"].endswith("-rollout-verbs")]


@pytest.mark.parametrize("watched", [[], ["team-a", "team-b"]], ids=["all namespaces", "two namespaces"])
def test_secrets_are_read_in_listed_namespaces_alone(watched: list[str]) -> None:
    objects = render({"rbac": {"secretNamespaces": ["team-b"]}, "watch": {"namespaces": watched}})
    readers = [one for one in objects if "secrets" in json.dumps(one.get("rules", ()))]
    own = [one for one in readers if one["metadata"]["namespace"] == "serving"]
    assert [one["rules"][-1]["resourceNames"] for one in own] == [["md-modeldeploy-tokens"]]
    readers = [one for one in readers if one not in own]
    assert [(one["kind"], one["metadata"]["namespace"]) for one in readers] == [("Role", "team-b")]
    secret = kinds_of_operator.SECRET
    assert flat(readers[0]["rules"]) == [(secret.group, secret.plural, verb) for verb in secret.verbs]


def test_the_right_to_read_every_secret_is_refused_with_what_takes_its_place() -> None:
    with pytest.raises(helm.HelmError, match=r"rbac\.secretNamespaces instead"):
        render({"rbac": {"readSecrets": True}})
    assert render({"rbac": {"readSecrets": False}}), "the former default, which an upgrade may repeat"


def test_the_admission_policy_can_be_left_out_and_ends_at_the_watched_namespaces() -> None:
    assert kinds({}) >= ADMISSION
    assert not kinds({"podPolicyAdmission": False}) & ADMISSION
    binding = only("ValidatingAdmissionPolicyBinding", render({"watch": {"namespaces": ["team-a"]}}))
    (wanted,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert (wanted["key"], wanted["values"]) == ("kubernetes.io/metadata.name", ["team-a"])
    assert "matchResources" not in only("ValidatingAdmissionPolicyBinding", render({}))["spec"]


def test_lease_and_tokens_are_all_that_the_operator_may_write_in_its_own_namespace() -> None:
    held = (kinds_of_operator.LEASE, kinds_of_operator.TOKEN_SECRET)
    used = sorted((info.group, info.plural, verb) for info in held for verb in info.verbs)
    assert role({}, "Role", "md-modeldeploy-lease") == used
    (found,) = [
        one for one in render({}) if one["metadata"]["name"] == "md-modeldeploy-lease" and one["kind"] == "Role"
    ]
    names = {verb: rule.get("resourceNames") for rule in found["rules"] for verb in rule["verbs"]}
    lease, tokens = ["md-modeldeploy"], ["md-modeldeploy-tokens"]
    assert names == {"create": None, "get": tokens, "update": lease, "patch": tokens}
    settings = settings_from({name: value if isinstance(value, str) else "x" for name, value in env({}).items()})
    assert ([settings.lease_name], [settings.token_secret_name]) == (lease, tokens)
    assert "data" not in only("Secret", render({})), "an upgrade of the chart would take the tokens back"


def test_a_budget_for_disruptions_needs_a_second_replica() -> None:
    assert "PodDisruptionBudget" in kinds({"replicas": 2})
    assert "PodDisruptionBudget" not in kinds({"replicas": 1})


def test_optional_objects_appear_when_asked_for() -> None:
    optional = {"ServiceMonitor", "PrometheusRule", "ConfigMap"}
    assert not kinds({}) & optional
    assert optional <= kinds(VALUES["everything on"])


def policies(values: dict[str, Any]) -> dict[str, Any]:
    """The NetworkPolicies by namespace."""
    return {one["metadata"]["namespace"]: one["spec"] for one in render(values) if one["kind"] == "NetworkPolicy"}


def test_the_operators_pods_are_reached_for_metrics_and_reach_no_metadata_service() -> None:
    (spec,) = policies({}).values()
    assert spec["ingress"] == [{"ports": [{"port": "metrics", "protocol": "TCP"}]}]
    blocks = [peer["ipBlock"] for rule in spec["egress"] for peer in rule.get("to", ()) if "ipBlock" in peer]
    refused = [ip_network(one) for block in blocks for one in block["except"]]
    metadata = ("169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254")
    for address in (*metadata, "fe80::1"):
        assert any(
            ip_address(address) in network for network in refused if network.version == ip_address(address).version
        )
    everywhere = [rule["ports"] for rule in spec["egress"] if "to" not in rule]
    assert {port["port"] for ports in everywhere for port in ports} == {53, 443, 6443}
    assert policies({"networkPolicy": {"enabled": False}}) == {}


def test_the_port_of_recent_predictions_is_for_the_operators_pods() -> None:
    found = policies({"watch": {"namespaces": ["team-a", "team-b"]}})
    assert set(found) == {"serving", "team-a", "team-b"}
    assert set(policies({"networkPolicy": {"modelNamespaces": ["team-c"]}})) == {"serving", "team-c"}
    assert found["team-a"]["podSelector"]["matchLabels"].items() <= own_labels("fraud").items()
    rules = found["team-a"]["ingress"]
    open_ports = [range(p["port"], p["endPort"] + 1) for p in rules[0]["ports"] if p["protocol"] == "TCP"]
    assert [port for port in range(1, 65536) if not any(port in some for some in open_ports)] == [SHADOW_PORT]
    (peer,) = rules[1]["from"]
    assert [one["port"] for one in rules[1]["ports"]] == [SHADOW_PORT]
    labels = only("Deployment", render({}))["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "serving"}


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
