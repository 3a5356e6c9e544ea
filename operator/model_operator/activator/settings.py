"""Settings of the activator from the environment, all with the prefix `MODEL_ACTIVATOR_`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from model_operator.errors import OperatorError

PREFIX = "MODEL_ACTIVATOR_"
Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1)]


class InvalidSettings(OperatorError):
    """An unknown environment variable, or one with an invalid value; the message names it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the activator. The chart sets them from `activator`."""

    token: Annotated[str, Meta(min_length=1)]
    host: str = "0.0.0.0"  # noqa: S104 -- a pod's own address
    control_port: Port = 8082
    metrics_port: Port = 8080
    hold_seconds: Count = 300
    max_held: Count = 5000
    max_held_per_model: Count = 2000
    requests_per_pod: Count = 64
    max_grpc_message_bytes: Count = 4 * 2**20
    leave_seconds: Annotated[int, Meta(ge=0)] = 5
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        InvalidSettings: a variable with the prefix is unknown or invalid, or that of the token is missing.
    """
    given: dict[str, Any] = {
        name.removeprefix(PREFIX).lower(): text for name, text in environment.items() if name.startswith(PREFIX)
    }
    known = [PREFIX + name.upper() for name in Settings.__struct_fields__]
    for name in given:
        if PREFIX + name.upper() not in known:
            raise InvalidSettings(f"{PREFIX}{name.upper()} is unknown; the known variables are {', '.join(known)}")
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidSettings(f"{PREFIX}*: {error}") from error
