"""KServe's InferenceService, with `predictor.model` and with a field for each framework. PURE.

https://kserve.github.io/website/docs/reference/crd-api
"""

from typing import Any

from modeldeploy.importing.fields import Fields, one_of
from modeldeploy.importing.own_server import APP, own_server
from modeldeploy.importing.pods import container, pod_spec, with_pods
from modeldeploy.importing.storage import FORMATS, RUNS_CODE, code_finding, storage_uri
from modeldeploy.importing.values import Body, Conversion, Finding, changed, lost, valid_name, without_empty
from modeldeploy.requests import Refused

API_GROUP = "serving.kserve.io"
KIND = "InferenceService"
#: Where the field for a framework was, before there was `model`.
_FRAMEWORKS = ("sklearn", "xgboost", "lightgbm", "onnx", "pytorch", "pmml", "mlflow", "huggingface")
_OTHERS = ("tensorflow", "triton", "paddle")
#: The port that KServe's own servers have for it.
_GRPC_PORT = 8081
#: A model that may have no pod has to say when; KServe's default is that of Knative, which looks at a minute.
_IDLE = "5m"

_TRANSFORMER = (
    "what it does before and behind the model goes into pre.py and post.py of the package"
    " (docs/how-to/steps-around-the-model.md)"
)
_VERSIONS = (
    "the versions of libraries are those of the image; requirements.txt in the package says which ones the model needs"
)
_HUGGING_FACE_TASKS = (
    "text and token classification, zero-shot classification and embeddings are served (docs/server.md); a model that"
    " writes text needs its own server, such as vLLM, in server.container (docs/how-to/any-image.md)"
)
_MANY_CONTAINERS = "a sidecar goes into server.podTemplate.spec.containers"
ADVICE = {
    "spec.predictor.containers": _MANY_CONTAINERS,
    "spec.predictor.containerConcurrency": "there is no limit of requests in a pod; server.auth.limits limits clients",
    "spec.predictor.deploymentStrategy": "write spec.strategy: rollingUpdate, canary, blueGreen or abTest",
    "spec.predictor.workerSpec": "one model on several nodes is not served",
    "spec.predictor.batcher": "a server of your own has its own batches",
    "spec.predictor.logger": "requests to a server of your own are not logged",
    "metadata.annotations.autoscaling.knative.dev/target": "pods are not scaled by concurrent requests; write"
    " autoscaling.targetRequestsPerSecond or targetCPUUtilizationPercentage",
    "metadata.annotations.serving.kserve.io/enable-prometheus-scraping": "write monitoring.serviceMonitor: true",
    "metadata.annotations.serving.kserve.io/metric": "write maxReplicas, so that there is room to scale",
    "metadata.annotations.serving.kserve.io/targetUtilizationPercentage": "write maxReplicas, so that there is room to"
    " scale",
    "metadata.annotations.sidecar.istio.io/inject": "write it in server.podTemplate.metadata.annotations",
    "metadata.annotations.serving.kserve.io/storageSecretName": "make a Secret with the provider's own names"
    " (docs/server.md), and name it in model.secretName",
    "spec.predictor.logger.mode": "the input log always has request and answer",
    "spec.predictor.batcher.timeout": "a request has one limit, server.requestTimeoutSeconds",
    "spec.predictor.model.args": "they are settings of the other server; ours are fields of spec.server",
    "spec.predictor.model.command": "the image of the model server has its own",
    "spec.predictor.model.runtime": "there is one runtime, the image of the model server; server.image names another",
    "spec.predictor.model.runtimeVersion": _VERSIONS,
    "spec.predictor.model.image": "it is served by the image of the model server; server.image names another build",
    **dict.fromkeys(
        [f"spec.predictor.model.{one}Probe" for one in ("readiness", "liveness", "startup")],
        "the operator writes the probes of the model server",
    ),
    "spec.predictor.model.ports": "the port is 8080, and server.grpcPort",
    "spec.predictor.model.volumeMounts": "write them in server.podTemplate.spec.containers, for the container server",
    "spec.predictor.model.modelFormat.version": _VERSIONS,
    "spec.transformer": _TRANSFORMER,
    "spec.explainer": "POST /explain of the same server explains predictions; delete it",
}
_HARMLESS = frozenset(
    f"spec.predictor.{name}.{field}"
    for name in ("model", *_FRAMEWORKS)
    for field in (
        "modelFormat.version",
        "runtime",
        "runtimeVersion",
        "ports",
        "readinessProbe",
        "livenessProbe",
        "startupProbe",
    )
)
_ADVICE_OF_FRAMEWORKS = {
    path.replace(".model.", f".{name}."): text for path, text in ADVICE.items() for name in _FRAMEWORKS
}


