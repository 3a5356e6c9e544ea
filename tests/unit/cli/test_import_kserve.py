"""InferenceServices as ModelDeployments: what each field becomes, and what is said of those that become nothing."""

from typing import Any

import pytest
from imports import message_about, spec_of, told

from modeldeploy.importing.kserve import convert
from modeldeploy.importing.values import Conversion
from modeldeploy.requests import Refused

IRIS = {"modelFormat": {"name": "sklearn"}, "storageUri": "gs://public/models/iris"}
LOST, CHANGED = "no counterpart", "changed"


def a_service(predictor: dict[str, Any], *, name: str = "iris", **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": predictor},
    } | more


def imported(model: dict[str, Any] | None = None, *, trusted: bool = True, **predictor: Any) -> Conversion:
    return convert(a_service({"model": IRIS | (model or {}), **predictor}), trusted=trusted)


def test_a_service_with_a_model_needs_no_finding() -> None:
    conversion = imported()
    assert spec_of(conversion) == {
        "model": {"storageUri": "gs://public/models/iris", "format": "sklearn", "trusted": True}
    }
    assert (conversion.name, conversion.metadata) == ("iris", {"name": "iris", "format": "sklearn"})
    assert conversion.findings == ()


@pytest.mark.parametrize(
    ("predictor", "format_"),
    [
        pytest.param({"sklearn": {"storageUri": "s3://a/b"}}, "sklearn", id="a field for the framework"),
        pytest.param({"pytorch": {"storageUri": "s3://a/b"}}, "torchscript", id="pytorch is TorchScript"),
        pytest.param({"model": {**IRIS, "modelFormat": {"name": "huggingface"}}}, "transformers", id="huggingface"),
        pytest.param({"model": {**IRIS, "modelFormat": {"name": "onnx"}}}, "onnx", id="onnx"),
    ],
)
def test_formats_have_our_names(predictor: dict[str, Any], format_: str) -> None:
    assert spec_of(convert(a_service(predictor)))["model"]["format"] == format_


def test_a_pickle_is_trusted_only_where_the_user_says_so() -> None:
    conversion = imported(trusted=False)
    assert "trusted" not in spec_of(conversion)["model"]
    assert told(conversion) == {"spec.predictor.model": CHANGED}
    onnx = imported({"modelFormat": {"name": "onnx"}})
    assert "trusted" not in spec_of(onnx)["model"]


