"""SeldonDeployments of Seldon Core 1, and Models of Seldon Core 2. PURE.

https://docs.seldon.ai/seldon-core-1 and https://docs.seldon.ai/seldon-core-2
"""

from typing import Any

from modeldeploy.importing.fields import Fields, one_of
from modeldeploy.importing.pods import container, pod_spec, with_pods
from modeldeploy.importing.storage import FORMATS, RUNS_CODE, code_finding, storage_uri
from modeldeploy.importing.values import Body, Conversion, Finding, changed, lost, valid_name, without_empty
from modeldeploy.requests import Refused

API_GROUP = "machinelearning.seldon.io"
KIND = "SeldonDeployment"
CORE_2_GROUP = "mlops.seldon.io"
CORE_2_KIND = "Model"

_SERVERS = {
    "SKLEARN_SERVER": "sklearn",
    "XGBOOST_SERVER": "xgboost",
    "MLFLOW_SERVER": "mlflow",
    "HUGGINGFACE_SERVER": "transformers",
}
_OTHER_SERVERS = {
    "TENSORFLOW_SERVER": "Convert a SavedModel to ONNX (tf2onnx), or save it as .keras",
    "TRITON_SERVER": "Import the config.pbtxt of the model itself",
}
_OWN_CODE = "Put its code into model.py of a package: load_model(path) and predict(model, inputs)"
#: What a Model of Seldon Core 2 may require, beside the names of formats.
_CAPABILITIES = {**FORMATS, "catboost": "catboost", "mlserver": ""}
_OWN_METADATA = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")
_ANOTHER_PREDICTOR = (
    "a ModelDeployment has one model at a time: apply this one's as its next version, with the share as setWeight of"
    " strategy.canary.steps, a setMirrorRoute for a shadow, or strategy.abTest"
)

ADVICE = {
    "spec.predictors.graph.children": "an answer is not passed on to another model: what a child does goes into post.py"
    " of the package, or the client calls both",
    "spec.predictors.graph.parameters": "it is a setting of the other server; predict gives labels with probabilities",
    "spec.predictors.graph.endpoint": "HTTP is answered on 8080, and gRPC on server.grpcPort",
    "spec.predictors.graph.logger": "write server.inputLog {sampleRate: 1, sink: URL}",
    "spec.predictors.svcOrchSpec": "there is no orchestrator in front of the model",
    "spec.predictors.engineResources": "there is no orchestrator in front of the model",
    "spec.predictors.explainer": "POST /explain of the same server explains predictions; delete it",
    "spec.predictors.ssl": "name a Secret of type kubernetes.io/tls in server.tls.secretName",
    "spec.predictors.componentSpecs.kedaSpec": "write spec.autoscaling, or keep KEDA on the scale subresource",
    "spec.predictors.componentSpecs.pdbSpec": "the operator makes a PodDisruptionBudget where there are several pods",
    "spec.explainer": "POST /explain of the same server explains predictions; delete it",
    "spec.storageRclone": "copy the model to a storage that servers read, and name it with --storage-uri",
    "spec.secretName": "it holds settings of rclone: make a Secret with the provider's own names (docs/server.md), and"
    " name it in model.secretName",
    "spec.server": "each ModelDeployment has its own servers; a ModelPool has many models",
    "spec.dataflow": "messages are answered by server.stream",
}


def convert(document: Body, *, other_uri: str = "", trusted: bool = False) -> Conversion:
    """Return the ModelDeployment of a SeldonDeployment; arguments and errors as in `kserve.convert`."""
    source, conversion = _opened(document)
    name, findings = conversion
    spec = source.child("spec")
    spec.value("name")
    predictor = _main(spec.items("predictors"), spec.at("predictors"))
    for other in spec.items("predictors"):
        if other is not predictor:
            findings.append(lost(other.path, _ANOTHER_PREDICTOR))
            other.drop()
    graph = predictor.child("graph")
    graph.value("name"), graph.value("type")
    predictor.value("name"), predictor.value("traffic"), predictor.value("shadow")
    server_name = graph.text("implementation")
    if server_name not in _SERVERS and not graph.text("modelUri"):
        raise Refused(f"{graph.path}: a container of your own has no counterpart. {_OWN_CODE}")
    format_ = one_of(_SERVERS, server_name, graph.at("implementation"), _OTHER_SERVERS.get(server_name, _OWN_CODE))
    uri, more = (other_uri, []) if other_uri else storage_uri(graph.text("modelUri"), graph.at("modelUri"))
    graph.value("modelUri")
    findings += more
    if format_ in RUNS_CODE and not trusted:
        findings.append(code_finding(graph.at("implementation"), format_))
    model = {"storageUri": uri, "format": format_, "trusted": (trusted and format_ in RUNS_CODE) or None}
    if secret := graph.text("envSecretRefName"):
        model["secretName"] = secret
        told = "its keys are the provider's own names (docs/server.md), and not RCLONE_CONFIG_..."
        findings.append(changed(graph.at("envSecretRefName"), told))
    pods, server, size = _components(predictor, graph, findings)
    size = size or _replicas(predictor, spec)
    _protocol(spec, findings)
    return Conversion(
        name=name,
        namespace=source.child("metadata").text("namespace"),
        labels=source.child("metadata").mapping("labels") | predictor.mapping("labels"),
        spec=without_empty({"model": model, **size}) | ({"server": with_pods(server, pods)} if server or pods else {}),
        metadata={"name": name, "format": format_},
        findings=(*findings, *source.leftovers(ADVICE)),
        runs_code=format_ in RUNS_CODE,
    )