def convert(document: Body, *, other_uri: str = "", trusted: bool = False) -> Conversion:
    """Return the ModelDeployment of an InferenceService.

    Args:
        other_uri: where the model is, in place of what the document says.
        trusted: whether formats that run code may be loaded without a pin.

    Raises:
        Refused: its model cannot be served here, with the field that says so.
    """
    source = Fields(document)
    source.value("apiVersion"), source.value("kind"), source.value("status")
    metadata = source.child("metadata")
    name, findings = valid_name(metadata.text("name"), "metadata.name")
    predictor = source.child("spec").child("predictor")
    if _is_own(predictor):
        artifact, server, template, format_ = _own(predictor, other_uri, findings)
    else:
        artifact, server, template, format_ = _served_here(predictor, other_uri, findings, trusted=trusted)
    spec: dict[str, Any] = {
        "model": artifact,
        **_size(predictor, metadata.child("annotations"), findings),
        "server": server,
        "strategy": _strategy(predictor, findings),
    }
    pods, more = pod_spec(predictor)
    findings += more
    spec["server"] = with_pods(spec["server"], pods | template)
    namespace, labels, annotations = metadata.text("namespace"), metadata.mapping("labels"), _annotations(metadata)
    for ours in ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"):
        metadata.value(ours)
    return Conversion(
        name=name,
        namespace=namespace,
        labels=labels,
        annotations=annotations,
        spec={name: part for name, part in spec.items() if part},
        metadata={"name": name, "format": format_} if format_ else {},
        findings=(*findings, *source.leftovers(ADVICE | _ADVICE_OF_FRAMEWORKS, _HARMLESS)),
        runs_code=format_ in RUNS_CODE,
    )


#: What belongs to a model that is served here: its artifact, `spec.server`, more of the pod, and its format.
_Parts = tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]


def _served_here(predictor: Fields, other_uri: str, findings: list[Finding], *, trusted: bool) -> _Parts:
    model, format_ = _model(predictor)
    uri, more = _uri(model, format_, other_uri)
    findings += more
    if format_ in RUNS_CODE and not trusted:
        findings.append(code_finding(model.path, format_))
    if format_ == "transformers":
        findings.append(changed(model.path, _HUGGING_FACE_TASKS))
    server, more = container(model)
    findings += more
    artifact = {"storageUri": uri, "format": format_} | ({"trusted": True} if trusted and format_ in RUNS_CODE else {})
    return artifact, without_empty(_server(predictor, model, findings)) | server, {}, format_


def _is_own(predictor: Fields) -> bool:
    return "containers" in predictor and not any(name in predictor for name in ("model", *_FRAMEWORKS, *_OTHERS))


def _own(predictor: Fields, other_uri: str, findings: list[Finding]) -> _Parts:
    """A server of one's own, with what KServe's storage initializer would fetch for it."""
    containers = predictor.items("containers")
    if not containers:
        raise Refused(f"{predictor.at('containers')}: is empty")
    main = next((one for one in containers if one.text("name") == "kserve-container"), containers[0])
    speaks_v2 = main.text("protocolVersion") == "v2"
    own = own_server(main, findings, usual_port=8080, usual_path="/", speaks_v2=speaks_v2)
    uri = other_uri
    if own.storage_uri and not uri:
        uri, more = storage_uri(own.storage_uri, main.at("env"))
        findings += more
    for one in containers:
        if one is not main:
            findings.append(lost(one.path, _MANY_CONTAINERS))
            one.drop()
    server: dict[str, Any] = {"container": own.container}
    if (timeout := predictor.integer("timeout")) is not None:
        server["requestTimeoutSeconds"] = timeout
    template = {"containers": [{"name": APP, **own.template}]} if own.template else {}
    return {"storageUri": uri} if uri else {}, server, template, ""