@pytest.mark.parametrize(
    ("predictor", "expected", "findings"),
    [
        pytest.param({}, {}, {}, id="nothing is said"),
        pytest.param({"minReplicas": 2}, {"replicas": 2}, {}, id="a minimum is the number"),
        pytest.param({"minReplicas": 2, "maxReplicas": 2}, {"replicas": 2}, {}, id="no room to scale"),
        pytest.param(
            {"maxReplicas": 3}, {"autoscaling": {"minReplicas": 1, "maxReplicas": 3}}, {}, id="one is the lowest"
        ),
        pytest.param(
            {"minReplicas": 1, "maxReplicas": 3, "scaleMetric": "cpu", "scaleTarget": 60},
            {"autoscaling": {"minReplicas": 1, "maxReplicas": 3, "targetCPUUtilizationPercentage": 60}},
            {},
            id="cpu",
        ),
        pytest.param(
            {"minReplicas": 1, "maxReplicas": 3, "scaleMetric": "memory", "scaleTarget": 60},
            {"autoscaling": {"minReplicas": 1, "maxReplicas": 3, "targetMemoryUtilizationPercentage": 60}},
            {},
            id="memory",
        ),
        pytest.param(
            {"minReplicas": 1, "maxReplicas": 3, "scaleMetric": "rps", "scaleTarget": 20},
            {"autoscaling": {"minReplicas": 1, "maxReplicas": 3, "targetRequestsPerSecond": 20}},
            {"spec.predictor.scaleMetric": CHANGED},
            id="requests need a metrics API",
        ),
        pytest.param(
            {"minReplicas": 1, "maxReplicas": 3, "scaleMetric": "concurrency", "scaleTarget": 5},
            {"autoscaling": {"minReplicas": 1, "maxReplicas": 3}},
            {"spec.predictor.scaleMetric": LOST},
            id="concurrency is no metric here",
        ),
        pytest.param(
            {"minReplicas": 0, "maxReplicas": 3},
            {"autoscaling": {"minReplicas": 0, "maxReplicas": 3, "idleAfter": "5m"}},
            {"spec.predictor.minReplicas": CHANGED},
            id="to zero is to sleep",
        ),
        pytest.param(
            {"minReplicas": 0},
            {"autoscaling": {"minReplicas": 0, "maxReplicas": 1, "idleAfter": "5m"}},
            {"spec.predictor.minReplicas": CHANGED},
            id="to zero without a highest number",
        ),
        pytest.param(
            {"minReplicas": 2, "scaleTarget": 3},
            {"replicas": 2},
            {"spec.predictor.scaleTarget": LOST},
            id="a target with nothing to scale",
        ),
        pytest.param(
            {"canaryTrafficPercent": 10},
            {"strategy": {"canary": {"steps": [{"setWeight": 10}, {"pause": {}}]}}},
            {"spec.predictor.canaryTrafficPercent": CHANGED},
            id="a share for the canary",
        ),
        pytest.param({"canaryTrafficPercent": 100}, {}, {}, id="all for the newest is no canary"),
        pytest.param({"timeout": 20}, {"server": {"requestTimeoutSeconds": 20}}, {}, id="a time limit"),
        pytest.param(
            {"batcher": {"maxBatchSize": 16, "maxLatency": 5000, "timeout": 60}},
            {"server": {"batching": {"maxBatchSize": 16, "maxDelayMilliseconds": 1000}}},
            {"spec.predictor.batcher.maxLatency": CHANGED, "spec.predictor.batcher.timeout": LOST},
            id="batches wait a second at most",
        ),
        pytest.param(
            {"logger": {"mode": "all", "url": "http://log.example.com"}},
            {"server": {"inputLog": {"sampleRate": 1, "sink": "http://log.example.com"}}},
            {"spec.predictor.logger": CHANGED, "spec.predictor.logger.mode": LOST},
            id="the logger",
        ),
        pytest.param(
            {"serviceAccountName": "reader", "nodeSelector": {"pool": "ml"}},
            {"server": {"podTemplate": {"spec": {"nodeSelector": {"pool": "ml"}, "serviceAccountName": "reader"}}}},
            {"spec.predictor.serviceAccountName": CHANGED, "spec.predictor.nodeSelector": CHANGED},
            id="fields of a Pod",
        ),
        pytest.param(
            {"containerConcurrency": 4, "deploymentStrategy": {"type": "Recreate"}, "workerSpec": {}},
            {},
            {
                "spec.predictor.containerConcurrency": LOST,
                "spec.predictor.deploymentStrategy": LOST,
                "spec.predictor.workerSpec": LOST,
            },
            id="fields without a counterpart",
        ),
    ],
)
def test_what_a_predictor_becomes(
    predictor: dict[str, Any], expected: dict[str, Any], findings: dict[str, str]
) -> None:
    conversion = imported(**predictor)
    spec = spec_of(conversion)
    del spec["model"]
    assert (spec, told(conversion)) == (expected, findings)


def test_the_container_keeps_its_resources_and_variables() -> None:
    resources = {"requests": {"cpu": "100m"}, "limits": {"nvidia.com/gpu": "1"}}
    conversion = imported({"resources": resources, "env": [{"name": "A", "value": "b"}], "args": ["--workers=2"]})
    assert spec_of(conversion)["server"] == {"env": [{"name": "A", "value": "b"}], "resources": resources}
    assert told(conversion) == {
        "spec.predictor.model.env": CHANGED,
        "spec.predictor.model.resources": CHANGED,
        "spec.predictor.model.args": LOST,
    }


def test_metadata_goes_along_without_the_settings_of_others() -> None:
    metadata = {
        "name": "Iris_V2",
        "namespace": "ml",
        "uid": "1",
        "labels": {"team": "a"},
        "annotations": {
            "owner": "ann",
            "serving.kserve.io/deploymentMode": "Standard",
            "autoscaling.knative.dev/target": "5",
        },
    }
    conversion = convert(a_service({"model": IRIS}, metadata=metadata), trusted=True)
    assert (conversion.name, conversion.namespace) == ("iris-v2", "ml")
    assert (conversion.labels, conversion.annotations) == ({"team": "a"}, {"owner": "ann"})
    assert told(conversion) == {
        "metadata.name": CHANGED,
        "metadata.annotations.autoscaling.knative.dev/target": LOST,
    }


def test_a_fraction_of_a_processor_is_written_as_a_quantity() -> None:
    conversion = imported({"resources": {"requests": {"cpu": 0.1, "memory": "1Gi"}}})
    assert spec_of(conversion)["server"]["resources"] == {"requests": {"cpu": "0.1", "memory": "1Gi"}}


