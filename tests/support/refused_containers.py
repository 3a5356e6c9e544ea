"""Servers of the user's own that cannot work, and what the API server says of each."""

from typing import Any

from spec_parts import MODEL, Row

CONTAINER = {"image": "scorer:1", "port": 9000, "readinessPath": "/healthz"}


def own(container: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A spec with a server of one's own; `server` in `spec` are other fields of it."""
    server = {"container": {**CONTAINER, **(container or {})}, **spec.pop("server", {})}
    return {"model": {} if model is None else model, "server": server, **spec}


def judged(strategy: str, name: str, **metric: Any) -> dict[str, Any]:
    analysis = {"metrics": [{"name": name, **metric}]}
    return {"replicas": 2, "strategy": {strategy: {"analysis": analysis}}}


CONTAINERS: list[Row] = [
    ("a container without an image", {"server": {"container": {"port": 9000}}}, "container.image: Required value"),
    ("a container without a port", {"server": {"container": {"image": "a"}}}, "container.port: Required value"),
    ("a container on our port", own({"port": 8080}), "container.port must not be 8080 or 8089"),
    (
        "a container that cannot be asked whether it is ready",
        {"server": {"container": {"image": "a", "port": 9000}}},
        "container.readinessPath is missing: write the path",
    ),
    ("a protocol that nobody knows", own({"protocol": "grpc"}), "spec.server.container.protocol"),
    ("a path that is none", own({"readinessPath": "healthz"}), "spec.server.container.readinessPath"),
    ("a format beside a container", own(model={**MODEL, "format": "onnx"}), "model.format, installRequirements and"),
    ("a container that is trusted", own(model={**MODEL, "trusted": True}), "model.format, installRequirements and"),
    ("a poll beside a container", own(model={**MODEL, "pollInterval": "1m"}), "model.pollInterval is a task of our"),
    (
        "an alias beside a container",
        own(model={"storageUri": "models:/fraud@champion"}),
        "beside server.container an alias of a registry is not followed",
    ),
    (
        "the newest version of a model beside a container",
        own(model={"storageUri": "model-registry://fraud"}),
        "beside server.container an alias of a registry is not followed",
    ),
    (
        "an image that is mounted beside a container",
        own(model={"storageUri": f"oci://registry/m@sha256:{'a' * 64}", "mount": "image"}),
        "model.mount is for our model server",
    ),
    ("a pin of nothing", own(model={"sha256": "a" * 64}), "are of the artifact: write storageUri"),
    (
        "drift beside a container",
        own(monitoring={"drift": {}}),
        "monitoring.drift, dataQuality, slices and estimatedQuality compare",
    ),
    (
        "an evaluation of a container",
        own(
            replicas=2,
            strategy={"canary": {"steps": [{"replay": {}}]}},
        ),
        "the steps evaluate and replay ask our model server",
    ),
    (
        "an A/B test of containers",
        own(
            strategy={
                "abTest": {
                    "metric": "recall",
                    "minimumSampleSize": 100,
                    "trafficRouting": {"gatewayAPI": {"parentRefs": [{"name": "public"}]}},
                }
            }
        ),
        "compares conversion or accuracy, of feedback",
    ),
    (
        "a canary of containers judged by labels",
        own(**judged("canary", "recall", min=0.9)),
        "is judged by errors, refusals, latency, by accuracy and conversion",
    ),
    (
        "a blue-green of containers judged by what they answer",
        own(**judged("blueGreen", "prediction-shift", max=1)),
        "is judged by errors, refusals, latency, by accuracy and conversion",
    ),
    ("gRPC of a container", own(server={"grpcPort": 9001}), "requests over gRPC are not metered"),
    (
        "messages for a container",
        own(
            server={
                "stream": {"input": "in", "output": "out", "deadLetter": "dead", "nats": {"url": "nats://nats:4222"}}
            }
        ),
        "server.stream gives messages to our model server",
    ),
    (
        "batches in a container",
        own(server={"batching": {"maxBatchSize": 8}}),
        "server.accelerate and batching are of our model server",
    ),
]
