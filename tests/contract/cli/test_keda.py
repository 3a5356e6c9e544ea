"""What `modeldeploy keda` prints is what KEDA reads: its documented parameters of each scaler, as of KEDA 2.17."""

from typing import Any

import pytest

from modeldeploy.keda import SASL, Wish, manifests_of
from modeldeploy.requests import Refused

#: The parameters of https://keda.sh/docs/2.17/scalers/: required ones, others, and those of a TriggerAuthentication.
SCALERS: dict[str, tuple[set[str], set[str], set[str]]] = {
    "nats-jetstream": (
        {"natsServerMonitoringEndpoint", "account", "stream", "consumer"},
        {"lagThreshold", "activationLagThreshold", "useHttps"},
        set(),
    ),
    "redis-streams": (
        {"address", "stream"},
        {"consumerGroup", "pendingEntriesCount", "streamLength", "lagCount", "activationLagCount", "databaseIndex"}
        | {"enableTLS", "unsafeSsl"},
        {"username", "password", "tls", "ca", "cert", "key", "keyPassword"},
    ),
    "rabbitmq": (
        {"host", "queueName", "mode", "value"},
        {"protocol", "activationValue", "vhostName", "useRegex", "excludeUnacknowledged", "unsafeSsl", "timeout"},
        {"username", "password", "tls", "ca", "cert", "key", "keyPassword", "host"},
    ),
    "kafka": (
        {"bootstrapServers", "consumerGroup"},
        {"topic", "lagThreshold", "activationLagThreshold", "offsetResetPolicy", "allowIdleConsumers", "tls", "sasl"}
        | {"scaleToZeroOnInvalidOffset", "excludePersistentLag", "version", "partitionLimitation", "unsafeSsl"},
        {"username", "password", "sasl", "tls", "ca", "cert", "key", "keyPassword"},
    ),
}
VALUES = {
    "mode": {"QueueLength", "MessageRate"},
    "offsetResetPolicy": {"latest", "earliest"},
    "tls": {"enable", "disable"},
    "sasl": {"none", "plaintext", "scram_sha256", "scram_sha512"},
    "enableTLS": {"true", "false"},
}
SCALED = {"scaleTargetRef", "pollingInterval", "cooldownPeriod", "minReplicaCount", "maxReplicaCount", "triggers"}
WISH = Wish(lag=500, least=0, most=20, nats_monitoring="nats.messaging:8222", nats_stream="fraud")
TOPICS = {"input": "fraud.requests", "output": "fraud.answers", "deadLetter": "fraud.refused"}


