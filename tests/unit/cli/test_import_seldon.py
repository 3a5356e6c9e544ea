"""SeldonDeployments, and Models of Seldon Core 2, as ModelDeployments."""

from typing import Any

import pytest
from imports import message_about, spec_of, told

from modeldeploy.importing.seldon import convert, convert_model
from modeldeploy.importing.values import Conversion
from modeldeploy.requests import Refused

LOST, CHANGED = "no counterpart", "changed"
IRIS = {"name": "classifier", "implementation": "SKLEARN_SERVER", "modelUri": "gs://public/iris"}


def a_deployment(*predictors: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "iris-model", "namespace": "seldon", "labels": {"team": "a"}},
        "spec": {"name": "iris", "protocol": "v2", "predictors": list(predictors), **spec},
    }


def imported(graph: dict[str, Any] | None = None, *, trusted: bool = True, **predictor: Any) -> Conversion:
    body = a_deployment({"name": "default", "graph": IRIS | (graph or {}), **predictor})
    return convert(body, trusted=trusted)


def test_the_first_example_needs_no_finding() -> None:
    conversion = imported(replicas=1)
    assert spec_of(conversion) == {
        "model": {"storageUri": "gs://public/iris", "format": "sklearn", "trusted": True},
        "replicas": 1,
    }
    assert (conversion.name, conversion.namespace, conversion.labels) == ("iris-model", "seldon", {"team": "a"})
    assert conversion.findings == ()


def test_clients_of_seldons_own_protocol_have_to_change() -> None:
    body = a_deployment({"graph": IRIS})
    del body["spec"]["protocol"]
    assert told(convert(body, trusted=True)) == {"spec.protocol": CHANGED}
    assert "/api/v1.0/predictions" in message_about(convert(body, trusted=True), "spec.protocol")


def test_a_pickle_is_trusted_only_where_the_user_says_so() -> None:
    conversion = imported(trusted=False)
    assert "trusted" not in spec_of(conversion)["model"]
    assert told(conversion) == {"spec.predictors[0].graph.implementation": CHANGED}


COMPONENT = {
    "spec": {
        "nodeSelector": {"pool": "ml"},
        "containers": [{"name": "classifier", "resources": {"requests": {"cpu": "1"}}, "env": [{"name": "A"}]}],
    }
}


