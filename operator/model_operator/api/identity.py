"""Identity of revisions: two specs are the same revision when they request the same pods, in any spelling.

The API server fills in the defaults of the definition, a newer definition has further defaults, and users spell one
quantity in several ways. None of this changes the pods, so none of it may create a revision.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from model_operator.api.json import Body
from model_operator.api.pod_template import effective_overlay
from model_operator.api.quantities import with_canonical_quantities
from model_operator.api.times import parse_duration


class Fields(NamedTuple):
    """The fields of one object of the spec.

    Attributes:
        first: fields of the first release with their defaults, None without one. Never change them: the hashes of
            revisions contain these defaults, and a changed hash restarts every model of a cluster.
        later: fields that came after it. One at its default, or absent, is not part of a revision.
    """

    first: Mapping[str, Any]
    later: Mapping[str, Any]


#: A field that holds an object of `FIELDS`; it exists when the user wrote it, or always where it has a default.
_MODEL = Fields(
    first={
        "storageUri": None,
        "format": "auto",
        "version": None,
        "sha256": None,
        "trusted": False,
        "secretName": None,
        "installRequirements": False,
        "pollInterval": None,
        "cache": None,
    },
    later={"ca": None, "signature": None, "registry": None, "mount": None},
)
_SERVER = Fields(
    first={
        "image": None,
        "imagePullPolicy": None,
        "workers": 1,
        "logLevel": "info",
        "batching": {},
        "requestTimeoutSeconds": 30,
        "maxRequestBytes": 10_485_760,
        "inputLog": None,
        "auth": None,
        "tls": None,
        "grpcPort": None,
        "accelerate": "none",
        "env": None,
        "resources": None,
        "podTemplate": None,
    },
    later={"stream": None, "container": None},
)
_CONTAINER = Fields(
    first={},
    later={
        "image": None,
        "command": None,
        "args": None,
        "port": None,
        "protocol": "http",
        "readinessPath": None,
        "livenessPath": None,
        "predictionPaths": None,
        "env": None,
        "resources": None,
    },
)
_BATCHING = Fields(first={"maxBatchSize": 32, "maxDelayMilliseconds": 1}, later={})
_INPUT_LOG = Fields(first={"sampleRate": 0, "redact": None, "sink": "stdout"}, later={})
_DRIFT = Fields(first={"reference": "package", "threshold": 0.2}, later={})
_DATA_QUALITY = Fields(first={}, later={"limits": {}})
_QUALITY_LIMITS = Fields(
    first={},
    later={"missing": 0.05, "unseenCategory": 0.05, "outOfRange": 0.05, "wrongType": 0.05, "outlier": 0.05},
)
_SLICE = Fields(first={"name": None, "maxGroups": 8}, later={})
_CACHE = Fields(first={"claimName": None, "hostPath": None}, later={})
_REGISTRY = Fields(first={}, later={"url": None})
_CA = Fields(first={}, later={"configMapName": None, "secretName": None, "key": "ca.crt"})
_SIGNATURE = Fields(first={}, later={"publicKey": None, "identity": None})
_PUBLIC_KEY = Fields(first={}, later={"secretName": None, "configMapName": None, "key": None})
_IDENTITY = Fields(first={}, later={"subject": None, "issuer": None})
_AUTH = Fields(first={"secretName": None}, later={"protect": [], "limits": []})
_STREAM = Fields(
    first={},
    later={
        "nats": None,
        "redis": None,
        "rabbitmq": None,
        "kafka": None,
        "secretName": None,
        "tls": None,
        "input": None,
        "output": None,
        "deadLetter": None,
        "group": None,
        "concurrency": None,
        "maxDeliveries": 5,
    },
)
_BROKER = Fields(first={}, later={"url": None})
_STREAM_TLS = Fields(first={}, later={"secretName": None})
_SECRET = Fields(first={"secretName": None}, later={})

#: By path within a revision's source (`spec` without what does not make pods differ).
FIELDS: Mapping[str, Fields] = {
    "model": _MODEL,
    "model.cache": _CACHE,
    "model.ca": _CA,
    "model.registry": _REGISTRY,
    "model.signature": _SIGNATURE,
    "model.signature.publicKey": _PUBLIC_KEY,
    "model.signature.identity": _IDENTITY,
    "server": _SERVER,
    "server.batching": _BATCHING,
    "server.inputLog": _INPUT_LOG,
    "server.auth": _AUTH,
    "server.tls": _SECRET,
    "server.container": _CONTAINER,
    "server.stream": _STREAM,
    "server.stream.nats": _BROKER,
    "server.stream.redis": _BROKER,
    "server.stream.rabbitmq": _BROKER,
    "server.stream.kafka": _BROKER,
    "server.stream.tls": _STREAM_TLS,
    "monitoring.drift": _DRIFT,
    "monitoring.dataQuality": _DATA_QUALITY,
    "monitoring.dataQuality.limits": _QUALITY_LIMITS,
    "monitoring.slices": _SLICE,
}


def as_written(source: Body) -> Body:
    """Return a revision's source with the defaults of the first release filled in and later ones taken out.

    The first release hashed this form, in the spelling of the user.
    """
    form = {part: _normalize(part, source.get(part) or {}) for part in ("model", "server")}
    source_monitoring = source.get("monitoring") or {}
    monitoring: dict[str, Any] = {}
    for name in ("drift", "dataQuality"):
        if source_monitoring.get(name) is not None:
            monitoring[name] = _normalize(f"monitoring.{name}", source_monitoring[name])
    if source_monitoring.get("slices"):
        slices = (_normalize("monitoring.slices", one) for one in source_monitoring["slices"])
        monitoring["slices"] = sorted(slices, key=lambda one: str(one["name"]))
    if source_monitoring.get("estimatedQuality"):
        monitoring["estimatedQuality"] = True
    return {**form, "monitoring": monitoring} if monitoring else form


def canonical(source: Body) -> Body:
    """Return the form that is equal for equal revisions: `as_written`, with one spelling for each value."""
    form = with_canonical_quantities(_whole_numbers(as_written(source)))
    model, server = dict(form["model"]), dict(form["server"])
    if "pollInterval" in model:
        model["pollInterval"] = f"{parse_duration(model['pollInterval']).total_seconds():g}s"
    for field in ("env", "resources"):
        if field in server and not _prune(server[field]):
            del server[field]
    if "container" in server:
        server["container"] = {name: value for name, value in server["container"].items() if _prune(value) is not None}
    if "protect" in server.get("auth", {}):
        server["auth"] = {**server["auth"], "protect": sorted(server["auth"]["protect"])}
    if "limits" in server.get("auth", {}):
        limits = sorted(server["auth"]["limits"], key=lambda one: str(one["key"]))
        server["auth"] = {**server["auth"], "limits": limits}
    template = effective_overlay(server.pop("podTemplate", {}))
    if template:
        server["podTemplate"] = template
    return {**form, "model": model, "server": server}


def asked_for(source: Body) -> Body:
    """Return a revision's source without the fields that have their default value."""
    form = as_written(source)
    drift, quality, slices = (form.get("monitoring", {}).get(name) for name in ("drift", "dataQuality", "slices"))
    return {
        "model": _without_defaults("model", form["model"]),
        "server": _without_defaults("server", form["server"]),
        "monitoring": {
            "drift": drift and _without_defaults("monitoring.drift", drift),
            **({"dataQuality": quality} if quality is not None else {}),
            **({"slices": slices} if slices else {}),
            **({"estimatedQuality": True} if form.get("monitoring", {}).get("estimatedQuality") else {}),
        },
    }


