"""The pod template: every field of the spec that a server acts on reaches it."""

import hashlib
from typing import Any

import kubernetes_validate
import pytest

from model_operator.api.batch import ModelBatch
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.shadow import DIGEST_VARIABLE, shadow_token
from model_operator.api.spec import parse_model, parse_server
from model_operator.api.steps import Evaluate, parse_step
from model_operator.api.values import replace
from model_operator.clients.token_secret import secret_id
from model_operator.manifests.batch import batch_job
from model_operator.manifests.evaluation import evaluation_job
from model_operator.manifests.pods import PodSettings, pod_template, pod_url, protects_metrics
from model_operator.manifests.workload import rendered_by

SETTINGS = PodSettings(image="server:1", image_pull_secrets=("pull",), pre_stop_seconds=3)


PUBLIC_KEY_DIR = "/var/run/secrets/modeldeploy/signature"


def template(model: dict[str, Any] | None = None, server: dict[str, Any] | None = None, **monitoring: Any) -> Any:
    wanted = parse_model({"storageUri": "s3://m/1", **(model or {})})
    return pod_template(
        ObjectKey("team", "fraud"), "bcdfghjk", wanted, parse_server(server or {}, monitoring), SETTINGS
    )


def test_a_pod_is_told_to_estimate_its_quality_only_where_that_is_asked_for() -> None:
    assert environment(estimatedQuality=True)["ESTIMATED_QUALITY"] == "true"
    assert template(estimatedQuality=False) == template()


def environment(*spec: dict[str, Any], **monitoring: Any) -> dict[str, str]:
    (container,) = template(*spec, **monitoring)["spec"]["containers"]
    return {entry["name"].removeprefix("MODEL_SERVER_"): entry.get("value", "") for entry in container["env"]}


IMAGE = f"oci://registry.example.com/models/fraud:7@sha256:{'0' * 64}"
STREAM = {"nats": {"url": "nats://nats:4222"}, "input": "in", "output": "out", "deadLetter": "dead"}


@pytest.mark.parametrize(
    ("model", "server", "variable", "value"),
    [
        pytest.param({}, {}, "STORAGE_URI", "s3://m/1", id="where the model is"),
        pytest.param({"sha256": "ab"}, {}, "SHA256", "ab", id="its pin"),
        pytest.param({"trusted": True}, {}, "TRUSTED", "true", id="trust, as JSON writes it"),
        pytest.param({"pollInterval": "1m30s"}, {}, "POLL_SECONDS", "90.0", id="how often its source is looked at"),
        pytest.param({"cache": {"claimName": "c"}}, {}, "CACHE_DIR", "/var/cache/modeldeploy", id="its cache"),
        pytest.param({"storageUri": IMAGE, "mount": "image"}, {}, "IMAGE_DIR", "/mnt/image", id="its image"),
        pytest.param({}, {"grpcPort": 9000}, "GRPC_PORT", "9000", id="the port for gRPC"),
        pytest.param({}, {"workers": 4}, "WORKERS", "4", id="workers"),
        pytest.param({}, {"batching": {"maxBatchSize": 8}}, "MAX_BATCH_SIZE", "8", id="batching"),
        pytest.param({}, {"inputLog": {"redact": ["a", "b"]}}, "INPUT_LOG_REDACT", "a,b", id="redacted features"),
        pytest.param({}, {"accelerate": "onnx"}, "ACCELERATE", "onnx", id="acceleration"),
        pytest.param(
            {},
            {
                "auth": {
                    "secretName": "k",
                    "limits": [{"key": "b", "concurrency": 8}, {"key": "*", "requestsPerSecond": 1e-5}],
                }
            },
            "AUTH_LIMITS",
            "*:rate=0.00001,b:concurrency=8",
            id="limits of keys, in the order of their names and never with an exponent",
        ),
        pytest.param(
            {},
            {"auth": {"secretName": "k", "protect": ["metrics", "docs"]}},
            "AUTH_PROTECT",
            "docs,metrics",
            id="guards",
        ),
        pytest.param({}, {"stream": STREAM}, "STREAM_URL", "nats://nats:4222", id="the broker of messages"),
        pytest.param({}, {"stream": STREAM}, "STREAM_GROUP", "team_fraud", id="a group that no other model has"),
        pytest.param({}, {"stream": {**STREAM, "group": "g"}}, "STREAM_GROUP", "g", id="a group that was asked for"),
        pytest.param({}, {"stream": STREAM}, "STREAM_MAX_DELIVERIES", "5", id="attempts at a message"),
        pytest.param({}, {"env": [{"name": "X", "value": "1"}]}, "X", "1", id="the person's own variables"),
    ],
)
def test_a_field_reaches_the_server(model: dict[str, Any], server: dict[str, Any], variable: str, value: str) -> None:
    assert environment(model, server)[variable] == value


