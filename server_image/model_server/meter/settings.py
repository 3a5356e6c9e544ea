"""The settings of a meter, besides those that every model server has; `command.py` reads both from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct, structs

from model_server.errors import SettingsInvalid
from model_server.settings import PREFIX, Settings, read_settings
from model_server.validation import ValidationErrors, validate

METER_PREFIX = f"{PREFIX}METER_"
#: Settings that need a model in this process.
_NOT_HERE = (
    "GRPC_PORT",
    "STREAM_URL",
    "EXPLANATIONS",
    "ACCELERATE",
    "INSTALL_REQUIREMENTS",
    "POLL_SECONDS",
    "DATA_QUALITY",
    "ESTIMATED_QUALITY",
    "SLICES",
    "SUPERVISOR_DIR",
)
_PATH = r"^/[^\s?#]*$"


class MeterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting of a meter; its environment variable is the name in capitals after `MODEL_SERVER_METER_`."""

    upstream_port: Annotated[int, Meta(ge=1, le=65535, description="Port of the server behind the meter.")]
    readiness_path: Annotated[
        str, Meta(pattern=_PATH, description="Path that the server behind answers with 2xx or 3xx while it is ready.")
    ]
    upstream_host: Annotated[str, Meta(min_length=1, description="Its address; in a pod, the pod's own.")] = "127.0.0.1"
    protocol: Annotated[
        Literal["http", "openInference", "openAI"], Meta(description="What it speaks: what the input log writes.")
    ] = "http"
    prediction_paths: Annotated[
        tuple[Annotated[str, Meta(pattern=_PATH)], ...],
        Meta(
            max_length=16,
            description="Beginnings of paths whose requests are predictions, separated by commas; default: every POST.",
        ),
    ] = ()
    uri: Annotated[
        str, Meta(description="What `modeldeploy_model_info` shows as URI: of the artifact, or the image.")
    ] = ""


def read_meter_settings(environ: Mapping[str, str]) -> tuple[MeterSettings, Settings]:
    """The meter's settings, and those of a server. Raises SettingsInvalid."""
    given = {name: value for name, value in environ.items() if name.startswith(METER_PREFIX) and value}
    document: dict[str, object] = {name.removeprefix(METER_PREFIX).lower(): value for name, value in given.items()}
    for name in ("upstream_port", "readiness_path"):
        if name not in document:
            raise SettingsInvalid(
                f"{METER_PREFIX}{name.upper()} is missing", hint="docs/server.md lists the settings of a meter."
            )
    if paths := given.get(f"{METER_PREFIX}PREDICTION_PATHS"):
        document["prediction_paths"] = [part.strip() for part in paths.split(",") if part.strip()]
    try:
        meter = validate(document, MeterSettings, strict=False)
    except ValidationErrors as invalid:
        faults = [f"{METER_PREFIX}{mistake.where.upper()}: {mistake.message}" for mistake in invalid.mistakes]
        raise SettingsInvalid("; ".join(faults), hint="docs/server.md lists the settings.") from None
    others = {name: value for name, value in environ.items() if name not in given}
    # The server behind has loaded the package, if there is one.
    settings = read_settings({**others, f"{PREFIX}STORAGE_URI": "container://"})
    defaults = {field.name: field.default for field in structs.fields(Settings)}
    for name in _NOT_HERE:
        if getattr(settings, name.lower()) != defaults[name.lower()]:
            raise SettingsInvalid(
                f"{PREFIX}{name} is set, and needs a model that this server has loaded itself",
                hint="Leave it out beside spec.server.container.",
            )
    if settings.port == meter.upstream_port:
        raise SettingsInvalid(
            f"{METER_PREFIX}UPSTREAM_PORT is {settings.port}, which is the port of the meter",
            hint="Let the server behind listen on another port.",
        )
    return meter, settings
