"""The settings of a pool, besides those that every model server has; `command.py` reads both from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from model_server.environment import converted, refuse, variables
from model_server.errors import SettingsInvalid
from model_server.settings import PREFIX, Settings, read_settings

POOL_PREFIX = f"{PREFIX}POOL_"
#: Folder of pinned packages, in that of the pool, where no cache is set that pods share.
DOWNLOADS = "cache"
#: What concerns one model, and so has its place in the list of models.
_OF_ONE_MODEL = ("STORAGE_URI", "FORMAT", "VERSION", "SHA256", "TRUSTED")
#: What a pool does not do: each would cost memory for every model.
_NOT_IN_POOLS = (
    "SHADOW_PORT",
    "STREAM_URL",
    "ACCELERATE",
    "INSTALL_REQUIREMENTS",
    "POLL_SECONDS",
    "DATA_QUALITY",
    "ESTIMATED_QUALITY",
    "SLICES",
    "INPUT_LOG_SAMPLE_RATE",
    "WORKERS",
    "SUPERVISOR_DIR",
)


class PoolSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting of a pool; the environment variable is the field's name in capitals after `MODEL_SERVER_POOL_`."""

    models: Annotated[
        Path, Meta(description="File with the list of models, as JSON or YAML; it is read again when it changes.")
    ]
    memory_bytes: Annotated[
        int,
        Meta(
            ge=67_108_864, description="Memory that all processes of the pool may hold; models beyond it are unloaded."
        ),
    ] = 1_073_741_824
    processes: Annotated[int, Meta(ge=1, le=64, description="Processes that hold models.")] = 2
    threads: Annotated[
        int, Meta(ge=1, le=64, description="Models of one process that may compute at the same time.")
    ] = 4
    model_concurrency: Annotated[
        int, Meta(ge=1, description="Requests that may wait for one model before 503 is answered.")
    ] = 64
    preload: Annotated[
        int, Meta(ge=0, description="Models from the beginning of the list that are loaded before the pool is ready.")
    ] = 0
    metric_models: Annotated[
        int, Meta(ge=1, description="Models with metrics of their own; the others share the label `_other`.")
    ] = 1000


def read_pool_settings(environ: Mapping[str, str]) -> tuple[PoolSettings, Settings]:
    """The pool's settings, and those of a server. Raises SettingsInvalid."""
    given = variables(environ, POOL_PREFIX)
    if "MODELS" not in given:
        raise SettingsInvalid(
            f"{POOL_PREFIX}MODELS is missing",
            hint="Set it to a file with the list of models; docs/server.md has its form.",
        )
    pool = converted(given, PoolSettings, POOL_PREFIX)
    others = {name: value for name, value in environ.items() if not name.startswith(POOL_PREFIX)}
    for name in _OF_ONE_MODEL:
        if others.get(PREFIX + name):
            raise SettingsInvalid(
                f"{PREFIX}{name} is set, and a pool has many models", hint="Write it into the list of models."
            )
    # Every model's own takes its place.
    settings = read_settings({**others, f"{PREFIX}STORAGE_URI": "pool://list"})
    hint = "Serve this model by a ModelDeployment."
    refuse(settings, _NOT_IN_POOLS, PREFIX, why="and pools do not have it", hint=hint)
    return pool, settings
