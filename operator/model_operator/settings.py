"""Settings from the environment, all with the prefix `MODEL_OPERATOR_`; docs/operator.md lists them."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields

from model_operator.errors import OperatorError
from model_operator.manifests.pods import PodSettings

PREFIX = "MODEL_OPERATOR_"


class InvalidSettings(OperatorError):
    """An environment variable that is not known or not understood; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator is told at its start."""

    server_image: str = "modeldeploy/server:0.1.0"
    image_pull_secrets: str = ""
    monitoring_labels: str = ""
    watch_namespaces: str = ""
    pre_stop_seconds: int = 5
    host: str = "0.0.0.0"  # noqa: S104 -- metrics and health of a pod, behind a NetworkPolicy
    metrics_port: int = 8080
    health_port: int = 8081
    leader_election: bool = True
    lease_namespace: str = "default"
    lease_name: str = "modeldeploy-operator"
    lease_seconds: int = 15
    identity: str = ""
    log_level: str = "info"
    log_format: str = "json"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces whose ModelDeployments are served; none means all."""
        return tuple(filter(None, (name.strip() for name in self.watch_namespaces.split(","))))

    @property
    def pods(self) -> PodSettings:
        """The settings that go into pod templates."""
        secrets = tuple(filter(None, self.image_pull_secrets.split(",")))
        return PodSettings(
            image=self.server_image,
            image_pull_secrets=secrets,
            pre_stop_seconds=self.pre_stop_seconds,
            monitoring_labels=_labels(self.monitoring_labels),
        )


def settings_from(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        InvalidSettings: a variable with our prefix is unknown, or its value is of the wrong type.
    """
    known = {field.name: field for field in fields(Settings)}
    values: dict[str, object] = {"identity": socket.gethostname() + f"-{os.getpid()}"}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in known:
            names = ", ".join(PREFIX + field.upper() for field in known)
            raise InvalidSettings(f"{variable} is not known; known are {names}")
        values[name] = _parse(variable, text, known[name].type)
    settings = Settings(**values)  # type: ignore[arg-type]  # checked field by field above
    _labels(settings.monitoring_labels)
    return settings


def _labels(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [one.strip().partition("=") for one in text.split(",") if one.strip()]
    if not all(key and equals for key, equals, _ in pairs):
        raise InvalidSettings(f"{PREFIX}MONITORING_LABELS is {text!r}; write key=value,key=value")
    return tuple((key, value) for key, _, value in pairs)


def _parse(variable: str, text: str, type_: object) -> object:
    if type_ in (int, "int"):
        if not text.isdigit():
            raise InvalidSettings(f"{variable} is {text!r}; write a whole number")
        return int(text)
    if type_ in (bool, "bool"):
        if text.lower() not in ("true", "false"):
            raise InvalidSettings(f"{variable} is {text!r}; write true or false")
        return text.lower() == "true"
    return text
