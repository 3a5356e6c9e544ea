"""What a ModelPool makes, and what its status says."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from model_operator.api.names import POOL
from model_operator.api.pool import ModelPool, PoolSample
from model_operator.engine.pools.samples import is_worth_a_write
from model_operator.errors import InvalidSpec, NotAllowed
from model_operator.manifests.pod_policy import PodPolicy, check_pool_template
from model_operator.manifests.pods import PodSettings
from model_operator.manifests.pool import beside, pool_objects, template_of
from model_operator.observation.values import PodProblem
from model_operator.policy.pools import events, invalid_status, pool_status

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
SETTINGS = PodSettings(image="server:1", token_secret=b"secret")
MODELS: list[dict[str, Any]] = [
    {"name": "a", "storageUri": "s3://m/a", "sha256": "0" * 64},
    {"name": "b", "storageUri": "pvc://claim/b", "trusted": True, "concurrency": 4},
]


def pool(models: list[dict[str, Any]] | None = None, status: dict[str, Any] | None = None, **spec: Any) -> ModelPool:
    metadata = {"namespace": "team", "name": "small", "uid": "u1", "generation": 3}
    body = {"metadata": metadata, "spec": {"models": MODELS if models is None else models, **spec}}
    return ModelPool.from_body({**body, **({"status": status} if status else {})})


def rendered(one: ModelPool) -> dict[str, dict[str, Any]]:
    return {body["kind"]: body for body in pool_objects(one, SETTINGS)}


def variables(one: ModelPool) -> dict[str, str]:
    (container,) = rendered(one)["Deployment"]["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def test_the_list_has_what_is_no_default() -> None:
    text = rendered(pool())["ConfigMap"]["data"]["models.json"]
    assert orjson.loads(text) == {"models": MODELS}


def test_another_list_is_the_same_pod_template() -> None:
    before, after = rendered(pool()), rendered(pool([*MODELS, {"name": "c", "storageUri": "s3://m/c"}]))
    assert before["Deployment"] == after["Deployment"]
    assert before["ConfigMap"] != after["ConfigMap"]


def test_pods_have_the_settings_of_a_pool_and_none_of_one_model() -> None:
    found = variables(pool(memoryBudget="512Mi", processes=3, server={"env": [{"name": "HTTPS_PROXY", "value": "p"}]}))
    assert found["MODEL_SERVER_POOL_MEMORY_BYTES"] == str(512 * 2**20)
    assert found["MODEL_SERVER_POOL_PROCESSES"] == "3"
    assert found["HTTPS_PROXY"] == "p"
    assert not [name for name in found if "STORAGE_URI" in name or "SHADOW" in name or "WORKERS" in name]


def test_the_server_takes_every_setting_that_pods_get() -> None:
    from model_server.pool.settings import read_pool_settings

    limits = [{"key": "mobile", "requestsPerSecond": 5}]
    auth = {"secretName": "keys", "protect": ["metrics"], "limits": limits}
    signature = {"publicKey": {"secretName": "release", "key": "model.pub"}}
    common: dict[str, Any] = {"secretName": "s", "ca": {"configMapName": "c"}, "signature": signature}
    given = variables(pool(**common, server={"auth": auth, "grpcPort": 9000}))
    settings, server = read_pool_settings(given | {"MODEL_SERVER_NAMESPACE": "team"})
    assert settings.memory_bytes == 2**30
    assert server.auth_dir is not None
    assert server.auth_limits == ("mobile:rate=5",)
    assert (server.auth_protect, server.grpc_port) == (("metrics",), 9000)
    assert server.shadow_token_sha256, "the operator reads protected metrics with its token"
    assert str(server.ca_file).endswith("ca.crt")
    assert str(server.signature_public_key).endswith("signature/model.pub")
    identity = {"subject": "ci@example.com", "issuer": "https://accounts.example.com"}
    _, server = read_pool_settings(variables(pool(signature={"identity": identity})))
    assert (server.signature_identity, server.signature_issuer) == ("ci@example.com", "https://accounts.example.com")


def test_without_protected_metrics_pods_have_no_token() -> None:
    assert not [name for name in variables(pool(server={"auth": {"secretName": "keys"}})) if "TOKEN" in name]


def test_the_service_has_the_ports_of_the_pods() -> None:
    found = rendered(pool(server={"grpcPort": 9000, "tls": {"secretName": "cert"}}))
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    ports = [(one["name"], one["port"]) for one in found["Service"]["spec"]["ports"]]
    assert ports == [("https", 443), ("grpc", 9000)]
    assert [one["name"] for one in container["ports"]] == ["https", "grpc"]


def test_an_overlay_is_merged_and_keeps_the_labels_of_the_selector() -> None:
    sidecar = {"name": "proxy", "image": "proxy:1"}
    server = {"name": "server", "env": [{"name": "MODEL_SERVER_EXPLANATIONS", "value": "true"}]}
    spec = {"serviceAccountName": "reader", "imagePullSecrets": [{"name": "pull"}], "containers": [server, sidecar]}
    overlay = {"metadata": {"labels": {POOL: "other", "team": "a"}}, "spec": spec}
    template = rendered(pool(server={"podTemplate": overlay}))["Deployment"]["spec"]["template"]
    assert template["metadata"]["labels"].items() >= {POOL: "small", "team": "a"}.items()
    assert (template["spec"]["serviceAccountName"], len(template["spec"]["containers"])) == ("reader", 2)
    env = {one["name"]: one.get("value") for one in template["spec"]["containers"][0]["env"]}
    assert env.items() >= {"MODEL_SERVER_EXPLANATIONS": "true", "MODEL_SERVER_POOL_PROCESSES": "2"}.items()


@pytest.mark.parametrize(
    ("spec", "kinds"),
    [
        pytest.param({}, [], id="one pod, and no Prometheus"),
        pytest.param({"replicas": 2}, ["PodDisruptionBudget"], id="several pods are not evicted at once"),
        pytest.param({"monitoring": {"serviceMonitor": True}}, ["ServiceMonitor"], id="Prometheus is told"),
    ],
)
def test_what_a_pool_serves_without(spec: dict[str, Any], kinds: list[str]) -> None:
    assert [one["kind"] for one in beside(pool(**spec), SETTINGS)] == kinds


def test_prometheus_sends_a_key_and_finds_the_pods_by_their_service() -> None:
    auth = {"secretName": "keys", "protect": ["metrics"]}
    monitoring = {"serviceMonitor": True, "scrapeKey": "prometheus"}
    settings = PodSettings(image="server:1", monitoring_labels=(("release", "prometheus"),))
    (found,) = beside(pool(server={"auth": auth}, monitoring=monitoring), settings)
    (endpoint,) = found["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    assert endpoint["authorization"]["credentials"] == {"name": "keys", "key": "prometheus"}
    assert found["metadata"]["labels"]["release"] == "prometheus"
    service = rendered(pool())["Service"]["metadata"]["labels"]
    assert found["spec"]["selector"]["matchLabels"].items() <= service.items()


def test_a_pod_that_does_not_start_is_told_with_its_reason() -> None:
    problem = PodProblem(reason="SettingsInvalid", message="/keys holds no API key")
    status = pool_status(pool(), deployment(0), [], NOON, problem=problem)
    assert status["message"] == "0 of 1 pods are ready: SettingsInvalid: /keys holds no API key"
    ready = next(one for one in status["conditions"] if one["type"] == "Ready")
    assert (ready["reason"], ready["message"]) == ("PodsNotReady", status["message"])
    assert "SettingsInvalid" not in str(pool_status(pool(), deployment(1), [], NOON, problem=problem)), "all are ready"


def test_an_object_that_is_refused_is_told_and_the_pool_serves() -> None:
    status = pool_status(pool(), deployment(1), [], NOON, refused="ServiceMonitor small cannot be written: no")
    valid = next(one for one in status["conditions"] if one["type"] == "SpecValid")
    assert (status["phase"], valid["status"], valid["reason"]) == ("Ready", "False", "ApplyFailed")
    assert status["message"].endswith("; ServiceMonitor small cannot be written: no")


def check(one: ModelPool) -> None:
    overlay = one.spec.server.pod_template
    check_pool_template("team", template_of(one, SETTINGS), overlay, SETTINGS, PodPolicy())


def test_an_image_that_the_policy_does_not_list_is_refused_where_it_was_written() -> None:
    with pytest.raises(NotAllowed, match=r"^spec\.server\.image "):
        check(pool(server={"image": "elsewhere/server:1"}))
    container = {"name": "server", "image": "elsewhere/server:1"}
    with pytest.raises(NotAllowed, match=r"^spec\.server\.podTemplate\.spec\.containers\[server\]\.image "):
        check(pool(server={"podTemplate": {"spec": {"containers": [container]}}}))
    with pytest.raises(NotAllowed, match=r"^spec\.server\.podTemplate\.spec\.hostNetwork "):
        check(pool(server={"podTemplate": {"spec": {"hostNetwork": True}}}))
    check(pool())


def test_claims_are_mounted_once() -> None:
    models = [{"name": f"m{number}", "storageUri": f"pvc://claim/{number}"} for number in range(5)]
    spec = rendered(pool(models))["Deployment"]["spec"]["template"]["spec"]
    claims = [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    assert len(claims) == 1


def test_a_list_that_no_config_map_holds_is_refused() -> None:
    models = [{"name": f"m{number}", "storageUri": f"s3://m/{'x' * 1000}"} for number in range(1000)]
    with pytest.raises(InvalidSpec, match="make several pools"):
        pool_objects(pool(models), SETTINGS)


def deployment(ready: int, *, generation: int = 1) -> dict[str, Any]:
    found = {"observedGeneration": 1, "readyReplicas": ready, "updatedReplicas": ready, "replicas": ready}
    return {"metadata": {"generation": generation}, "status": found}


@pytest.mark.parametrize(
    ("live", "samples", "phase", "message"),
    [
        pytest.param(None, [], "Pending", "0 of 1 pods are ready", id="nothing is there yet"),
        pytest.param(deployment(1), [], "Ready", "2 models, 0 in memory", id="ready without a word of the pods"),
        pytest.param(
            deployment(1),
            [PoolSample(loaded=2, failed=0), PoolSample(loaded=1, failed=0)],
            "Ready",
            "2 models, 2 in memory",
            id="the fullest pod counts",
        ),
        pytest.param(
            deployment(1),
            [PoolSample(loaded=1, failed=1, failures=(("b", "ModelPutAside"),))],
            "Degraded",
            "1 failed: b (ModelPutAside)",
            id="a failed model is named",
        ),
        pytest.param(deployment(1, generation=2), [], "Degraded", "2 models", id="pods of an old template are not all"),
    ],
)
def test_the_phase(live: dict[str, Any] | None, samples: list[PoolSample], phase: str, message: str) -> None:
    status = pool_status(pool(), live, samples, NOON)
    assert status["phase"] == phase
    assert message in status["message"]
    assert status["selector"] == f"{POOL}=small"


def test_an_invalid_spec_keeps_the_rest_of_the_status() -> None:
    before = pool_status(pool(), deployment(1), [], NOON)
    body = dict(pool(status=before).body)
    status = invalid_status(body, "InvalidSpec", "no", NOON)
    assert (status["phase"], status["models"], status["message"]) == ("Ready", 2, "no")
    assert {one["type"]: one["status"] for one in status["conditions"]}["SpecValid"] == "False"


def test_a_failed_model_is_an_event_once() -> None:
    good, bad = (pool_status(pool(), deployment(1), [PoolSample(loaded=1, failed=failed)], NOON) for failed in (0, 1))
    assert [one.reason for one in events({}, good)] == ["PoolReady"]
    assert [one.reason for one in events(good, bad)] == ["PoolDegraded"]
    assert [one.reason for one in events(bad, {**bad, "failed": 2})] == ["ModelsFailed"]
    assert events(bad, bad) == []


@pytest.mark.parametrize("budget", ["5Mi", "60M"])
def test_a_budget_that_the_server_refuses_is_refused_here(budget: str) -> None:
    with pytest.raises(InvalidSpec, match="less than 64Mi"):
        pool(memoryBudget=budget)


@pytest.mark.parametrize(
    ("told", "found", "seconds", "expected"),
    [
        pytest.param((3, 0), (3, 0), 1000, False, id="nothing has changed"),
        pytest.param((3, 0), (4, 0), 5, False, id="models come and go all day"),
        pytest.param((3, 0), (4, 0), 30, True, id="their number is told now and then"),
        pytest.param((3, 0), (3, 1), 1, True, id="a failure is told at once"),
        pytest.param((3, 1), (3, 0), 1, True, id="and so is its end"),
    ],
)
def test_samples_that_are_worth_a_write(
    told: tuple[int, int], found: tuple[int, int], seconds: float, expected: bool
) -> None:
    before, after = ((PoolSample(loaded=loaded, failed=failed),) for loaded, failed in (told, found))
    assert is_worth_a_write(before, after, seconds=seconds) is expected
