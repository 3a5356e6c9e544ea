"""The settings of a server, read once from the environment by `__main__.py`.

docs/wire.md says which of them the operator writes. Values are parsed and checked here and nowhere else.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from model_server.errors import SettingsInvalid

PREFIX = "MODEL_SERVER_"

# A Service named `model-server` makes the kubelet inject these into every pod of its namespace.
SERVICE_LINK = re.compile(r"^(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)$")


def _comma_separated(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]


class Settings(BaseModel):
    """Every setting; the environment variable is the field's name in capitals after `MODEL_SERVER_`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    storage_uri: str = Field(min_length=1, description="Where the package is.")
    format: str = Field("auto", description="The package's format; `auto` looks for itself.")
    version: str = Field("", description="The version people call it; default: the package's own, else the revision.")
    sha256: str = Field("", pattern=r"^([0-9a-fA-F]{64})?$", description="Pin: load nothing else. Empty: not pinned.")
    poll_seconds: float = Field(
        0, ge=0, description="How often to look whether the object at the storage URI has changed; 0: never."
    )
    trusted: bool = Field(False, description="Allow formats that run code when they are loaded.")
    install_requirements: bool = Field(False, description="Install `requirements.txt` instead of reporting a mismatch.")
    name: str = Field(
        "model",
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        description="The model's name in URLs and labels.",
    )
    namespace: str = Field("", description="The pod's namespace, for logs.")
    revision: str = Field("", description="The revision hash, a label of every metric.")
    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - a pod's port is meant to be reached
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one and logs it.")
    grpc_port: int = Field(0, ge=0, le=65535, description="Port of the Open Inference Protocol over gRPC; 0: none.")
    model_dir: Path | None = Field(None, description="Where downloads go; default: a temporary folder.")
    cache_dir: Path | None = Field(
        None, description="A folder shared by pods (hostPath, PVC) that keeps pinned packages; default: none."
    )
    credentials_dir: Path | None = Field(None, description="A mounted Secret with storage credentials.")
    claims_dir: Path = Field(Path("/mnt/claims"), description="Where the claims of `pvc://` URIs are mounted.")
    auth_dir: Path | None = Field(None, description="A mounted Secret whose values are API keys; default: open.")
    tls_dir: Path | None = Field(
        None, description="A mounted Secret with `tls.crt` and `tls.key`; default: plain HTTP."
    )
    workers: int = Field(1, ge=1, le=64, description="Processes that answer requests.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    request_timeout_seconds: float = Field(30, gt=0, description="Time for the body to arrive, and for the answer.")
    max_request_bytes: int = Field(10_485_760, ge=1, description="Largest body.")
    max_rows: int = Field(10_000, ge=1, description="Most rows in one request.")
    max_batch_size: int = Field(
        32, ge=1, description="Most rows in one call of the model, unless one request has more."
    )
    max_batch_delay_milliseconds: float = Field(
        1, ge=0, description="Longest wait for requests that are expected to join a batch."
    )
    max_queue_size: int = Field(1024, ge=1, description="Requests that may wait for the model before 503 is answered.")
    threads: int = Field(1, ge=1, description="Threads one call of the model may use (BLAS, OpenMP, ONNX Runtime).")
    header_timeout_seconds: float = Field(
        10, gt=0, description="Time for a request's head to arrive; slower connections are closed."
    )
    drain_seconds: float = Field(
        1,
        ge=0,
        description="How long open connections are answered after SIGTERM, with `Connection: close`.",
    )
    input_log_sample_rate: float = Field(0, ge=0, le=1, description="Share of requests whose input is logged.")
    input_log_redact: Names = Field((), description="Features whose values are replaced in the input log.")
    input_log_sink: str = Field("stdout", description="`stdout`, a storage URI or an HTTP address.")
    accelerate: Literal["", "onnx"] = Field(
        "", description="`onnx`: convert the model at load, compare it with the original, serve the graph."
    )
    drift_reference: str = Field("package", description="`package` or the number of first requests to compare with.")
    drift_threshold: float = Field(0.2, gt=0, description="PSI above which a feature counts as drifted.")
    termination_log: Path = Field(Path("/dev/termination-log"), description="File for the reason of a failed start.")

    def variable(self, field: str) -> str:
        """The environment variable of a field, for messages."""
        return PREFIX + field.upper()


def _contradictions(settings: Settings) -> None:
    if settings.install_requirements and settings.workers > 1:
        raise SettingsInvalid(
            f"{PREFIX}INSTALL_REQUIREMENTS and {PREFIX}WORKERS={settings.workers} do not go together",
            hint="Use one worker and more replicas, or an image that has the requirements.",
        )


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Parse the environment; an empty value counts as absent.

    Raises SettingsInvalid that names every variable at fault, and the known ones for an unknown.
    """
    given = {name.removeprefix(PREFIX): value for name, value in environ.items() if name.startswith(PREFIX)}
    given = {name: value for name, value in given.items() if value != "" and not SERVICE_LINK.match(name)}
    known = {field.upper() for field in Settings.model_fields} | {"INSTALLED"}
    unknown = sorted(given.keys() - known)
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        raise SettingsInvalid(
            f"{PREFIX}{unknown[0]} is not a setting",
            hint=f"Did you mean {PREFIX}{close[0]}?"
            if close
            else f"Known: {', '.join(sorted(PREFIX + name for name in known))}.",
        )
    given.pop("INSTALLED", None)  # left by the server for itself, see package/installing.py
    try:
        settings = Settings.model_validate({name.lower(): value for name, value in given.items()})
    except ValidationError as error:
        faults = [
            f"{PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors(include_input=False)
        ]
        raise SettingsInvalid("; ".join(faults), hint="docs/server.md lists the settings.") from None
    _contradictions(settings)
    return settings
