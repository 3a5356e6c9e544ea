"""The settings of a server, read once from the environment by `__main__.py`.

docs/wire.md says which of them the operator writes. Values are parsed and checked here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, structs

from model_server.environment import converted, variables
from model_server.errors import SettingsInvalid

PREFIX = "MODEL_SERVER_"
#: Where the reason of a failed start goes when nothing else is set: Kubernetes' own default.
TERMINATION_LOG = Path("/dev/termination-log")

#: What the operator writes for `shadow_token_sha256`: older servers do not start with a setting that they do not know.
SHADOW_DIGEST = "MODELDEPLOY_SHADOW_TOKEN_SHA256"
#: Settings of several values, separated by commas.
LISTS = frozenset({"INPUT_LOG_REDACT", "CORS_ORIGINS", "AUTH_PROTECT", "AUTH_LIMITS", "SLICES", "DATA_QUALITY_LIMITS"})

#: Names of topics that every broker takes; wildcards would let a server read its own answers.
TOPIC = r"^[A-Za-z0-9._:/-]{0,249}$"

_KEY_LIMIT = (
    r"^([-._a-zA-Z0-9]+|\*)(:rate=[0-9]+(\.[0-9]+)?(:burst=[0-9]+)?(:concurrency=[0-9]+)?|:concurrency=[0-9]+)$"
)
_QUALITY_LIMIT = r"^(missing|unseen_category|out_of_range|wrong_type|outlier):0\.[0-9]{1,9}$"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting; the environment variable is the field's name in capitals after `MODEL_SERVER_`."""

    storage_uri: Annotated[str, Meta(min_length=1, description="Where the package is.")]
    format: Annotated[str, Meta(description="The package's format; `auto` looks for itself.")] = "auto"
    version: Annotated[
        str, Meta(description="The version people call it; default: the package's own, else the revision.")
    ] = ""
    sha256: Annotated[
        str, Meta(pattern=r"^([0-9a-fA-F]{64})?$", description="Pin: load nothing else. Empty: not pinned.")
    ] = ""
    signature_public_key: Annotated[
        Path | None,
        Meta(description="Public key (PEM) that has to have signed the package; default: no signature is needed."),
    ] = None
    signature_identity: Annotated[
        str, Meta(description="Identity in the Sigstore certificate that has to have signed the package.")
    ] = ""
    signature_issuer: Annotated[
        str,
        Meta(pattern=r"^(https://\S+)?$", description="OpenID Connect issuer of that identity."),
    ] = ""
    signature_trust_config: Annotated[
        Path | None,
        Meta(
            description="Trust root (a Sigstore ClientTrustConfig, JSON) for identities; default: Sigstore's, fetched."
        ),
    ] = None
    poll_seconds: Annotated[
        float, Meta(ge=0, description="How often to look whether the object at the storage URI has changed; 0: never.")
    ] = 0
    trusted: Annotated[bool, Meta(description="Allow formats that run code when they are loaded.")] = False
    install_requirements: Annotated[
        bool, Meta(description="Install `requirements.txt` instead of reporting a mismatch.")
    ] = False
    allow_source_builds: Annotated[
        bool, Meta(description="Install requirements of which there is no wheel, too: building one runs its code.")
    ] = False
    name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", description="The model's name in URLs and labels."),
    ] = "model"
    namespace: Annotated[
        str,
        Meta(
            pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
            description="The pod's namespace, for logs, and for its part of a shared cache.",
        ),
    ] = ""
    revision: Annotated[str, Meta(description="The revision hash, a label of every metric.")] = ""
    host: Annotated[str, Meta(description="Address to listen on.")] = "0.0.0.0"  # noqa: S104 - a pod's port is meant to be reached
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one and logs it.")] = 8080
    grpc_port: Annotated[
        int, Meta(ge=0, le=65535, description="Port of the Open Inference Protocol over gRPC; 0: none.")
    ] = 0
    shadow_port: Annotated[
        int, Meta(ge=0, le=65535, description="Port of the recent predictions, for comparing revisions; 0: none.")
    ] = 0
    shadow_token_sha256: Annotated[
        str,
        Meta(
            pattern=r"^([0-9a-f]{64})?$",
            description="SHA-256 of the operator's token, which this port needs in place of an API key, and which"
            " protected metrics accept beside API keys; empty: no token.",
        ),
    ] = ""
    model_dir: Annotated[Path | None, Meta(description="Where downloads go; default: a temporary folder.")] = None
    cache_dir: Annotated[
        Path | None,
        Meta(description="A folder shared by pods (hostPath, PVC) that keeps pinned packages; default: none."),
    ] = None
    registered_versions: Annotated[
        Path | None,
        Meta(
            description="File with the version of each revision, one pair a line: what is loaded of a `models:/` alias"
            " that has moved; default: what the alias names."
        ),
    ] = None
    credentials_dir: Annotated[Path | None, Meta(description="A mounted Secret with storage credentials.")] = None
    ca_file: Annotated[
        Path | None,
        Meta(description="Certificates (PEM) of authorities that downloads trust besides the system's; default: none."),
    ] = None
    claims_dir: Annotated[Path, Meta(description="Where the claims of `pvc://` URIs are mounted.")] = Path(
        "/mnt/claims"
    )
    image_dir: Annotated[
        Path | None,
        Meta(
            description="Where the image of an `oci://` URI is mounted, read-only; default: its package is downloaded."
        ),
    ] = None
    auth_dir: Annotated[Path | None, Meta(description="A mounted Secret whose values are API keys; default: open.")] = (
        None
    )
    auth_protect: Annotated[
        tuple[Literal["metrics", "docs"], ...],
        Meta(
            description="What needs an API key besides predictions, separated by commas: `metrics` is `/metrics`, and"
            " `docs` is `/openapi.json`, `/docs` and `/redoc`."
        ),
    ] = ()
    auth_limits: Annotated[
        tuple[Annotated[str, Meta(pattern=_KEY_LIMIT)], ...],
        Meta(
            max_length=64,
            description="Limits of API keys by the name of their file, separated by commas, as"
            " `mobile:rate=50:burst=100:concurrency=8`: requests a second, at once, and at a time, of all workers. `*`"
            " are the keys without an entry of their own, together.",
        ),
    ] = ()
    tls_dir: Annotated[
        Path | None, Meta(description="A mounted Secret with `tls.crt` and `tls.key`; default: plain HTTP.")
    ] = None
    root_path: Annotated[
        str,
        Meta(
            pattern=r"^(/[^?#]*)?$",
            description="Prefix under which a gateway shows the server, such as `/models/wine`.",
        ),
    ] = ""
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(description="Origins whose web pages may call the server (CORS), separated by commas; `*`: any."),
    ] = ()
    workers: Annotated[int, Meta(ge=1, le=64, description="Processes that answer requests.")] = 1
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Lowest level that is logged.")
    ] = "info"
    request_timeout_seconds: Annotated[
        float, Meta(gt=0, description="Time for the body to arrive, and for the answer.")
    ] = 30
    max_request_bytes: Annotated[int, Meta(ge=1, description="Largest body.")] = 10_485_760
    gzip_bytes: Annotated[
        int, Meta(ge=0, description="Answers from this size on are compressed where the client takes gzip; 0: none.")
    ] = 65_536
    max_rows: Annotated[int, Meta(ge=1, description="Most rows in one request.")] = 10_000
    max_batch_size: Annotated[
        int, Meta(ge=1, description="Most rows in one call of the model, unless one request has more.")
    ] = 32
    max_batch_delay_milliseconds: Annotated[
        float, Meta(ge=0, description="Longest wait for requests that are expected to join a batch.")
    ] = 1
    max_queue_size: Annotated[
        int, Meta(ge=1, description="Requests that may wait for the model before 503 is answered.")
    ] = 1024
    threads: Annotated[
        int, Meta(ge=1, description="Threads one call of the model may use (BLAS, OpenMP, ONNX Runtime).")
    ] = 1
    header_timeout_seconds: Annotated[
        float, Meta(gt=0, description="Time for a request's head to arrive; slower connections are closed.")
    ] = 10
    drain_seconds: Annotated[
        float, Meta(ge=0, description="How long open connections are answered after SIGTERM, with `Connection: close`.")
    ] = 1
    input_log_sample_rate: Annotated[
        float, Meta(ge=0, le=1, description="Share of requests whose input is logged.")
    ] = 0
    input_log_redact: Annotated[
        tuple[str, ...], Meta(description="Features whose values are replaced in the input log.")
    ] = ()
    input_log_sink: Annotated[str, Meta(description="`stdout`, a storage URI or an HTTP address.")] = "stdout"
    accelerate: Annotated[
        Literal["", "onnx"],
        Meta(description="`onnx`: convert the model at load, compare it with the original, serve the graph."),
    ] = ""
    explanations: Annotated[
        bool, Meta(description="Explain predictions on request, by the contributions of the features.")
    ] = False
    explanation_budget: Annotated[
        int, Meta(ge=1, description="Rows of the model that a sampled explanation of one row may take.")
    ] = 2048
    explanation_max_rows: Annotated[int, Meta(ge=1, description="Most rows in one request for explanations.")] = 100
    explanation_queue_size: Annotated[
        int, Meta(ge=1, description="Requests for explanations that may wait before 503 is answered.")
    ] = 16
    stream_url: Annotated[
        str,
        Meta(
            pattern=r"^((nats|tls|kafkas?)://[A-Za-z0-9.:\-\[\],]+|(rediss?|amqps?)://[A-Za-z0-9.:\-\[\]]+(/[A-Za-z0-9._%-]*)?)?$",
            description="Broker whose messages are answered: `nats://`, `tls://` (NATS), `redis://`, `rediss://`, `amqp://`,"
            " `amqps://`, `kafka://` or `kafkas://`, without credentials; default: none.",
        ),
    ] = ""
    stream_input: Annotated[
        str, Meta(pattern=TOPIC, description="Subject, stream, queue or topic of the messages to answer.")
    ] = ""
    stream_output: Annotated[str, Meta(pattern=TOPIC, description="Where the answers go.")] = ""
    stream_dead_letter: Annotated[
        str, Meta(pattern=TOPIC, description="Where messages without an answer go, with the reason.")
    ] = ""
    stream_group: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_-]{0,128}$",
            description="Consumers of one group share the messages; default: the name.",
        ),
    ] = ""
    stream_concurrency: Annotated[
        int,
        Meta(ge=0, le=10_000, description="Messages that a worker takes before it has answered one; 0: two batches."),
    ] = 0
    stream_max_deliveries: Annotated[
        int, Meta(ge=1, le=1000, description="How often a message is tried before it becomes a dead letter.")
    ] = 5
    stream_credentials_dir: Annotated[
        Path | None,
        Meta(description="A mounted Secret with `username` and `password`, or `token`, for the broker; default: none."),
    ] = None
    stream_tls_dir: Annotated[
        Path | None,
        Meta(
            description="A mounted Secret with `ca.crt`, the authorities of which the broker's certificate must be, and"
            " with `tls.crt` and `tls.key`, the certificate that the broker is shown; default: the authorities of the"
            " system and of `MODEL_SERVER_CA_FILE`, and no certificate."
        ),
    ] = None
    stream_revisions: Annotated[
        Path | None,
        Meta(description="File with the revisions that consume, one a line; default: this server consumes."),
    ] = None
    drift_reference: Annotated[str, Meta(description="`package` or the number of first requests to compare with.")] = (
        "package"
    )
    drift_threshold: Annotated[float, Meta(gt=0, description="PSI above which a feature counts as drifted.")] = 0.2
    slices: Annotated[
        tuple[str, ...],
        Meta(
            max_length=4,
            description="Attributes whose groups are told apart, as `name` or `name:groups`, separated by commas:"
            " input features, or keys of `groups` in feedback.",
        ),
    ] = ()
    data_quality: Annotated[
        bool, Meta(description="Compare each request with the package's `reference_profile`, which it must have.")
    ] = False
    data_quality_max_bad_rate: Annotated[
        float,
        Meta(gt=0, lt=1, description="Share of rows by which a problem may be more frequent than in training."),
    ] = 0.05
    data_quality_limits: Annotated[
        tuple[Annotated[str, Meta(pattern=_QUALITY_LIMIT)], ...],
        Meta(
            description="Such shares of single problems, as `missing:0.1`, separated by commas: `missing`,"
            " `unseen_category`, `out_of_range`, `wrong_type`, `outlier`."
        ),
    ] = ()
    estimated_quality: Annotated[
        bool,
        Meta(description="Estimate the quality of a classifier from its probabilities, without labels."),
    ] = False
    termination_log: Annotated[Path, Meta(description="File for the reason of a failed start.")] = TERMINATION_LOG
    listen_fd: Annotated[
        int,
        Meta(ge=0, description="Open listening socket to answer on in place of the port; 0: none."),
    ] = 0
    shadow_fd: Annotated[int, Meta(ge=0, description="Such a socket in place of the shadow port; 0: none.")] = 0
    supervisor_fd: Annotated[
        int, Meta(ge=0, description="Pipe whose other end the supervisor holds: the server drains when it is gone.")
    ] = 0
    supervisor_dir: Annotated[
        Path | None,
        Meta(description="Folder by which `modeldeploy serve` talks to a server that it started; default: none."),
    ] = None

    @property
    def is_signed(self) -> bool:
        """Whether the package has to have a signature."""
        return self.signature_public_key is not None or bool(self.signature_identity)

    def variable(self, field: str) -> str:
        """The environment variable of a field, for messages."""
        return PREFIX + field.upper()


