"""Where a broker is and how it is entered; `STREAM_URL` names the broker by its scheme."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, cast

from model_server.errors import DependencyMissing
from model_server.messaging.broker import Broker, Subscription
from model_server.messaging.credentials import Credentials, read_credentials
from model_server.storage.authorities import ssl_context


class _Kind(NamedTuple):
    """A broker's module and class, and the extra that has its client."""

    module: str
    name: str
    extra: str
    is_encrypted: bool = False


_NATS = _Kind("nats_broker", "NatsBroker", "server-stream-nats")
_REDIS = _Kind("redis_broker", "RedisBroker", "server-stream-redis")
_RABBITMQ = _Kind("rabbitmq_broker", "RabbitBroker", "server-stream-rabbitmq")
_KAFKA = _Kind("kafka_broker", "KafkaBroker", "server-stream-kafka")

#: By the scheme of the address.
KINDS = {
    "nats": _NATS,
    "tls": _NATS._replace(is_encrypted=True),
    "redis": _REDIS,
    "rediss": _REDIS._replace(is_encrypted=True),
    "amqp": _RABBITMQ,
    "amqps": _RABBITMQ._replace(is_encrypted=True),
    "kafka": _KAFKA,
    "kafkas": _KAFKA._replace(is_encrypted=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A broker's address: `nats://a:4222,b:4222`. It has no credentials, which come from files."""

    scheme: str
    rest: str
    credentials_dir: Path | None
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The address, for messages."""
        return f"{self.scheme}://{self.rest}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """`host:port` of each server, without the path."""
        return tuple(self.rest.partition("/")[0].split(","))

    @property
    def urls(self) -> tuple[str, ...]:
        """An address for each server."""
        return tuple(f"{self.scheme}://{host}" for host in self.hosts)

    @property
    def hint(self) -> str:
        """Where the credentials are, for those that are refused."""
        if self.credentials_dir is None:
            return "Name a Secret with username and password in spec.server.stream.secretName."
        return f"Look at username, password and token in {self.credentials_dir}: the Secret of spec.server.stream."

    def credentials(self) -> Credentials:
        """What the files hold now. Raises BrokerRefused."""
        return read_credentials(self.credentials_dir)


def create_broker(
    url: str, subscription: Subscription, *, credentials_dir: Path | None, ca_file: Path | None
) -> Broker:
    """The broker of an address. Raises DependencyMissing when its client is not installed, SettingsInvalid."""
    scheme, _, rest = url.partition("://")
    kind = KINDS[scheme]
    try:
        module = import_module(f"model_server.messaging.{kind.module}")
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"{scheme}:// in MODEL_SERVER_STREAM_URL needs {error.name}, which is not installed",
            hint=f"Install modeldeploy[{kind.extra}].",
        ) from None
    tls = ssl_context(str(ca_file or "")) if kind.is_encrypted else None
    make = cast(Callable[[Address, Subscription], Broker], getattr(module, kind.name))
    return make(Address(scheme=scheme, rest=rest, credentials_dir=credentials_dir, tls=tls), subscription)
