"""SeldonDeployments of Seldon Core 1, and Models of Seldon Core 2. PURE.

https://docs.seldon.ai/seldon-core-1 and https://docs.seldon.ai/seldon-core-2
"""

from typing import Any

from modeldeploy.importing.fields import Fields, one_of
from modeldeploy.importing.own_server import APP, OwnServer, own_server
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
_OWN_SERVER = "server.container runs its server as it is (docs/how-to/any-image.md)"
_OWN_CODE = "Put its code into model.py of a package: load_model(path) and predict(model, inputs)"
#: Nodes of a graph that have a container of their own.
_NO_SERVER = ("", "UNKNOWN_IMPLEMENTATION")
#: The port of containers that Seldon's Python wrapper made.
_WRAPPER_PORT = 9000
#: What a Model of Seldon Core 2 requires of its server.
_CAPABILITIES = {**FORMATS, "catboost": "catboost"}
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
    own = _own(predictor, graph, spec, findings) if server_name in _NO_SERVER else None
    format_ = "" if own else _format(graph, server_name)
    uri = graph.text("modelUri")
    if other_uri or uri or not own:
        uri, more = (other_uri, []) if other_uri else storage_uri(uri, graph.at("modelUri"))
        findings += more
    if format_ in RUNS_CODE and not trusted:
        findings.append(code_finding(graph.at("implementation"), format_))
    model: dict[str, Any] = {"storageUri": uri or None, "format": format_ or None}
    model["trusted"] = (trusted and format_ in RUNS_CODE) or None
    if secret := graph.text("envSecretRefName"):
        model["secretName"] = secret
        told = "its keys are the provider's own names (docs/server.md), and not RCLONE_CONFIG_..."
        findings.append(changed(graph.at("envSecretRefName"), told))
    pods, server, size = _components(predictor, graph, findings, is_own=own is not None)
    if own:
        server = {"container": own.container}
        pods |= {"containers": [{"name": APP, **own.template}]} if own.template else {}
    size = size if "replicas" in size else _sized(size, findings, predictor, spec)
    _protocol(spec, findings)
    return Conversion(
        name=name,
        namespace=source.child("metadata").text("namespace"),
        labels=source.child("metadata").mapping("labels") | predictor.mapping("labels"),
        spec=without_empty({"model": model, **size}) | ({"server": with_pods(server, pods)} if server or pods else {}),
        metadata={"name": name, "format": format_} if format_ else {},
        findings=(*findings, *source.leftovers(ADVICE)),
        runs_code=format_ in RUNS_CODE,
    )


def convert_model(document: Body, *, other_uri: str = "", trusted: bool = False) -> Conversion:
    """Return the ModelDeployment of a Model of Seldon Core 2; arguments and errors as in `kserve.convert`."""
    source, (name, findings) = _opened(document)
    spec = source.child("spec")
    at = spec.at("requirements")
    format_ = _format_of(spec, findings)
    uri, more = (other_uri, []) if other_uri else storage_uri(spec.text("storageUri"), spec.at("storageUri"))
    spec.value("storageUri")
    findings += more
    if format_ in RUNS_CODE and not trusted:
        findings.append(code_finding(at, format_))
    may_run_code = format_ in RUNS_CODE or format_ == "auto"
    model = {"storageUri": uri, "format": format_, "trusted": (trusted and may_run_code) or None}
    size = _sized(_scaled(spec.integer("minReplicas"), spec.integer("maxReplicas")), findings, spec)
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


def _format_of(spec: Fields, findings: list[Finding]) -> str:
    """The format that the requirements name; the others are names that an administrator gave to servers."""
    asked, at = [str(one).lower() for one in spec.values("requirements")], spec.at("requirements")
    known = [one for one in asked if one in FORMATS or one == "catboost"]
    others = [one for one in asked if one not in (*known, "mlserver")]
    if not known and others:
        one_of(_CAPABILITIES, others[0], at, f"{_OWN_CODE}; or {_OWN_SERVER}")
    if not known:
        findings.append(changed(at, "names no format: servers find it by the files of the package"))
        return "auto"
    if others:
        findings.append(lost(at, f"servers have no capabilities to ask for: {', '.join(others)}"))
    return _CAPABILITIES[known[0]]


def _opened(document: Body) -> tuple[Fields, tuple[str, list[Finding]]]:
    source = Fields(document)
    source.value("apiVersion"), source.value("kind"), source.value("status")
    metadata = source.child("metadata")
    for one in _OWN_METADATA:
        metadata.value(one)
    metadata.child("annotations").value("kubectl.kubernetes.io/last-applied-configuration")
    return source, valid_name(metadata.text("name"), "metadata.name")


def _format(graph: Fields, server: str) -> str:
    hint = f"{_OTHER_SERVERS.get(server, _OWN_CODE)}; or {_OWN_SERVER}"
    return one_of(_SERVERS, server, graph.at("implementation"), hint)


def _own(predictor: Fields, graph: Fields, spec: Fields, findings: list[Finding]) -> OwnServer:
    """The container of the graph's node, which answers by Seldon's wrapper or by the Open Inference Protocol."""
    containers = [one for part in predictor.items("componentSpecs") for one in part.child("spec").items("containers")]
    named = [one for one in containers if one.text("name") == graph.text("name")]
    if graph.text("type", "MODEL") != "MODEL" or not named:
        raise Refused(f"{graph.path}: is no model, and has no container of its name: {_OWN_CODE}")
    endpoint = graph.child("endpoint")
    port = endpoint.integer("httpPort") or endpoint.integer("service_port") or _WRAPPER_PORT
    endpoint.value("type")
    speaks_v2 = spec.text("protocol") in ("v2", "kfserving")
    return own_server(named[0], findings, usual_port=port, usual_path="/health/ping", speaks_v2=speaks_v2)


def _main(predictors: list[Fields], path: str) -> Fields:
    """The predictor that gets most of the traffic."""
    serving = [one for one in predictors if not one.value("shadow")]
    if not serving:
        raise Refused(f"{path}: has no predictor that answers")
    return max(serving, key=lambda one: one.integer("traffic") or 0)


def _components(
    predictor: Fields, graph: Fields, findings: list[Finding], *, is_own: bool
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
            is_model = one.text("name") == graph.text("name") or len(inner.items("containers")) == 1
            if is_model and not is_own:
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


def _sized(size: dict[str, Any], findings: list[Finding], *sources: Fields) -> dict[str, Any]:
    """`size`, or the number of pods that a source names; an autoscaler decides, and a lowest number alone does not."""
    counts = [(one.at("replicas"), one.integer("replicas")) for one in sources]
    path, count = next((one for one in counts if one[1] is not None), ("", None))
    if count is None:
        return size
    if "autoscaling" in size:
        findings.append(changed(path, "the autoscaler decides: it begins with autoscaling.minReplicas"))
        return size
    return {"replicas": max(count, size.get("replicas", 0))}


def _protocol(spec: Fields, findings: list[Finding]) -> None:
    if spec.text("protocol", "seldon") == "seldon":
        findings.append(
            changed(
                spec.at("protocol"),
                "clients of /api/v1.0/predictions have to change: the Open Inference Protocol, V1 and POST /predict are"
                " answered (docs/server.md)",
            )
        )