def _contradictions(settings: Settings) -> None:
    if settings.install_requirements and settings.workers > 1:
        raise SettingsInvalid(
            f"{PREFIX}INSTALL_REQUIREMENTS and {PREFIX}WORKERS={settings.workers} do not go together",
            hint="Use one worker and more replicas, or an image that has the requirements.",
        )
    if settings.slices and settings.workers > 1:
        raise SettingsInvalid(
            f"{PREFIX}SLICES and {PREFIX}WORKERS={settings.workers} do not go together",
            hint="Groups are learned while the server runs, in one process: use one worker and more replicas.",
        )
    if settings.estimated_quality and settings.drift_reference != "package":
        raise SettingsInvalid(
            f"{PREFIX}ESTIMATED_QUALITY and {PREFIX}DRIFT_REFERENCE={settings.drift_reference} do not go together",
            hint="An estimate holds for inputs like those of its calibration: compare them with the package's profile.",
        )
    if settings.auth_protect and settings.auth_dir is None:
        raise SettingsInvalid(
            f"{PREFIX}AUTH_PROTECT is set, and there are no API keys",
            hint=f"Set {PREFIX}AUTH_DIR to a folder of which each file is one key.",
        )
    if settings.auth_limits and settings.auth_dir is None:
        raise SettingsInvalid(
            f"{PREFIX}AUTH_LIMITS is set, and there are no API keys",
            hint=f"Set {PREFIX}AUTH_DIR to a folder of which each file is one key.",
        )
    if settings.signature_public_key and (settings.signature_identity or settings.signature_issuer):
        raise SettingsInvalid(
            f"{PREFIX}SIGNATURE_PUBLIC_KEY and {PREFIX}SIGNATURE_IDENTITY do not go together",
            hint="A package is signed by a key or by an identity: set one of them.",
        )
    if bool(settings.signature_identity) != bool(settings.signature_issuer):
        raise SettingsInvalid(
            f"{PREFIX}SIGNATURE_IDENTITY and {PREFIX}SIGNATURE_ISSUER go together, and one of them is missing",
            hint="An identity is what one issuer says of somebody: set both.",
        )
    if bool(settings.listen_fd) != (settings.supervisor_dir is not None):
        raise SettingsInvalid(
            f"{PREFIX}LISTEN_FD and {PREFIX}SUPERVISOR_DIR go together, and one of them is missing",
            hint="Both are set by `modeldeploy serve`, for the servers that it starts.",
        )
    _contradictions_of_stream(settings)