def test_an_image_is_mounted_by_its_digest_where_the_server_looks_for_it() -> None:
    pod = template({"storageUri": IMAGE, "mount": "image"})["spec"]
    volume = next(one for one in pod["volumes"] if "image" in one)
    assert volume["image"] == {"reference": IMAGE.removeprefix("oci://"), "pullPolicy": "IfNotPresent"}
    mount = next(one for one in pod["containers"][0]["volumeMounts"] if one["name"] == volume["name"])
    assert mount == {"name": volume["name"], "mountPath": "/mnt/image", "readOnly": True}
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "spec": pod}, "1.35", strict=True)
    assert not [one for one in template({"storageUri": IMAGE})["spec"]["volumes"] if "image" in one]


@pytest.mark.parametrize("kind", ["evaluation", "batch"])
def test_jobs_of_a_model_mount_its_image_too(kind: str) -> None:
    metadata = {"name": "fraud", "namespace": "team", "uid": "u", "generation": 1, "resourceVersion": "1"}
    source = {"model": {"storageUri": IMAGE, "mount": "image"}, "server": {}}
    if kind == "evaluation":
        given = {"dataset": "s3://d/a.csv", "target": "y", "metrics": [{"name": "f1", "min": 0}]}
        step = parse_step({"evaluate": given}, "steps[0]")
        assert isinstance(step, Evaluate)
        owner = ModelDeployment.from_body({"metadata": metadata, "spec": {"model": source["model"]}})
        job = evaluation_job(owner, "fraud-evaluate", "bcdfghjk", source, step, SETTINGS)
    else:
        spec = {"model": {"name": "fraud"}, "input": {"uri": "s3://a/b.csv"}, "output": {"uri": "s3://a/c"}}
        metadata["creationTimestamp"] = "2026-01-31T02:00:00Z"
        job = batch_job(ModelBatch.from_body({"metadata": metadata, "spec": spec}), "bcdfghjk", source, SETTINGS)
    pod = job["spec"]["template"]["spec"]
    mounted = {volume["name"] for volume in pod["volumes"] if "image" in volume}
    assert mounted <= {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert len(mounted) == 1


def test_a_pod_is_told_who_consumes_by_a_file_that_changes_under_it() -> None:
    pod = template({}, {"stream": {**STREAM, "secretName": "broker"}})["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["stream-revisions"]["configMap"] == {"name": "fraud-stream", "optional": True}
    assert volumes["stream"]["secret"] == {"secretName": "broker"}
    mounts = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
    found = environment({}, {"stream": {**STREAM, "secretName": "broker"}})
    assert found["STREAM_REVISIONS"] == f"{mounts['stream-revisions']}/revisions"
    assert found["STREAM_CREDENTIALS_DIR"] == mounts["stream"]


def test_certificates_for_the_broker_are_files() -> None:
    encrypted = {**STREAM, "nats": {"url": "tls://nats:4222"}, "tls": {"secretName": "nats-tls"}}
    pod = template({}, {"stream": encrypted})["spec"]
    assert {"name": "stream-tls", "secret": {"secretName": "nats-tls"}} in pod["volumes"]
    mounts = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
    assert environment({}, {"stream": encrypted})["STREAM_TLS_DIR"] == mounts["stream-tls"]


def test_drift_reaches_the_server() -> None:
    found = environment(drift={"reference": "500", "threshold": 0.1})
    assert (found["DRIFT_REFERENCE"], found["DRIFT_THRESHOLD"]) == ("500", "0.1")


def test_data_quality_reaches_the_server() -> None:
    found = environment(dataQuality={"limits": {"outOfRange": 0.125, "outlier": 0.001}})
    assert found["DATA_QUALITY"] == "true"
    limits = "missing:0.05,unseen_category:0.05,out_of_range:0.125,wrong_type:0.05,outlier:0.001"
    assert found["DATA_QUALITY_LIMITS"] == limits
    assert environment(dataQuality={})["DATA_QUALITY"] == "true"


def test_what_is_not_set_is_left_to_the_server() -> None:
    assert not {
        "IMAGE_DIR",
        "SIGNATURE_PUBLIC_KEY",
        "SIGNATURE_IDENTITY",
        "SHA256",
        "VERSION",
        "ACCELERATE",
        "AUTH_DIR",
        "DRIFT_REFERENCE",
        "DATA_QUALITY",
        "DATA_QUALITY_LIMITS",
        "STREAM_URL",
        "STREAM_GROUP",
        "STREAM_REVISIONS",
        "STREAM_TLS_DIR",
    } & set(environment())


def test_secrets_are_mounted_and_never_written_into_the_template() -> None:
    spec = template({"secretName": "s3"}, {"auth": {"secretName": "keys"}})["spec"]
    (container,) = spec["containers"]
    assert {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume} == {"s3", "keys"}
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert all(mount["readOnly"] for mount in container["volumeMounts"] if mount["name"] in ("credentials", "auth"))


@pytest.mark.parametrize(
    ("ca", "source"),
    [
        pytest.param(
            {"configMapName": "trust", "key": "root.pem"},
            {"configMap": {"name": "trust", "items": [{"key": "root.pem", "path": "ca.crt"}]}},
            id="of a ConfigMap",
        ),
        pytest.param(
            {"secretName": "trust"},
            {"secret": {"secretName": "trust", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            id="of a Secret",
        ),
    ],
)
def test_certificate_authorities_are_a_file_that_the_server_trusts(ca: dict[str, str], source: dict[str, Any]) -> None:
    spec = template({"ca": ca})["spec"]
    assert spec["volumes"][-1] == {"name": "ca", **source}
    mount = spec["containers"][0]["volumeMounts"][-1]
    assert (mount["name"], mount["readOnly"]) == ("ca", True)
    assert environment({"ca": ca})["CA_FILE"] == f"{mount['mountPath']}/ca.crt"


def test_the_address_to_listen_on_comes_by_the_overlay() -> None:
    container = {"name": "server", "env": [{"name": "MODEL_SERVER_HOST", "value": "::"}]}
    found = environment({}, {"podTemplate": {"spec": {"containers": [container]}}})
    assert (found["HOST"], found["PORT"]) == ("::", "8080")


@pytest.mark.parametrize(
    ("source", "volume"),
    [
        pytest.param({"secretName": "release"}, {"secret": {"secretName": "release"}}, id="a Secret"),
        pytest.param({"configMapName": "release"}, {"configMap": {"name": "release"}}, id="a ConfigMap"),
    ],
)
def test_of_the_place_of_a_public_key_one_entry_is_mounted(source: dict[str, str], volume: dict[str, Any]) -> None:
    """Beside it may lie the private key, as where cosign made both."""
    model = {"signature": {"publicKey": {**source, "key": "cosign.pub"}}}
    assert environment(model)["SIGNATURE_PUBLIC_KEY"] == f"{PUBLIC_KEY_DIR}/cosign.pub"
    spec = template(model)["spec"]
    ((kind, fields),) = volume.items()
    wanted = {"name": "public-key", kind: {**fields, "items": [{"key": "cosign.pub", "path": "cosign.pub"}]}}
    assert wanted in spec["volumes"]
    mount = {"name": "public-key", "mountPath": PUBLIC_KEY_DIR, "readOnly": True}
    assert mount in spec["containers"][0]["volumeMounts"]


def test_an_identity_that_has_to_have_signed_reaches_the_server() -> None:
    found = environment({"signature": {"identity": {"subject": "a@b.c", "issuer": "https://d.e"}}})
    assert (found["SIGNATURE_IDENTITY"], found["SIGNATURE_ISSUER"]) == ("a@b.c", "https://d.e")
    assert "SIGNATURE_PUBLIC_KEY" not in found


def test_a_workloads_identity_comes_by_the_overlay() -> None:
    overlay = {
        "metadata": {"labels": {"azure.workload.identity/use": "true"}},
        "spec": {"serviceAccountName": "reader"},
    }
    made = template({}, {"podTemplate": overlay})
    assert made["spec"]["serviceAccountName"] == "reader"
    assert made["metadata"]["labels"]["azure.workload.identity/use"] == "true"


def test_a_claim_is_mounted_where_the_server_looks() -> None:
    spec = template({"storageUri": "pvc://models/fraud/1"})["spec"]
    assert spec["volumes"][-1]["persistentVolumeClaim"]["claimName"] == "models"
    assert spec["containers"][0]["volumeMounts"][-1]["mountPath"].endswith("/models")


@pytest.mark.parametrize(
    ("cache", "volume"),
    [
        pytest.param({"claimName": "models"}, {"persistentVolumeClaim": {"claimName": "models"}}, id="a claim"),
        pytest.param(
            {"hostPath": "/var/models"},
            {"hostPath": {"path": "/var/models", "type": "DirectoryOrCreate"}},
            id="a folder of the node",
        ),
    ],
)
def test_a_cache_is_a_volume_that_pods_write_to(cache: dict[str, str], volume: dict[str, Any]) -> None:
    spec = template({"cache": cache})["spec"]
    assert spec["volumes"][-1] == {"name": "cache", **volume}
    assert spec["containers"][0]["volumeMounts"][-1] == {"name": "cache", "mountPath": "/var/cache/modeldeploy"}


def test_grpc_is_a_port_of_the_pod() -> None:
    (container,) = template({}, {"grpcPort": 9000})["spec"]["containers"]
    ports = [(port["name"], port["containerPort"]) for port in container["ports"]]
    assert ports == [("http", 8080), ("shadow", 8089), ("grpc", 9000)]


def test_a_certificate_makes_port_probes_and_the_operators_own_look_https() -> None:
    made = template({}, {"tls": {"secretName": "fraud-tls"}})
    (container,) = made["spec"]["containers"]
    assert container["ports"][0] == {"name": "https", "containerPort": 8080, "protocol": "TCP"}
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert {(probe["scheme"], probe["port"]) for probe in probes} == {("HTTPS", "https")}
    (volume,) = [volume for volume in made["spec"]["volumes"] if volume.get("secret", {}).get("secretName")]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == volume["name"]]
    assert mount["readOnly"]
    assert {"name": "MODEL_SERVER_TLS_DIR", "value": mount["mountPath"]} in container["env"]
    assert pod_url({**made, "status": {"podIP": "10.0.0.7"}}, 8080) == "https://10.0.0.7:8080"


@pytest.mark.parametrize(
    ("status", "url"),
    [
        pytest.param({"podIP": "10.0.0.7"}, "http://10.0.0.7:8080", id="plain where there is no certificate"),
        pytest.param({"podIP": "fd00::7"}, "http://[fd00::7]:8080", id="an address of IPv6"),
        pytest.param({}, "", id="nowhere while it has no address"),
        pytest.param(None, "", id="nowhere before it has a status"),
    ],
)
def test_where_a_pods_server_answers(status: dict[str, str] | None, url: str) -> None:
    assert pod_url({**template(), "status": status}, 8080) == url


def test_a_pod_says_that_its_metrics_are_read_with_the_token() -> None:
    def made(**auth: Any) -> Any:
        return template({}, {"auth": {"secretName": "keys", **auth}})

    assert protects_metrics(made(protect=["docs", "metrics"]))
    assert not protects_metrics(made(protect=["docs"]))
    assert made(protect=["docs"])["metadata"] == made()["metadata"] == template()["metadata"]


def test_a_pod_has_time_to_serve_on_and_to_finish() -> None:
    assert template({}, {"requestTimeoutSeconds": 60})["spec"]["terminationGracePeriodSeconds"] == 3 + 60 + 5


def test_the_pod_runs_as_nobody_with_nothing() -> None:
    spec = template()["spec"]
    security = spec["containers"][0]["securityContext"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_an_overlay_cannot_change_whom_the_service_selects() -> None:
    overlay = {"metadata": {"labels": {"modeldeploy.dev/revision": "other", "team": "risk"}}}
    labels = template({}, {"podTemplate": overlay})["metadata"]["labels"]
    assert labels["modeldeploy.dev/revision"] == "bcdfghjk"
    assert labels["team"] == "risk"


def test_a_pod_holds_the_digest_of_a_token_that_is_its_models_alone() -> None:
    settings = replace(SETTINGS, token_secret=b"x" * 32, token_secret_id="1")

    def variables(namespace: str, name: str, settings: PodSettings = settings) -> dict[str, str]:
        model, server = parse_model({"storageUri": "s3://a/b"}), parse_server({})
        made = pod_template(ObjectKey(namespace, name), "r", model, server, settings)
        return {one["name"]: one.get("value", "") for one in made["spec"]["containers"][0]["env"]}

    token = shadow_token(b"x" * 32, "team", "fraud")
    assert variables("team", "fraud")[DIGEST_VARIABLE] == hashlib.sha256(token.encode()).hexdigest()
    assert token not in str(variables("team", "fraud"))
    others = [("other", "fraud"), ("team", "spam")]
    assert len({variables(*key)[DIGEST_VARIABLE] for key in (*others, ("team", "fraud"))}) == 3
    assert DIGEST_VARIABLE not in variables("team", "fraud", SETTINGS)


def test_another_secret_of_the_installation_restarts_no_pod() -> None:
    first, second = (
        replace(SETTINGS, token_secret=secret, token_secret_id=secret_id(secret)) for secret in (b"1", b"2")
    )
    assert rendered_by(first) != rendered_by(second)
    assert repr(b"1") not in repr(first)
