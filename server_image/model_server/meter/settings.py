"""The settings of a meter, besides those that every model server has; `command.py` reads both from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from model_server.environment import converted, refuse, variables
from model_server.errors import SettingsInvalid
from model_server.settings import PREFIX, Settings, read_settings

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
    given = variables(environ, METER_PREFIX)
    for name in ("UPSTREAM_PORT", "READINESS_PATH"):
        if name not in given:
            raise SettingsInvalid(
                f"{METER_PREFIX}{name} is missing", hint="docs/server.md lists the settings of a meter."
            )
    meter = converted(given, MeterSettings, METER_PREFIX, ("PREDICTION_PATHS",))
    others = {name: value for name, value in environ.items() if not name.startswith(METER_PREFIX)}
    # The server behind has loaded the package, if there is one.
    settings = read_settings({**others, f"{PREFIX}STORAGE_URI": "container://"})
    why, hint = "and needs a model that this server has loaded itself", "Leave it out beside spec.server.container."
    refuse(settings, _NOT_HERE, PREFIX, why=why, hint=hint)
    if settings.port == meter.upstream_port:
        raise SettingsInvalid(
            f"{METER_PREFIX}UPSTREAM_PORT is {settings.port}, which is the port of the meter",
            hint="Let the server behind listen on another port.",
        )
    return meter, settings