def _contradictions_of_stream(settings: Settings) -> None:
    topics = {name: getattr(settings, name) for name in ("stream_input", "stream_output", "stream_dead_letter")}
    if not settings.stream_url:
        return
    for name, topic in topics.items():
        if not topic:
            raise SettingsInvalid(
                f"{settings.variable(name)} is missing, and {PREFIX}STREAM_URL is set",
                hint="A stream has an input, an output, and a dead-letter topic for what cannot be answered.",
            )
    if len(set(topics.values())) < len(topics):
        raise SettingsInvalid(
            f"{PREFIX}STREAM_INPUT, _OUTPUT and _DEAD_LETTER are not three different topics",
            hint="A server that reads what it writes would never come to an end.",
        )


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Parse the environment; an empty value counts as absent.

    Raises SettingsInvalid that names every variable at fault, and the known ones for an unknown.
    """
    given = variables(environ, PREFIX)
    if environ.get(SHADOW_DIGEST):
        given.setdefault("SHADOW_TOKEN_SHA256", environ[SHADOW_DIGEST])
    names = {field.name.upper() for field in structs.fields(Settings)} | {"INSTALLED"}
    unknown = sorted(given.keys() - names)
    if unknown:
        raise SettingsInvalid(f"{PREFIX}{unknown[0]} is not a setting", hint=_known_hint(unknown[0], names))
    given.pop("INSTALLED", None)  # left by the server for itself, see package/installation.py
    settings = converted(given, Settings, PREFIX, LISTS)
    _contradictions(settings)
    return settings


def _known_hint(unknown: str, names: set[str]) -> str:
    # Imported only here: nearly every start is without a misspelt name.
    from difflib import get_close_matches

    close = get_close_matches(unknown, names, n=1)
    return (
        f"Did you mean {PREFIX}{close[0]}?" if close else f"Known: {', '.join(sorted(PREFIX + one for one in names))}."
    )