def _model(predictor: Fields) -> tuple[Fields, str]:
    """The object with the model, and its format."""
    if "model" in predictor:
        model = predictor.child("model")
        at = model.child("modelFormat")
        return model, one_of(FORMATS, at.text("name").lower(), at.at("name"), _save_as(at.text("name").lower()))
    old = [name for name in (*_FRAMEWORKS, *_OTHERS) if name in predictor]
    if old:
        return predictor.child(old[0]), one_of(FORMATS, old[0], predictor.at(old[0]), _save_as(old[0]))
    raise Refused(f"{predictor.path}: has no model; known are model, {', '.join(_FRAMEWORKS)}")


def _save_as(name: str) -> str:
    ways = {
        "tensorflow": "Convert a SavedModel to ONNX (tf2onnx), or save it as .keras",
        "triton": "Import the config.pbtxt of the model itself",
        "paddle": "Convert it to ONNX (paddle2onnx)",
    }
    own = "server.container runs its server as it is (docs/how-to/any-image.md)"
    return f"{ways[name]}; or {own}" if name in ways else f"{own[0].upper()}{own[1:]}"


def _uri(model: Fields, format_: str, other_uri: str) -> tuple[str, list[Finding]]:
    if "storage" in model:
        uri, findings = _from_storage(model.child("storage"), required=not other_uri)
    else:
        uri, findings = model.text("storageUri"), []
    if "storageUris" in model and not uri:
        raise Refused(f"{model.at('storageUris')}: a package is one URI; name it with --storage-uri")
    if other_uri:
        return other_uri, findings
    if not uri and format_ == "transformers" and (name := _argument(model, "model_id")):
        revision = _argument(model, "model_revision")
        findings.append(
            changed(model.at("args"), "model_id is in model.storageUri; other arguments have no counterpart")
        )
        return f"hf://{name}{'@' if revision else ''}{revision}", findings
    if not uri:
        raise Refused(f"{model.at('storageUri')}: is missing; name the storage of the model with --storage-uri")
    written, more = storage_uri(uri, model.at("storageUri"))
    return written, [*findings, *more]


def _argument(model: Fields, name: str) -> str:
    """The value of an argument that is written as --name=value."""
    prefix = f"--{name}="
    return next((str(one).removeprefix(prefix) for one in model.values("args") if str(one).startswith(prefix)), "")


def _from_storage(storage: Fields, *, required: bool) -> tuple[str, list[Finding]]:
    """The URI of `storage: {key, path, parameters}`, whose other half is an entry of the Secret storage-config."""
    parameters = storage.child("parameters")
    kind, bucket = parameters.text("type", "s3"), parameters.text("bucket")
    path, key = storage.text("path"), storage.text("key")
    if not bucket and "://" not in path and required:
        raise Refused(
            f"{storage.at('path')}: {path!r} lies in a bucket that the Secret storage-config names: name the storage"
            " with --storage-uri s3://BUCKET/PATH"
        )
    credentials = lost(
        storage.at("key"),
        f"credentials are not read from entry {key!r} of the Secret storage-config: make a Secret with"
        " AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL, and name it in model.secretName",
    )
    uri = path if "://" in path or not bucket else f"{kind}://{bucket}/{path.lstrip('/')}"
    return uri, [credentials] if key else []


