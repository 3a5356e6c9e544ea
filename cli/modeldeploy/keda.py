"""A ScaledObject of KEDA for a model that answers messages, from what its spec says of the broker. Pure.

https://keda.sh/docs/latest/concepts/scaling-deployments/#scaling-of-custom-resources. It changes the size of the
ModelDeployment and not that of a Deployment: the operator divides the pods among the revisions of a rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modeldeploy.kube import Body
from modeldeploy.requests import Refused

_API = "keda.sh/v1alpha1"
#: What KEDA calls the SASL mechanisms of Kafka.
SASL = {"PLAIN": "plaintext", "SCRAM-SHA-256": "scram_sha256", "SCRAM-SHA-512": "scram_sha512"}
#: What KEDA calls the entries of the Secrets of a stream.
_LOGIN = {"username": "username", "password": "password"}
_CERTIFICATES = {"ca": "ca.crt", "cert": "tls.crt", "key": "tls.key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a model is to be scaled, and what its spec does not say of the broker.

    Attributes:
        lag: waiting messages for each pod.
        nats_monitoring: host and port of the monitoring endpoint of NATS.
        nats_stream: name of the stream of JetStream with the input.
        mechanism: SASL mechanism for Kafka, a key of SASL.
    """

    lag: int
    least: int
    most: int
    nats_monitoring: str = ""
    nats_stream: str = ""
    mechanism: str = "PLAIN"


def manifests_of(model: Body, wish: Wish) -> list[Body]:
    """Return the ScaledObject, and the TriggerAuthentication where the broker wants to know who asks.

    Raises:
        Refused: the model answers no messages, scales itself, or something is missing.
    """
    spec, name = model["spec"], str(model["metadata"]["name"])
    stream = (spec.get("server") or {}).get("stream")
    if stream is None:
        raise Refused(f"{name} answers no messages: it has no spec.server.stream")
    if "autoscaling" in spec:
        raise Refused(f"{name} has spec.autoscaling, which would fight with KEDA: take it out of the spec first")
    if wish.least > wish.most:
        raise Refused(f"--min {wish.least} is above --max {wish.most}")
    kind, metadata = _trigger(stream, _group(model, stream), wish)
    trigger: Body = {"type": kind, "metadata": metadata}
    entries = [] if kind == "nats-jetstream" else list(_entries(stream))
    found: list[Body] = []
    if entries:
        trigger["authenticationRef"] = {"name": name}
        found.append(_object("TriggerAuthentication", model, {"secretTargetRef": entries}))
    target = {"apiVersion": model["apiVersion"], "kind": model["kind"], "name": name}
    scaled = {"scaleTargetRef": target, "minReplicaCount": wish.least, "maxReplicaCount": wish.most}
    return [*found, _object("ScaledObject", model, {**scaled, "triggers": [trigger]})]


def _trigger(stream: Mapping[str, Any], group: str, wish: Wish) -> tuple[str, dict[str, str]]:
    """The type of the scaler and its parameters, which are all strings."""
    broker = next(name for name in ("nats", "redis", "rabbitmq", "kafka") if name in stream)
    scheme, _, rest = stream[broker]["url"].partition("://")
    topic, lag = stream["input"], str(wish.lag)
    if broker == "nats":
        if not wish.nats_monitoring or not wish.nats_stream:
            raise Refused(
                "KEDA asks the monitoring endpoint of NATS, which no spec has:"
                " give --nats-monitoring (such as nats.messaging:8222) and --nats-stream, the stream with the input"
            )
        where = {"natsServerMonitoringEndpoint": wish.nats_monitoring, "account": "$G", "stream": wish.nats_stream}
        return "nats-jetstream", {**where, "consumer": group, "lagThreshold": lag}
    if broker == "redis":
        host, _, database = rest.partition("/")
        found = {"address": _with_port(host, 6379), "stream": topic, "consumerGroup": group, "lagCount": lag}
        found |= {"databaseIndex": database} if database else {}
        return "redis-streams", found | ({"enableTLS": "true"} if scheme == "rediss" else {})
    if broker == "rabbitmq":
        if "tls" in stream:
            raise Refused(
                "KEDA takes certificates for RabbitMQ with an entry `tls: enable` of the same Secret, which"
                " spec.server.stream.tls has not: write the TriggerAuthentication yourself"
            )
        # Without a virtual host the slash at the end is required.
        host = f"{scheme}://{rest}" if "/" in rest else f"{scheme}://{rest}/"
        return "rabbitmq", {"host": host, "queueName": topic, "mode": "QueueLength", "value": lag}
    servers = ",".join(_with_port(server, 9092) for server in rest.split(","))
    found = {"bootstrapServers": servers, "consumerGroup": group, "topic": topic, "lagThreshold": lag}
    found |= {"offsetResetPolicy": "earliest"}
    found |= {"tls": "enable"} if scheme == "kafkas" else {}
    return "kafka", found | ({"sasl": SASL[wish.mechanism]} if "secretName" in stream else {})


def _group(model: Body, stream: Mapping[str, Any]) -> str:
    """The consumer group, which the operator makes of namespace and name where the spec has none."""
    metadata = model["metadata"]
    return str(stream.get("group") or f"{metadata['namespace']}_{metadata['name']}")


def _entries(stream: Mapping[str, Any]) -> list[dict[str, str]]:
    """Which entries of the Secrets are which parameters."""
    secrets = ((stream.get("secretName"), _LOGIN), ((stream.get("tls") or {}).get("secretName"), _CERTIFICATES))
    return [
        {"parameter": parameter, "name": secret, "key": key}
        for secret, keys in secrets
        if secret
        for parameter, key in keys.items()
    ]


def _with_port(host: str, port: int) -> str:
    return host if ":" in host else f"{host}:{port}"


def _object(kind: str, model: Body, spec: Body) -> Body:
    metadata = {name: model["metadata"][name] for name in ("name", "namespace")}
    return {"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": spec}
