"""`spec` of a ModelDeployment as frozen values; field by field as in `crds/modeldeployments.yaml`.

The API server has validated and defaulted the input; this module converts it to typed values. An unknown field is
reported and has no effect: the definition may be newer than the operator (docs/decisions/0012).
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import orjson
from msgspec import field

from model_operator.api.analysis import AnalysisSpec
from model_operator.api.hooks import Hooks
from model_operator.api.json import Body
from model_operator.api.place import check_levels
from model_operator.api.routing import Routing
from model_operator.api.strategy import (
    BlueGreen,
    Canary,
    RollingUpdate,
    Stickiness,
    Strategy,
    StrategyFields,
    parse_strategy,
)
from model_operator.api.stream import Stream
from model_operator.api.values import Duration, Number, Seconds, Value, read
from model_operator.errors import InvalidSpec

#: Fields of `spec.monitoring` that the server implements.
_MONITORED = ("drift", "dataQuality", "slices", "estimatedQuality")


class Cache(Value, frozen=True, kw_only=True):
    """Shared cache of packages (`spec.model.cache`); exactly one field is set."""

    claim_name: str | None = None
    host_path: str | None = None


class CertificateAuthority(Value, frozen=True, kw_only=True):
    """Certificates to trust for downloads (`spec.model.ca`): a key of a ConfigMap or of a Secret."""

    config_map_name: str | None = None
    secret_name: str | None = None
    key: str = "ca.crt"


class PublicKey(Value, frozen=True, kw_only=True):
    """Entry of a Secret or ConfigMap with a public key (`spec.model.signature.publicKey`); exactly one name is set."""

    secret_name: str | None = None
    config_map_name: str | None = None
    key: str


class Identity(Value, frozen=True, kw_only=True):
    """Identity in a certificate of Sigstore (`spec.model.signature.identity`)."""

    subject: str
    issuer: str


class Signature(Value, frozen=True, kw_only=True):
    """Signature that the package must have (`spec.model.signature`); exactly one field is set."""

    public_key: PublicKey | None = None
    identity: Identity | None = None


class Registry(Value, frozen=True, kw_only=True):
    """Address of the registry of models (`spec.model.registry`)."""

    url: str


class Model(Value, frozen=True, kw_only=True):
    """The model to serve, and whether its code may run (`spec.model`).

    `storage_uri` is empty only beside a server of the user's own that brings its model in its image.
    """

    storage_uri: str = ""
    format: str = "auto"
    version: str | None = None
    sha256: str | None = None
    trusted: bool = False
    signature: Signature = Signature()
    secret_name: str | None = None
    install_requirements: bool = False
    poll_interval: Duration | None = None
    cache: Cache = Cache()
    ca: CertificateAuthority | None = None
    registry: Registry | None = None
    mount: Literal["image"] | None = None

    @property
    def image(self) -> str:
        """The image that is mounted, as `registry/name@sha256:...`; empty where the server downloads the package."""
        return self.storage_uri.removeprefix("oci://") if self.mount == "image" else ""

    @property
    def cache_claim(self) -> str | None:
        """The claim that holds the cache."""
        return self.cache.claim_name

    @property
    def cache_path(self) -> str | None:
        """The folder of the node that holds the cache."""
        return self.cache.host_path


class Batching(Value, frozen=True, kw_only=True):
    """Dynamic batching of concurrent requests (`spec.server.batching`)."""

    max_batch_size: int = 32
    max_delay_milliseconds: int = 1


class InputLog(Value, frozen=True, kw_only=True):
    """The log of sampled inputs and predictions (`spec.server.inputLog`)."""

    sample_rate: Number = 0
    redact: tuple[str, ...] = ()
    sink: str = "stdout"


class SecretRef(Value, frozen=True, kw_only=True):
    """Reference to a required Secret (`spec.server.tls`)."""

    secret_name: str


class KeyLimit(Value, frozen=True, kw_only=True):
    """What one API key may ask of a pod (an item of `spec.server.auth.limits`)."""

    key: str
    requests_per_second: Number | None = None
    burst: int | None = None
    concurrency: int | None = None


class Auth(Value, frozen=True, kw_only=True):
    """Authentication by API key (`spec.server.auth`), of predictions and of what `protect` lists."""

    secret_name: str
    protect: tuple[str, ...] = ()
    limits: tuple[KeyLimit, ...] = ()


class Drift(Value, frozen=True, kw_only=True):
    """Detection of drift between the inputs and the training data (`spec.monitoring.drift`)."""

    reference: str = "package"
    threshold: Number = 0.2


class QualityLimits(Value, frozen=True, kw_only=True):
    """Shares by which problems may be more frequent than in training (`spec.monitoring.dataQuality.limits`)."""

    missing: Number = 0.05
    unseen_category: Number = 0.05
    out_of_range: Number = 0.05
    wrong_type: Number = 0.05
    outlier: Number = 0.05


class DataQuality(Value, frozen=True, kw_only=True):
    """Comparison of each request with the training data (`spec.monitoring.dataQuality`)."""

    limits: QualityLimits = QualityLimits()


class Slice(Value, frozen=True, kw_only=True):
    """An attribute whose groups are told apart (`spec.monitoring.slices`): a feature, or a key of feedback."""

    name: str
    max_groups: int = 8


#: Paths of probes that a protocol has: ready, and alive.
_PROBES = {"openInference": ("/v2/health/ready", "/v2/health/live"), "openAI": ("/health", "/health")}


class Container(Value, frozen=True, kw_only=True):
    """A server of the user's own behind ours (`spec.server.container`)."""

    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    port: int
    protocol: str = "http"
    readiness_path: str = ""
    liveness_path: str = ""
    prediction_paths: tuple[str, ...] = ()
    env: tuple[Body, ...] = ()
    resources: Body = field(default_factory=dict)

    @property
    def ready(self) -> str:
        """Path that is asked whether the server is ready."""
        return self.readiness_path or _PROBES.get(self.protocol, ("/", ""))[0]

    @property
    def live(self) -> str:
        """Path that is asked whether the server works; empty if nothing is asked."""
        return self.liveness_path or _PROBES.get(self.protocol, ("", ""))[1]

    @property
    def tag(self) -> str:
        """Tag of the image, empty without one."""
        name = self.image.partition("@")[0].rpartition("/")[2]
        return name.partition(":")[2]