def convert_model(document: Body, *, other_uri: str = "", trusted: bool = False) -> Conversion:
    """Return the ModelDeployment of a Model of Seldon Core 2; arguments and errors as in `kserve.convert`."""
    source, (name, findings) = _opened(document)
    spec = source.child("spec")
    at = spec.at("requirements")
    asked = [one_of(_CAPABILITIES, str(one).lower(), at, _OWN_CODE) for one in spec.values("requirements")]
    format_ = next((one for one in asked if one), "auto")
    uri, more = (other_uri, []) if other_uri else storage_uri(spec.text("storageUri"), spec.at("storageUri"))
    spec.value("storageUri")
    findings += more
    if format_ in RUNS_CODE and not trusted:
        findings.append(code_finding(at, format_))
    model = {"storageUri": uri, "format": format_, "trusted": (trusted and format_ in RUNS_CODE) or None}
    size = _scaled(spec.integer("minReplicas"), spec.integer("maxReplicas")) or _replicas(spec)
    memory = spec.value("memory")
    return Conversion(
        name=name,
        namespace=source.child("metadata").text("namespace"),
        labels=source.child("metadata").mapping("labels"),
        spec=without_empty(
            {"model": model, **size, "server": {"resources": {"requests": {"memory": memory}}}},
        ),
        metadata={"name": name, "format": format_},
        findings=(*findings, *source.leftovers(ADVICE)),
        runs_code=format_ in RUNS_CODE,
    )


def _opened(document: Body) -> tuple[Fields, tuple[str, list[Finding]]]:
    source = Fields(document)
    source.value("apiVersion"), source.value("kind"), source.value("status")
    metadata = source.child("metadata")
    for one in _OWN_METADATA:
        metadata.value(one)
    metadata.child("annotations").value("kubectl.kubernetes.io/last-applied-configuration")
    return source, valid_name(metadata.text("name"), "metadata.name")


def _main(predictors: list[Fields], path: str) -> Fields:
    """The predictor that gets most of the traffic."""
    serving = [one for one in predictors if not one.value("shadow")]
    if not serving:
        raise Refused(f"{path}: has no predictor that answers")
    return max(serving, key=lambda one: one.integer("traffic") or 0)


def _components(
    predictor: Fields, graph: Fields, findings: list[Finding]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Fields of the pods, of the container that serves, and of the autoscaler."""
    pods, server, size = dict[str, Any](), dict[str, Any](), dict[str, Any]()
    if account := graph.text("serviceAccountName"):
        pods["serviceAccountName"] = account
    for component in predictor.items("componentSpecs"):
        inner = component.child("spec")
        found, more = pod_spec(inner)
        findings += more
        pods |= found
        for one in inner.items("containers"):
            if one.text("name") == graph.text("name") or len(inner.items("containers")) == 1:
                found, more = container(one)
                findings += more
                server |= found
        if "hpaSpec" in component:
            size = _autoscaling(component.child("hpaSpec"), findings)
        elif (count := component.integer("replicas")) is not None:
            size = {"replicas": count}
    return pods, server, size


def _autoscaling(hpa: Fields, findings: list[Finding]) -> dict[str, Any]:
    scaling = _scaled(hpa.integer("minReplicas") or 1, hpa.integer("maxReplicas")).get("autoscaling", {})
    fields = {"cpu": "targetCPUUtilizationPercentage", "memory": "targetMemoryUtilizationPercentage"}
    for one in (*hpa.items("metrics"), *hpa.items("metricsv2")):
        one.text("type")
        resource = one.child("resource")
        name, target = resource.text("name"), resource.child("target")
        target.text("type")
        percent = resource.integer("targetAverageUtilization") or target.integer("averageUtilization")
        if name in fields and percent:
            scaling[fields[name]] = percent
        else:
            findings.append(lost(one.path, "write it as in autoscaling/v2 in autoscaling.metrics"))
            one.drop()
    return {"autoscaling": scaling}


def _scaled(low: int | None, high: int | None) -> dict[str, Any]:
    """`autoscaling` between two numbers; nothing where there are not two."""
    if high is None or high == (low or 1):
        return {} if low is None else {"replicas": low}
    return {"autoscaling": {"minReplicas": max(low or 1, 1), "maxReplicas": high}}


def _replicas(*sources: Fields) -> dict[str, Any]:
    counts = [one.integer("replicas") for one in sources]
    return next(({"replicas": count} for count in counts if count is not None), {})


def _protocol(spec: Fields, findings: list[Finding]) -> None:
    if spec.text("protocol", "seldon") == "seldon":
        findings.append(
            changed(
                spec.at("protocol"),
                "clients of /api/v1.0/predictions have to change: the Open Inference Protocol, V1 and POST /predict are"
                " answered (docs/server.md)",
            )
        )