@pytest.mark.parametrize(
    ("predictor", "expected", "findings"),
    [
        pytest.param(
            {"componentSpecs": [COMPONENT]},
            {
                "server": {
                    "env": [{"name": "A"}],
                    "resources": {"requests": {"cpu": "1"}},
                    "podTemplate": {"spec": {"nodeSelector": {"pool": "ml"}}},
                }
            },
            {
                "spec.predictors[0].componentSpecs[0].spec.nodeSelector": CHANGED,
                "spec.predictors[0].componentSpecs[0].spec.containers[0].env": CHANGED,
            },
            id="the container of the model",
        ),
        pytest.param(
            {
                "componentSpecs": [
                    {
                        "hpaSpec": {
                            "minReplicas": 1,
                            "maxReplicas": 3,
                            "metrics": [
                                {"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 70}}
                            ],
                        }
                    }
                ]
            },
            {"autoscaling": {"minReplicas": 1, "maxReplicas": 3, "targetCPUUtilizationPercentage": 70}},
            {},
            id="an autoscaler",
        ),
        pytest.param(
            {
                "componentSpecs": [
                    {
                        "hpaSpec": {
                            "maxReplicas": 3,
                            "metricsv2": [
                                {
                                    "type": "Resource",
                                    "resource": {
                                        "name": "memory",
                                        "target": {"type": "Utilization", "averageUtilization": 60},
                                    },
                                },
                                {"type": "External", "external": {"metric": {"name": "x"}}},
                            ],
                        }
                    }
                ]
            },
            {"autoscaling": {"minReplicas": 1, "maxReplicas": 3, "targetMemoryUtilizationPercentage": 60}},
            {"spec.predictors[0].componentSpecs[0].hpaSpec.metricsv2[1]": LOST},
            id="an autoscaler of the newer form",
        ),
        pytest.param({"componentSpecs": [{"replicas": 4}]}, {"replicas": 4}, {}, id="replicas of a component"),
        pytest.param(
            {"svcOrchSpec": {"replicas": 1}, "explainer": {"type": "AnchorTabular"}, "annotations": {"a": "b"}},
            {},
            {
                "spec.predictors[0].svcOrchSpec": LOST,
                "spec.predictors[0].explainer": LOST,
                "spec.predictors[0].annotations": LOST,
            },
            id="fields without a counterpart",
        ),
    ],
)
def test_what_a_predictor_becomes(predictor: dict[str, Any], expected: Any, findings: dict[str, str]) -> None:
    conversion = imported(**predictor)
    spec = spec_of(conversion)
    del spec["model"]
    assert (spec, told(conversion)) == (expected, findings)


def test_credentials_and_parameters_of_the_graph() -> None:
    graph = {
        "envSecretRefName": "s3",
        "serviceAccountName": "reader",
        "parameters": [{"name": "method", "type": "STRING", "value": "predict"}],
        "children": [{"name": "next"}],
    }
    conversion = imported(graph)
    spec = spec_of(conversion)
    assert spec["model"]["secretName"] == "s3"
    assert spec["server"] == {"podTemplate": {"spec": {"serviceAccountName": "reader"}}}
    at = "spec.predictors[0].graph"
    assert told(conversion) == {
        f"{at}.envSecretRefName": CHANGED,
        f"{at}.parameters": LOST,
        f"{at}.children": LOST,
    }


def test_the_predictor_with_most_of_the_traffic_is_imported_and_the_others_are_named() -> None:
    small = {"name": "b", "graph": IRIS | {"modelUri": "gs://public/new"}, "traffic": 25}
    large = {"name": "a", "graph": IRIS, "traffic": 75}
    shadow = {"name": "c", "graph": IRIS, "shadow": True, "traffic": 100}
    conversion = convert(a_deployment(shadow, small, large), trusted=True)
    assert spec_of(conversion)["model"]["storageUri"] == "gs://public/iris"
    assert told(conversion) == {"spec.predictors[0]": LOST, "spec.predictors[1]": LOST}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(a_deployment(), "spec.predictors: has no predictor that answers", id="nothing"),
        pytest.param(
            a_deployment({"graph": {"name": "mine", "type": "ROUTER"}}),
            "spec.predictors[0].graph: is no model, and has no container of its name",
            id="a router",
        ),
        pytest.param(
            a_deployment({"graph": IRIS | {"implementation": "TRITON_SERVER"}}),
            "'TRITON_SERVER' cannot be imported; known are SKLEARN_SERVER, XGBOOST_SERVER",
            id="another server",
        ),
        pytest.param(
            a_deployment({"graph": IRIS | {"modelUri": "rclone:x"}}),
            "spec.predictors[0].graph.modelUri: 'rclone:x' is no storage that servers read",
            id="a storage that is not read",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_field(body: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as refused:
        convert(body)
    assert said in str(refused.value)


def test_a_container_of_ones_own_stays_as_it_is() -> None:
    mine = {"name": "mine", "image": "registry.example.com/mine:1", "resources": {"requests": {"cpu": "1"}}}
    graph = {"name": "mine", "type": "MODEL", "endpoint": {"type": "REST"}}
    predictor = {"graph": graph, "componentSpecs": [{"spec": {"containers": [mine]}}], "replicas": 2}
    conversion = convert(a_deployment(predictor, protocol="tensorflow"))
    assert spec_of(conversion, has_files=False) == {
        "replicas": 2,
        "server": {
            "container": {
                "image": "registry.example.com/mine:1",
                "port": 9000,
                "readinessPath": "/health/ping",
                "resources": {"requests": {"cpu": "1"}},
            }
        },
    }
    at = "spec.predictors[0].componentSpecs[0].spec.containers[0]"
    assert told(conversion) == {f"{at}.image": CHANGED, f"{at}.readinessProbe": CHANGED}


def a_model(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "mlops.seldon.io/v1alpha1",
        "kind": "Model",
        "metadata": {"name": "iris"},
        "spec": {"storageUri": "gs://public/iris", "requirements": ["mlserver", "sklearn"], **spec},
    }


def test_a_model_of_core_2() -> None:
    conversion = convert_model(a_model(memory="100Ki", minReplicas=1, maxReplicas=2), trusted=True)
    assert spec_of(conversion) == {
        "model": {"storageUri": "gs://public/iris", "format": "sklearn", "trusted": True},
        "autoscaling": {"minReplicas": 1, "maxReplicas": 2},
        "server": {"resources": {"requests": {"memory": "100Ki"}}},
    }
    assert conversion.findings == ()
    assert spec_of(convert_model(a_model(replicas=2), trusted=True))["replicas"] == 2
    assert spec_of(convert_model(a_model(replicas=2, minReplicas=1), trusted=True))["replicas"] == 2
    scaled = convert_model(a_model(replicas=2, minReplicas=1, maxReplicas=4), trusted=True)
    assert "replicas" not in spec_of(scaled)
    assert told(scaled) == {"spec.replicas": CHANGED}
    findings = told(convert_model(a_model(secretName="rclone", server="mlserver", llm={}), trusted=True))
    assert findings == {"spec.secretName": LOST, "spec.server": LOST, "spec.llm": LOST}


def test_a_capability_that_nobody_has() -> None:
    with pytest.raises(Refused, match=r"spec.requirements: 'spacy' cannot be imported"):
        convert_model(a_model(requirements=["spacy"]))
    anything = convert_model(a_model(requirements=["mlserver"]))
    assert spec_of(anything)["model"]["format"] == "auto"
    assert told(anything) == {"spec.requirements": CHANGED}
    conversion = convert_model(a_model(requirements=["sklearn", "gpu-pool"]), trusted=True)
    assert spec_of(conversion)["model"]["format"] == "sklearn"
    assert told(conversion) == {"spec.requirements": LOST}