class PodFields(Value, frozen=True, kw_only=True):
    """Fields of `spec.server` that all kinds have."""

    image: str = ""
    env: tuple[Body, ...] = ()
    resources: Body = field(default_factory=dict)
    pod_template: Body = field(default_factory=dict)


class ServerFields(Value, frozen=True, kw_only=True):
    """`spec.server` on the wire."""

    image: str = ""
    image_pull_policy: str | None = None
    workers: int = 1
    log_level: str = "info"
    batching: Batching = Batching()
    request_timeout: Seconds = field(name="requestTimeoutSeconds", default=Seconds(seconds=30))
    max_request_bytes: int = 10_485_760
    input_log: InputLog | None = None
    auth: Auth | None = None
    tls: SecretRef | None = None
    accelerate: str = "none"
    grpc_port: int | None = None
    stream: Stream | None = None
    env: tuple[Body, ...] = ()
    resources: Body = field(default_factory=dict)
    container: Container | None = None
    pod_template: Body = field(default_factory=dict)


class Server(ServerFields, frozen=True, kw_only=True):
    """Settings of the model server: `spec.server`, and the part of `spec.monitoring` that the server implements."""

    drift: Drift | None = None
    data_quality: DataQuality | None = None
    slices: tuple[Slice, ...] = ()
    estimated_quality: bool = False

    @property
    def max_batch_size(self) -> int:
        """Maximum number of rows in one call of the model."""
        return self.batching.max_batch_size

    @property
    def max_batch_delay_milliseconds(self) -> int:
        """Maximum time in milliseconds that a request waits for others to join its batch."""
        return self.batching.max_delay_milliseconds

    @property
    def auth_secret_name(self) -> str | None:
        """Name of the Secret with the accepted API keys."""
        return self.auth.secret_name if self.auth else None

    @property
    def protected(self) -> tuple[str, ...]:
        """What needs an API key besides predictions: `metrics`, `docs`."""
        return self.auth.protect if self.auth else ()

    @property
    def key_limits(self) -> tuple[KeyLimit, ...]:
        """Limits of single API keys."""
        return self.auth.limits if self.auth else ()

    @property
    def tls_secret_name(self) -> str | None:
        """Name of the Secret with the certificate."""
        return self.tls.secret_name if self.tls else None

    @property
    def scheme(self) -> str:
        """Scheme of the HTTP port, which is also the name of the port."""
        return "https" if self.tls else "http"


class WakeAt(Value, frozen=True, kw_only=True):
    """A time at which a sleeping model wakes, and for how long it stays awake (`spec.autoscaling.wakeAt`)."""

    schedule: str
    time_zone: str | None = None
    duration: Duration = field(name="for")


class Autoscaling(Value, frozen=True, kw_only=True):
    """Number of pods by load (`spec.autoscaling`).

    `idle_after` is the time without a request after which the model sleeps, None if it never does.
    """

    min_replicas: int = 1
    max_replicas: int
    idle_after: Duration | None = None
    wake_at: tuple[WakeAt, ...] = ()
    target_cpu_percent: int | None = field(name="targetCPUUtilizationPercentage", default=None)
    target_memory_percent: int | None = field(name="targetMemoryUtilizationPercentage", default=None)
    target_requests_per_second: Number | None = None
    target_stream_lag: int | None = None
    metrics: tuple[Body, ...] = ()
    behavior: Body = field(default_factory=dict)

    @property
    def fewest_awake(self) -> int:
        """Lower limit for the number of pods while the model is awake."""
        return max(1, self.min_replicas)