def a_model(stream: dict[str, Any] | None, **spec: Any) -> dict[str, Any]:
    server = {} if stream is None else {"stream": {**TOPICS, **stream}}
    metadata = {"name": "fraud", "namespace": "shop"}
    spec = {"model": {"storageUri": "s3://models/fraud"}, "server": server, **spec}
    return {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("stream", "kind", "expected"),
    [
        pytest.param(
            {"nats": {"url": "nats://a:4222,b:4222"}, "group": "g"},
            "nats-jetstream",
            {
                "natsServerMonitoringEndpoint": "nats.messaging:8222",
                "account": "$G",
                "stream": "fraud",
                "consumer": "g",
                "lagThreshold": "500",
            },
            id="NATS, by its monitoring",
        ),
        pytest.param(
            {"redis": {"url": "rediss://redis/2"}},
            "redis-streams",
            {
                "address": "redis:6379",
                "stream": "fraud.requests",
                "consumerGroup": "shop_fraud",
                "lagCount": "500",
                "databaseIndex": "2",
                "enableTLS": "true",
            },
            id="Redis, by the lag of the group",
        ),
        pytest.param(
            {"rabbitmq": {"url": "amqp://rabbit:5672"}},
            "rabbitmq",
            {"host": "amqp://rabbit:5672/", "queueName": "fraud.requests", "mode": "QueueLength", "value": "500"},
            id="RabbitMQ, by the length of the queue",
        ),
        pytest.param(
            {"kafka": {"url": "kafkas://a:9093,b"}, "secretName": "kafka-user"},
            "kafka",
            {
                "bootstrapServers": "a:9093,b:9092",
                "consumerGroup": "shop_fraud",
                "topic": "fraud.requests",
                "lagThreshold": "500",
                "offsetResetPolicy": "earliest",
                "tls": "enable",
                "sasl": "plaintext",
            },
            id="Kafka, by the committed offsets",
        ),
    ],
)
def test_a_trigger_has_what_its_scaler_knows(stream: dict[str, Any], kind: str, expected: dict[str, str]) -> None:
    scaled = manifests_of(a_model(stream), WISH)[-1]
    assert (scaled["apiVersion"], scaled["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    assert scaled["spec"].keys() <= SCALED
    assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (0, 20)
    target = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "name": "fraud"}
    assert scaled["spec"]["scaleTargetRef"] == target
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == kind
    assert trigger["metadata"] == expected
    required, others, _ = SCALERS[kind]
    assert required <= trigger["metadata"].keys() <= required | others
    for name, value in trigger["metadata"].items():
        assert isinstance(value, str), name
        assert value in VALUES.get(name, {value}), name


@pytest.mark.parametrize(
    ("stream", "kind", "parameters"),
    [
        pytest.param({"redis": {"url": "redis://r"}}, "redis-streams", [], id="nobody is asked for a name"),
        pytest.param(
            {"redis": {"url": "redis://r"}, "secretName": "u"},
            "redis-streams",
            ["username", "password"],
            id="a user of Redis",
        ),
        pytest.param(
            {"kafka": {"url": "kafkas://k"}, "secretName": "u", "tls": {"secretName": "c"}},
            "kafka",
            ["username", "password", "ca", "cert", "key"],
            id="a user and a certificate",
        ),
        pytest.param(
            {"nats": {"url": "nats://n"}, "secretName": "u"}, "nats-jetstream", [], id="NATS, which has no users there"
        ),
    ],
)
def test_an_authentication_has_the_entries_of_the_secrets(
    stream: dict[str, Any], kind: str, parameters: list[str]
) -> None:
    *authentications, scaled = manifests_of(a_model(stream), WISH)
    trigger = scaled["spec"]["triggers"][0]
    assert ("authenticationRef" in trigger) == bool(parameters)
    for one in authentications:
        assert (one["kind"], one["metadata"]) == ("TriggerAuthentication", {"name": "fraud", "namespace": "shop"})
        assert trigger["authenticationRef"] == {"name": one["metadata"]["name"]}
        assert all(entry.keys() == {"parameter", "name", "key"} for entry in one["spec"]["secretTargetRef"])
    found = [entry["parameter"] for one in authentications for entry in one["spec"]["secretTargetRef"]]
    assert found == parameters
    assert set(found) <= SCALERS[kind][2]


def test_every_mechanism_of_the_server_is_one_of_keda() -> None:
    assert set(SASL.values()) <= VALUES["sasl"]


@pytest.mark.parametrize(
    ("model", "wish", "told"),
    [
        pytest.param(a_model(None), WISH, "it has no spec.server.stream", id="no messages"),
        pytest.param(
            a_model({"redis": {"url": "redis://r"}}, autoscaling={"maxReplicas": 3}),
            WISH,
            "take it out of the spec first",
            id="two that scale",
        ),
        pytest.param(
            a_model({"nats": {"url": "nats://n"}}), Wish(lag=1, least=1, most=2), "--nats-monitoring", id="NATS"
        ),
        pytest.param(
            a_model({"redis": {"url": "redis://r"}}), Wish(lag=1, least=3, most=2), "--min 3 is above", id="bounds"
        ),
        pytest.param(
            a_model({"rabbitmq": {"url": "amqps://r"}, "tls": {"secretName": "c"}}),
            WISH,
            "write the TriggerAuthentication yourself",
            id="certificates for RabbitMQ",
        ),
    ],
)
def test_what_cannot_be_scaled_is_refused(model: dict[str, Any], wish: Wish, told: str) -> None:
    with pytest.raises(Refused, match=told):
        manifests_of(model, wish)