def test_a_model_of_the_hub_is_named_by_arguments() -> None:
    model: dict[str, Any] = {
        "modelFormat": {"name": "huggingface"},
        "args": ["--model_name=bert", "--model_id=org/bert"],
    }
    conversion = convert(a_service({"model": model}))
    assert spec_of(conversion)["model"] == {"storageUri": "hf://org/bert", "format": "transformers"}
    assert told(conversion) == {"spec.predictor.model": CHANGED, "spec.predictor.model.args": CHANGED}
    assert "vLLM, in server.container" in message_about(conversion, "spec.predictor.model")
    model["args"].append("--model_revision=abc")
    assert spec_of(convert(a_service({"model": model})))["model"]["storageUri"] == "hf://org/bert@abc"


MINE = {"name": "kserve-container", "image": "registry.example.com/mine:1"}
AT = "spec.predictor.containers[0]"


@pytest.mark.parametrize(
    ("container", "expected", "findings"),
    [
        pytest.param(
            {"ports": [{"containerPort": 9000, "protocol": "TCP"}], "protocolVersion": "v2"},
            {"port": 9000, "protocol": "openInference"},
            {},
            id="the Open Inference Protocol has a path for its readiness",
        ),
        pytest.param(
            {"ports": [{"containerPort": 9000}]},
            {"port": 9000, "readinessPath": "/"},
            {f"{AT}.readinessProbe": CHANGED},
            id="without a probe the root is asked",
        ),
        pytest.param(
            {
                "command": ["python"],
                "args": ["-m", "mine", 3],
                "ports": [{"containerPort": 9000}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 9000}, "periodSeconds": 5},
                "livenessProbe": {"httpGet": {"path": "/live", "port": 9000}},
                "env": [{"name": "A", "value": "b"}],
                "resources": {"limits": {"cpu": 1}},
            },
            {
                "port": 9000,
                "command": ["python"],
                "args": ["-m", "mine", "3"],
                "readinessPath": "/ready",
                "livenessPath": "/live",
                "env": [{"name": "A", "value": "b"}],
                "resources": {"limits": {"cpu": 1}},
            },
            {},
            id="what a container says",
        ),
        pytest.param(
            {"protocolVersion": "v2"},
            {"port": 8081, "protocol": "openInference"},
            {f"{AT}.ports": LOST},
            id="the port of KServe is the proxy's",
        ),
        pytest.param(
            {"ports": [{"name": "h2c", "containerPort": 9001}, {"containerPort": 9000}], "protocolVersion": "v2"},
            {"port": 9000, "protocol": "openInference"},
            {f"{AT}.ports": LOST},
            id="a port for gRPC is not one for HTTP",
        ),
    ],
)
def test_a_container_of_ones_own_stays_as_it_is(container: Any, expected: Any, findings: dict[str, str]) -> None:
    conversion = convert(a_service({"containers": [{**MINE, **container}], "timeout": 20, "minReplicas": 2}))
    own = {"image": "registry.example.com/mine:1", **expected}
    assert spec_of(conversion, has_files=False) == {
        "replicas": 2,
        "server": {"container": own, "requestTimeoutSeconds": 20},
    }
    assert told(conversion) == findings | {f"{AT}.image": CHANGED}
    assert conversion.metadata == {}


def test_a_container_gets_the_artifact_that_it_asked_kserve_for() -> None:
    mine = {
        **MINE,
        "ports": [{"containerPort": 9000}],
        "protocolVersion": "v2",
        "env": [{"name": "STORAGE_URI", "value": "s3://models/mine"}],
        "securityContext": {"runAsUser": 1000},
    }
    conversion = convert(a_service({"containers": [{"name": "proxy", "image": "x"}, mine], "nodeSelector": {"a": "b"}}))
    spec = spec_of(conversion, has_files=False)
    assert spec["model"] == {"storageUri": "s3://models/mine"}
    assert "env" not in spec["server"]["container"]
    assert spec["server"]["podTemplate"] == {
        "spec": {"nodeSelector": {"a": "b"}, "containers": [{"name": "app", "securityContext": {"runAsUser": 1000}}]}
    }
    assert told(conversion)["spec.predictor.containers[0]"] == LOST


def test_a_transformer_and_an_explainer_are_named() -> None:
    body = a_service({"model": IRIS})
    body["spec"] |= {"transformer": {"containers": [{"image": "x"}]}, "explainer": {"art": {"type": "SquareAttack"}}}
    conversion = convert(body, trusted=True)
    assert told(conversion) == {"spec.transformer": LOST, "spec.explainer": LOST}
    assert "POST /explain" in message_about(conversion, "spec.explainer")


