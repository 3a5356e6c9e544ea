"""`spec` of a ModelDeployment as frozen values; field by field as in `crds/modeldeployments.yaml`.

The API server has validated and defaulted what arrives here; this module only gives it types, and
refuses what it does not know, so that an old operator never guesses at a newer schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any

import orjson

from model_operator.api.analysis import AnalysisSpec
from model_operator.api.hooks import Hooks, parse_hooks
from model_operator.api.json import Body
from model_operator.api.strategy import BlueGreen, Canary, GatewayRouting, Stickiness, Strategy, parse_strategy
from model_operator.api.times import optional_duration
from model_operator.errors import InvalidSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which model, and how far it is trusted (`spec.model`)."""

    storage_uri: str
    format: str = "auto"
    version: str | None = None
    sha256: str | None = None
    trusted: bool = False
    secret_name: str | None = None
    install_requirements: bool = False
    poll_interval: timedelta | None = None
    cache_claim: str | None = None
    cache_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How the model is served (`spec.server`). `raw` is the field as it was written."""

    image: str = ""
    image_pull_policy: str | None = None
    workers: int = 1
    log_level: str = "info"
    max_batch_size: int = 32
    max_batch_delay_milliseconds: int = 1
    request_timeout: timedelta = timedelta(seconds=30)
    max_request_bytes: int = 10_485_760
    input_log: Body | None = None
    auth_secret_name: str | None = None
    tls_secret_name: str | None = None
    accelerate: str = "none"
    grpc_port: int | None = None
    drift: Body | None = None
    env: tuple[Body, ...] = ()
    resources: Body = field(default_factory=dict)
    pod_template: Body = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        """What its HTTP port speaks, which is the port's name too."""
        return "https" if self.tls_secret_name else "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    """Number of pods by load (`spec.autoscaling`)."""

    min_replicas: int = 1
    max_replicas: int
    target_cpu_percent: int = 70
    metrics: tuple[Body, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is wanted (`spec`).

    `revision_source` is the part that makes pods differ, as the API server returned it; `api.identity` says when two
    of them are the same revision.
    `service_monitor` and `alerts` say whether the Prometheus operator is told of the model.
    """

    model: Model
    server: Server
    strategy: Strategy
    revision_source: Body
    replicas: int = 1
    autoscaling: Autoscaling | None = None
    min_ready: timedelta = timedelta(0)
    progress_deadline: timedelta = timedelta(minutes=10)
    progress_deadline_abort: bool = True
    revision_history_limit: int = 3
    paused: bool = False
    hooks: Hooks = field(default_factory=Hooks)
    service_monitor: bool = False
    alerts: bool = False

    @property
    def analysis(self) -> AnalysisSpec:
        """What judges a new revision; without an `analysis` block errors alone."""
        strategy = self.strategy
        return (strategy.analysis if isinstance(strategy, Canary | BlueGreen) else None) or AnalysisSpec()

    @property
    def stickiness(self) -> Stickiness | None:
        """How users of an A/B test are known again, if there is such a test."""
        return self.strategy.stickiness if isinstance(self.strategy, Canary) else None

    @property
    def gateway(self) -> GatewayRouting | None:
        """The Gateway API's part of the strategy, if the traffic is split there."""
        return self.strategy.gateway if isinstance(self.strategy, Canary) else None


def parse_spec(body: Body) -> Spec:
    """Give types to `spec`.

    Raises:
        InvalidSpec: a field is missing or not understood; the message names it.
    """
    try:
        spec = body["spec"]
        monitoring = spec.get("monitoring") or {}
        return Spec(
            model=parse_model(spec["model"]),
            server=parse_server(spec.get("server", {}), spec.get("monitoring")),
            strategy=parse_strategy(spec.get("strategy", {"rollingUpdate": {}})),
            revision_source=revision_source(spec),
            replicas=spec.get("replicas", 1),
            autoscaling=_autoscaling(spec.get("autoscaling")),
            min_ready=timedelta(seconds=spec.get("minReadySeconds", 0)),
            progress_deadline=timedelta(seconds=spec.get("progressDeadlineSeconds", 600)),
            progress_deadline_abort=spec.get("progressDeadlineAbort", True),
            revision_history_limit=spec.get("revisionHistoryLimit", 3),
            paused=spec.get("paused", False),
            hooks=parse_hooks(spec.get("hooks")),
            service_monitor=monitoring.get("serviceMonitor", False),
            alerts=monitoring.get("alerts", False),
        )
    except KeyError as error:
        raise InvalidSpec(f"spec: the field {error.args[0]!r} is missing") from error


def revision_source(spec: Body) -> Body:
    """Return the part of `spec` that makes pods differ: the model, the server, and its drift detection."""
    source: dict[str, Any] = {"model": dict(spec["model"]), "server": dict(spec.get("server", {}))}
    drift = spec.get("monitoring", {}).get("drift")
    if drift is not None:
        source["monitoring"] = {"drift": drift}
    return source


def parse_model(raw: Body) -> Model:
    """Give types to `spec.model`."""
    return Model(
        storage_uri=raw["storageUri"],
        format=raw.get("format", "auto"),
        version=raw.get("version"),
        sha256=raw.get("sha256"),
        trusted=raw.get("trusted", False),
        secret_name=raw.get("secretName"),
        install_requirements=raw.get("installRequirements", False),
        poll_interval=optional_duration(raw.get("pollInterval")),
        cache_claim=raw.get("cache", {}).get("claimName"),
        cache_path=raw.get("cache", {}).get("hostPath"),
    )


def parse_server(raw: Body, monitoring: Body | None = None) -> Server:
    """Give types to `spec.server`, and to what of `spec.monitoring` the server does; equal ones are read once."""
    return _read_server(orjson.dumps([raw, (monitoring or {}).get("drift")]))


@lru_cache(maxsize=256)
def _read_server(text: bytes) -> Server:
    raw, drift = orjson.loads(text)
    batching = raw.get("batching", {})
    return Server(
        image=raw.get("image", ""),
        image_pull_policy=raw.get("imagePullPolicy"),
        workers=raw.get("workers", 1),
        log_level=raw.get("logLevel", "info"),
        max_batch_size=batching.get("maxBatchSize", 32),
        max_batch_delay_milliseconds=batching.get("maxDelayMilliseconds", 1),
        request_timeout=timedelta(seconds=raw.get("requestTimeoutSeconds", 30)),
        max_request_bytes=raw.get("maxRequestBytes", 10_485_760),
        input_log=raw.get("inputLog"),
        auth_secret_name=raw.get("auth", {}).get("secretName"),
        tls_secret_name=raw.get("tls", {}).get("secretName"),
        accelerate=raw.get("accelerate", "none"),
        grpc_port=raw.get("grpcPort"),
        drift=drift,
        env=tuple(raw.get("env", ())),
        resources=raw.get("resources", {}),
        pod_template=raw.get("podTemplate", {}),
    )


def _autoscaling(raw: Body | None) -> Autoscaling | None:
    if raw is None:
        return None
    return Autoscaling(
        min_replicas=raw.get("minReplicas", 1),
        max_replicas=raw["maxReplicas"],
        target_cpu_percent=raw.get("targetCPUUtilizationPercentage", 70),
        metrics=tuple(raw.get("metrics", ())),
    )