def _size(predictor: Fields, annotations: Fields, findings: list[Finding]) -> dict[str, Any]:
    """`replicas` or `autoscaling`."""
    low, high = predictor.integer("minReplicas"), predictor.integer("maxReplicas")
    target, metric = predictor.integer("scaleTarget"), predictor.text("scaleMetric")
    lowest = 1 if low is None else low
    highest = max(high or lowest, 1)
    at = predictor.at("minReplicas")
    if lowest == highest and not metric:
        if target is not None:
            findings.append(lost(predictor.at("scaleTarget"), f"the number of pods is {lowest}, whatever the load is"))
        return {} if low is None and high is None else {"replicas": lowest}
    scaling: dict[str, Any] = {"minReplicas": lowest, "maxReplicas": max(highest, lowest)}
    if lowest == 0:
        scaling["idleAfter"] = _IDLE
        findings.append(
            changed(at, f"0 lets the model sleep after {_IDLE} without a request; the chart needs activator.enabled")
        )
    return {"autoscaling": scaling | _target(predictor, metric, target, annotations, findings)}


def _target(
    predictor: Fields, metric: str, target: int | None, annotations: Fields, findings: list[Finding]
) -> dict[str, Any]:
    fields = {
        "cpu": "targetCPUUtilizationPercentage",
        "memory": "targetMemoryUtilizationPercentage",
        "rps": "targetRequestsPerSecond",
    }
    at = predictor.at("scaleMetric")
    if not metric:
        metric = annotations.text(f"{API_GROUP}/metric") or ("cpu" if target is not None else "")
        percent = annotations.integer(f"{API_GROUP}/targetUtilizationPercentage")
        target, at = (percent, annotations.at(f"{API_GROUP}/metric")) if target is None else (target, at)
        if target is None:
            return {}
    if metric == "rps":
        findings.append(changed(at, "needs the custom metrics API (docs/reference/modeldeployment.md)"))
    if metric not in fields:
        findings.append(
            lost(
                at,
                f"pods are not scaled by {metric!r}; known are {', '.join(fields)}, and autoscaling.metrics has others",
            )
        )
        return {}
    return {fields[metric]: target}


def _server(predictor: Fields, model: Fields, findings: list[Finding]) -> dict[str, Any]:
    server: dict[str, Any] = {"requestTimeoutSeconds": predictor.integer("timeout")}
    if model.text("protocolVersion") == "grpc-v2":
        server["grpcPort"] = _GRPC_PORT
        findings.append(
            changed(
                model.at("protocolVersion"), f"HTTP is answered on 8080, and gRPC on {_GRPC_PORT} (server.grpcPort)"
            )
        )
    if "batcher" in predictor:
        batcher = predictor.child("batcher")
        size, wait = batcher.integer("maxBatchSize"), batcher.integer("maxLatency")
        delay = None if wait is None else min(wait, 1000)
        if delay != wait:
            findings.append(
                changed(batcher.at("maxLatency"), f"{wait} ms is more than 1000, the longest that is waited")
            )
        server["batching"] = {"maxBatchSize": size, "maxDelayMilliseconds": delay}
    if "logger" in predictor:
        logger = predictor.child("logger")
        server["inputLog"] = {"sampleRate": 1, "sink": logger.text("url") or None}
        findings.append(
            changed(logger.path, "requests are logged as CloudEvents with the fields of this server (docs/server.md)")
        )
    return server


def _strategy(predictor: Fields, findings: list[Finding]) -> dict[str, Any]:
    percent = predictor.integer("canaryTrafficPercent")
    if percent is None or not 0 < percent < 100:
        return {}
    findings.append(
        changed(
            predictor.at("canaryTrafficPercent"),
            f"from the next version on a canary gets {percent} % until kubectl modeldeploy promote; canary.analysis"
            " judges it",
        )
    )
    return {"canary": {"steps": [{"setWeight": percent}, {"pause": {}}]}}


def _annotations(metadata: Fields) -> dict[str, str]:
    """The annotations that are no settings of KServe; those are told."""
    annotations = metadata.child("annotations")
    own = [
        name
        for name in annotations.names()
        if not name.startswith(
            ("kubectl.kubernetes.io/", f"{API_GROUP}/", "autoscaling.knative.dev/", "sidecar.istio.io/")
        )
    ]
    annotations.value("kubectl.kubernetes.io/last-applied-configuration")
    annotations.value(f"{API_GROUP}/deploymentMode")
    annotations.value(f"{API_GROUP}/autoscalerClass")
    return {name: annotations.text(name) for name in own}