def _without_defaults(path: str, form: Body) -> Body:
    rest = dict[str, Any]()
    for name, value in form.items():
        default = FIELDS[path].first.get(name)
        if default is not None and value == _inner(path, name, default):
            continue
        inner = f"{path}.{name}"
        rest[name] = _without_defaults(inner, value) if inner in FIELDS else value
    return rest


def _normalize(path: str, raw: Body) -> Body:
    fields, form = FIELDS[path], dict[str, Any]()
    for name, default in fields.first.items():
        value = raw.get(name, default)
        if value is not None:
            form[name] = _inner(path, name, value)
    for name, default in fields.later.items():
        value = raw.get(name)
        if value is not None and (default is None or _inner(path, name, value) != _inner(path, name, default)):
            form[name] = _inner(path, name, value)
    return form


def _inner(path: str, name: str, value: Any) -> Any:
    inner = f"{path}.{name}"
    return _normalize(inner, value) if inner in FIELDS else value


def _whole_numbers(value: Any) -> Any:
    """Write 1.0 as 1: JSON has one type of number, and API servers return either form."""
    if isinstance(value, Mapping):
        return {key: _whole_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _prune(value: Any) -> Any:
    """Return a value without empty maps, empty lists and nulls, which have no effect; None when no field is left."""
    if isinstance(value, Mapping):
        return {k: pruned for k, inner in value.items() if (pruned := _prune(inner)) is not None} or None
    if isinstance(value, list | tuple):
        return list(value) or None
    return value