class Monitoring(Value, frozen=True, kw_only=True):
    """Monitoring of the model while it serves (`spec.monitoring`)."""

    drift: Drift | None = None
    data_quality: DataQuality | None = None
    slices: tuple[Slice, ...] = ()
    estimated_quality: bool = False
    service_monitor: bool = False
    scrape_key: str | None = None
    alerts: bool = False


class _Spec(Value, frozen=True, kw_only=True):
    model: Model = Model()
    replicas: int = 1
    autoscaling: Autoscaling | None = None
    min_ready: Seconds = field(name="minReadySeconds", default=Seconds())
    progress_deadline: Seconds = field(name="progressDeadlineSeconds", default=Seconds(minutes=10))
    progress_deadline_abort: bool = True
    revision_history_limit: int = 3
    paused: bool = False
    common_labels: Mapping[str, str] = field(default_factory=dict)
    common_annotations: Mapping[str, str] = field(default_factory=dict)
    hooks: Hooks = Hooks()
    monitoring: Monitoring = Monitoring()


class SpecFields(_Spec, frozen=True, kw_only=True):
    """`spec` on the wire."""

    server: ServerFields = ServerFields()
    strategy: StrategyFields = StrategyFields(rolling_update=RollingUpdate())


class Spec(_Spec, frozen=True, kw_only=True):
    """Desired state of a ModelDeployment (`spec`).

    `revision_source` is the part that makes pods differ, as the API server returned it; `api.identity` says when two
    of them are the same revision.
    """

    server: Server
    strategy: Strategy
    revision_source: Body

    @property
    def analysis(self) -> AnalysisSpec:
        """Analysis of a new revision; without an `analysis` block, of errors and refusals."""
        strategy = self.strategy
        return (strategy.analysis if isinstance(strategy, Canary | BlueGreen) else None) or AnalysisSpec()

    @property
    def stickiness(self) -> Stickiness | None:
        """Identification of returning users in an A/B test; None without such a test."""
        return self.strategy.stickiness if isinstance(self.strategy, Canary) else None

    @property
    def routing(self) -> Routing | None:
        """What the router needs to know; None where the number of pods is the split."""
        return self.strategy.routing if isinstance(self.strategy, Canary) else None

    @property
    def service_monitor(self) -> bool:
        """Whether to create a ServiceMonitor."""
        return self.monitoring.service_monitor

    @property
    def alerts(self) -> bool:
        """Whether to create a PrometheusRule with alerts."""
        return self.monitoring.alerts


def parse_spec(body: Body) -> Spec:
    """Convert `spec` to a value.

    Raises:
        InvalidSpec: a field is missing or invalid; the message names it.
    """
    raw = body.get("spec")
    if not isinstance(raw, Mapping):
        raise InvalidSpec("spec: the field is missing; write at least spec.model.storageUri")
    check_levels(raw, "spec")
    # Server and strategy are parsed separately: many resources have equal ones, which share one value.
    shared = read(raw, _Spec, "spec")
    server = parse_server(raw.get("server", {}), raw.get("monitoring"))
    if not shared.model.storage_uri and server.container is None:
        raise InvalidSpec("spec.model.storageUri: the field is missing; write it, or spec.server.container")
    return Spec(
        **{name: getattr(shared, name) for name in _Spec.__struct_fields__},
        server=server,
        strategy=parse_strategy(raw.get("strategy", {"rollingUpdate": {}})),
        revision_source=revision_source(raw),
    )


def revision_source(spec: Body) -> Body:
    """Return the part of `spec` that determines the pods: the model, the server, and what it monitors."""
    source: dict[str, Any] = {"model": dict(spec.get("model", {})), "server": dict(spec.get("server", {}))}
    monitoring = spec.get("monitoring", {})
    monitored = {name: monitoring[name] for name in _MONITORED if monitoring.get(name) not in (None, [], False)}
    return {**source, "monitoring": monitored} if monitored else source


def parse_model(raw: Body) -> Model:
    """Convert `spec.model` to a value."""
    return read(raw, Model, "spec.model")


def parse_server(raw: Body, monitoring: Body | None = None) -> Server:
    """Convert `spec.server`, and the server's part of `spec.monitoring`, to a value; equal input is parsed once."""
    found = monitoring or {}
    monitored = {name: found.get(name) for name in _MONITORED} | {
        "slices": found.get("slices") or [],
        "estimatedQuality": found.get("estimatedQuality", False),
    }
    return _read_server(orjson.dumps({**raw, **monitored}))


@lru_cache(maxsize=256)
def _read_server(text: bytes) -> Server:
    return read(orjson.loads(text), Server, "spec.server")
