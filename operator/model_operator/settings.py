"""Settings from the environment, all with the prefix `MODEL_OPERATOR_`; docs/operator.md lists them."""

import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from model_operator.clients.egress import EgressPolicy, Network
from model_operator.errors import OperatorError
from model_operator.manifests.pod_policy import PodPolicy
from model_operator.manifests.pod_security import Allowed, Level
from model_operator.manifests.pods import PodSettings
from model_operator.policy.admission import Admission
from model_operator.policy.traffic_policy import GatewayRule

PREFIX = "MODEL_OPERATOR_"
Port = Annotated[int, Meta(ge=1, le=65535)]


class InvalidSettings(OperatorError):
    """An unknown environment variable, or one with an invalid value; the message names it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the operator. docs/operator.md shows the descriptions."""

    server_image: Annotated[
        str, Meta(description="Image of the model server, where `spec.server.image` names none.")
    ] = "modeldeploy/server:0.1.0"
    image_pull_secrets: Annotated[str, Meta(description="Names of Secrets to pull it with, separated by commas.")] = ""
    monitoring_labels: Annotated[
        str, Meta(description="Labels of models' ServiceMonitors and PrometheusRules, as `key=value,key=value`.")
    ] = ""
    monitoring_namespaces: Annotated[
        str,
        Meta(
            description="Namespaces in which models may have ServiceMonitors and PrometheusRules, as names or patterns"
            " such as `team-*` with commas between them; empty means none."
        ),
    ] = "*"
    watch_namespaces: Annotated[
        str, Meta(description="The namespaces to watch, separated by commas; empty means all.")
    ] = ""
    egress_hosts: Annotated[
        str,
        Meta(
            description="Hosts that may be requested for users (metrics, gates, notifications), as patterns such as"
            " `*.monitoring.svc` with commas between them; empty means every host."
        ),
    ] = ""
    egress_networks: Annotated[
        str,
        Meta(
            description="Networks such as `127.0.0.0/8`, with commas between them, that may be requested for users"
            " although they are loopback, link-local, or the API server's."
        ),
    ] = ""
    gateways: Annotated[
        str,
        Meta(
            description="Gateways of other namespaces that models may use, and Services that are not their own: a list"
            " in JSON, as `trafficPolicy.gateways` of the chart has it."
        ),
    ] = ""
    pod_policy: Annotated[
        Level,
        Meta(
            description="What pods of models may have, where `POD_POLICY_NAMESPACES` says nothing else: `restricted`,"
            " `baseline` or `privileged`."
        ),
    ] = "restricted"
    pod_policy_namespaces: Annotated[
        str, Meta(description="Namespaces with another policy, as `namespace=level,namespace=level`.")
    ] = ""
    pod_policy_images: Annotated[
        str,
        Meta(
            description="Images that `restricted` allows beside that of the model server, as names or as beginnings"
            " such as `registry.example.com/ml/*`, with commas between them."
        ),
    ] = ""
    pod_policy_service_accounts: Annotated[
        str, Meta(description="ServiceAccounts that `restricted` allows, with commas between them.")
    ] = ""
    pod_policy_host_paths: Annotated[
        str, Meta(description="Folders of nodes that may be mounted, with commas between them.")
    ] = ""
    activator_service: Annotated[
        str,
        Meta(
            description="Name of the activators' Service, in the namespace of the Lease; empty means that there are"
            " none, and that no model sleeps."
        ),
    ] = ""
    pre_stop_seconds: Annotated[
        int,
        Meta(ge=0, description="Seconds that a terminating pod keeps serving while nodes remove its endpoint."),
    ] = 5
    host: Annotated[str, Meta(description="Address of metrics and health.")] = "0.0.0.0"  # noqa: S104 -- metrics and health of a pod, behind a NetworkPolicy
    metrics_port: Annotated[Port, Meta(description="Port of `/metrics`.")] = 8080
    health_port: Annotated[Port, Meta(description="Port of `/healthz`.")] = 8081
    leader_election: Annotated[
        bool, Meta(description="Whether to take a Lease before reconciling; `false` only if exactly one operator runs.")
    ] = True
    lease_namespace: Annotated[str, Meta(description="Namespace of the Lease.")] = "default"
    lease_name: Annotated[str, Meta(description="Name of the Lease.")] = "modeldeploy-operator"
    token_secret_name: Annotated[
        str,
        Meta(
            description="Name of the Secret, in the namespace of the Lease, from which the tokens of pods are made. The"
            " operator fills it once."
        ),
    ] = "modeldeploy-operator-tokens"  # noqa: S105 -- the name of a Secret
    lease_seconds: Annotated[int, Meta(ge=1, description="Seconds without a renewal until a standby takes over.")] = 15
    identity: Annotated[str, Meta(description="Identity in the Lease; empty means host name and process id.")] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="`debug`, `info`, `warning` or `error`.")
    ] = "info"
    audit: Annotated[
        Literal["off", "stdout"],
        Meta(
            description="Where one line of JSON for each decision goes: `off` or `stdout`. Logs go to standard error."
        ),
    ] = "off"
    log_format: Annotated[Literal["json", "text"], Meta(description="`json` or `text`.")] = "json"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces to watch; empty means all."""
        return _words(self.watch_namespaces)

    @property
    def egress(self) -> EgressPolicy:
        """What may be requested for users, but for the addresses of the API server."""
        return EgressPolicy(hosts=_words(self.egress_hosts), allowed=_networks(self.egress_networks))

    @property
    def admission(self) -> Admission:
        """The policies of the cluster."""
        allowed = Allowed(
            images=_words(self.pod_policy_images),
            service_accounts=_words(self.pod_policy_service_accounts),
            host_paths=_words(self.pod_policy_host_paths),
        )
        levels = _levels(self.pod_policy_namespaces)
        return Admission(
            settings=self.pods,
            pods=PodPolicy(level=self.pod_policy, namespaces=levels, allowed=allowed),
            gateways=_rules(self.gateways),
            monitored_namespaces=_words(self.monitoring_namespaces),
        )

    @property
    def pods(self) -> PodSettings:
        """The settings that go into pod templates."""
        return PodSettings(
            image=self.server_image,
            image_pull_secrets=_words(self.image_pull_secrets),
            pre_stop_seconds=self.pre_stop_seconds,
            monitoring_labels=_labels(self.monitoring_labels),
        )


def described() -> Iterator[tuple[str, str, str]]:
    """Yield variable, default as one writes it, and meaning of each setting."""
    for one in msgspec.structs.fields(Settings):
        meaning = next(meta.description for meta in one.type.__metadata__ if meta.description)
        yield f"{PREFIX}{one.name.upper()}", "" if one.default == "" else str(one.default).lower(), meaning


def settings_from(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        InvalidSettings: a variable with the prefix is unknown, or its value is invalid.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    values: dict[str, Any] = {"identity": socket.gethostname() + f"-{os.getpid()}"}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in types:
            names = ", ".join(PREFIX + field.upper() for field in types)
            raise InvalidSettings(f"{variable} is unknown; the known variables are {names}")
        try:
            values[name] = msgspec.convert(text, types[name], strict=False)
        except msgspec.ValidationError as error:
            raise InvalidSettings(f"{variable} is {text!r}; write {_wanted(types[name], error)}") from error
    settings = Settings(**values)
    _labels(settings.monitoring_labels)
    _networks(settings.egress_networks)
    _levels(settings.pod_policy_namespaces)
    _rules(settings.gateways)
    return settings


def _wanted(type_: Any, error: msgspec.ValidationError) -> str:
    """Return a description of the valid values of this type."""
    bare = get_args(type_)[0]
    if bare is bool:
        return "true or false"
    if bare is int:
        bound = re.search("[<>]=.*", str(error))
        return f"a whole number {bound[0]}" if bound else "a whole number"
    return " or ".join(get_args(bare))


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (word.strip() for word in text.split(","))))


def _levels(text: str) -> Mapping[str, Level]:
    pairs = [one.partition("=") for one in _words(text)]
    try:
        return {namespace.strip(): msgspec.convert(level.strip(), Level) for namespace, _, level in pairs}
    except msgspec.ValidationError as error:
        known = ", ".join(get_args(Level))
        raise InvalidSettings(
            f"{PREFIX}POD_POLICY_NAMESPACES is {text!r}; write namespace=level with a level of {known}"
        ) from error


def _rules(text: str) -> tuple[GatewayRule, ...]:
    try:
        return msgspec.json.decode(text or "[]", type=tuple[GatewayRule, ...])
    except msgspec.DecodeError as error:
        example = '[{"namespace": "infra", "name": "shared", "hostnames": ["*"], "fromNamespaces": ["team-a"]}]'
        raise InvalidSettings(f"{PREFIX}GATEWAYS is {text!r} ({error}); write a list such as {example}") from error


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip())
    except ValueError as error:
        raise InvalidSettings(f"{PREFIX}EGRESS_NETWORKS is {text!r}; write networks such as 10.0.0.0/8") from error


def _labels(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [one.partition("=") for one in _words(text)]
    if not all(key and equals for key, equals, _ in pairs):
        raise InvalidSettings(f"{PREFIX}MONITORING_LABELS is {text!r}; write key=value,key=value")
    return tuple((key, value) for key, _, value in pairs)