def test_a_field_that_nobody_knows_is_named() -> None:
    conversion = imported({"frobnicate": True})
    assert told(conversion) == {"spec.predictor.model.frobnicate": LOST}
    assert "does not know the field" in message_about(conversion, "spec.predictor.model.frobnicate")


def test_grpc_has_a_port_of_its_own() -> None:
    assert spec_of(imported({"protocolVersion": "grpc-v2"}))["server"] == {"grpcPort": 8081}
    assert told(imported({"protocolVersion": "v2"})) == {}


@pytest.mark.parametrize(
    ("model", "uri", "findings"),
    [
        pytest.param({"storageUri": "pvc://claim/dir"}, "pvc://claim/dir", {}, id="a claim"),
        pytest.param({"storageUri": "model-registry://iris/v1"}, "model-registry://iris/v1", {}, id="a registry"),
        *(
            pytest.param(
                {"storageUri": f"model-registry://{given}"},
                f"model-registry://{kept}",
                {"spec.predictor.model.storageUri": CHANGED},
                id=f"a registry at {given}",
            )
            for given, kept in (("mr.kubeflow/iris/v1", "iris/v1"), ("mr:8080/iris", "iris"), ("mr:8080/a/b?x", "a/b"))
        ),
        pytest.param(
            {"storageUri": "hf://org/name:abc"},
            "hf://org/name@abc",
            {"spec.predictor.model.storageUri": CHANGED},
            id="hf",
        ),
        pytest.param(
            {"storageUri": None, "storage": {"path": "iris/1", "parameters": {"bucket": "models"}}},
            "s3://models/iris/1",
            {},
            id="a bucket and a path",
        ),
        pytest.param(
            {"storageUri": None, "storage": {"key": "minio", "path": "iris", "parameters": {"bucket": "models"}}},
            "s3://models/iris",
            {"spec.predictor.model.storage.key": LOST},
            id="credentials of a common Secret",
        ),
    ],
)
def test_where_the_model_is(model: dict[str, Any], uri: str, findings: dict[str, str]) -> None:
    conversion = imported(model)
    assert (spec_of(conversion)["model"]["storageUri"], told(conversion)) == (uri, findings)


@pytest.mark.parametrize(
    ("predictor", "said"),
    [
        pytest.param({}, "spec.predictor: has no model; known are model, sklearn", id="nothing"),
        pytest.param(
            {"model": {**IRIS, "modelFormat": {"name": "sklern"}}},
            "spec.predictor.model.modelFormat.name: 'sklern' cannot be imported; known are sklearn, xgboost, lightgbm,"
            " onnx, pytorch, pmml, mlflow, huggingface; did you mean sklearn?",
            id="a format nobody has",
        ),
        pytest.param(
            {"tensorflow": {"storageUri": "gs://a/b"}},
            "spec.predictor.tensorflow: 'tensorflow' cannot be imported",
            id="a SavedModel",
        ),
        pytest.param(
            {"model": {**IRIS, "storageUri": "hdfs://a/b"}},
            "spec.predictor.model.storageUri: 'hdfs://a/b' is no storage that servers read",
            id="a storage that is not read",
        ),
        pytest.param({"model": {**IRIS, "storageUri": "http://a/b"}}, "write https://", id="no encryption"),
        pytest.param(
            {"model": {"modelFormat": {"name": "onnx"}}},
            "spec.predictor.model.storageUri: is missing; name the storage of the model with --storage-uri",
            id="no storage",
        ),
        pytest.param(
            {"model": {"modelFormat": {"name": "onnx"}, "storage": {"key": "minio", "path": "iris"}}},
            "name the storage with --storage-uri s3://BUCKET/PATH",
            id="a bucket that a Secret names",
        ),
        pytest.param(
            {"containers": [{"name": "mine"}]}, "spec.predictor.containers[0].image: is missing", id="no image"
        ),
        pytest.param(
            {"model": {**IRIS, "env": 3}, "minReplicas": "many"},
            "spec.predictor.minReplicas: expected a whole number, and it is 'many'",
            id="a wrong type",
        ),
        pytest.param({"model": "iris"}, "spec.predictor.model: expected an object, and it is 'iris'", id="a text"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_field(predictor: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as refused:
        convert(a_service(predictor))
    assert said in str(refused.value)


def test_another_storage_stands_in_for_one_that_is_not_read() -> None:
    body = a_service({"model": {**IRIS, "storageUri": "hdfs://a/b"}})
    assert spec_of(convert(body, other_uri="s3://new/place"))["model"]["storageUri"] == "s3://new/place"
