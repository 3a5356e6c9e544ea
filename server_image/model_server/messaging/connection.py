"""Where a broker is and how it is entered; `STREAM_URL` names the broker by its scheme."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from model_server.errors import DependencyMissing
from model_server.messaging.broker import Broker, BrokerError, BrokerUnavailable, EncryptionMismatch, Subscription
from model_server.messaging.credentials import Credentials, read_credentials
from model_server.messaging.encryption import Encryption, speaks_tls


class _Kind(NamedTuple):
    """A broker's module and class, the extra that has its client, and its usual port."""

    module: str
    name: str
    extra: str
    port: int
    is_encrypted: bool = False
    #: Whether the broker begins in plain text, with the word whether it wants TLS.
    greets_first: bool = False


_NATS = _Kind("nats_broker", "NatsBroker", "server-stream-nats", 4222, greets_first=True)
_REDIS = _Kind("redis_broker", "RedisBroker", "server-stream-redis", 6379)
_RABBITMQ = _Kind("rabbitmq_broker", "RabbitBroker", "server-stream-rabbitmq", 5672)
_KAFKA = _Kind("kafka_broker", "KafkaBroker", "server-stream-kafka", 9092)

#: By the scheme of the address.
KINDS = {
    "nats": _NATS,
    "tls": _NATS._replace(is_encrypted=True),
    "redis": _REDIS,
    "rediss": _REDIS._replace(is_encrypted=True),
    "amqp": _RABBITMQ,
    "amqps": _RABBITMQ._replace(port=5671, is_encrypted=True),
    "kafka": _KAFKA,
    "kafkas": _KAFKA._replace(is_encrypted=True),
}


#: Most servers of an address that are asked whether they have TLS.
_PROBES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A broker's address: `nats://a:4222,b:4222`. It has no credentials, which come from files."""

    scheme: str
    rest: str
    credentials_dir: Path | None
    encryption: Encryption = field(repr=False)

    @property
    def is_encrypted(self) -> bool:
        """Whether the scheme asks for TLS."""
        return KINDS[self.scheme].is_encrypted

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What the certificates' files hold now, None without TLS. Raises TLSFilesInvalid."""
        return self.encryption.context() if self.is_encrypted else None

    @asynccontextmanager
    async def explained(self) -> AsyncIterator[None]:
        """While a connection is opened: instead of BrokerUnavailable, raise what is wrong with TLS, if that is why."""
        try:
            yield
        except BrokerUnavailable:
            if problem := await self._problem():
                raise problem from None
            raise

    async def _problem(self) -> BrokerError | None:
        kind = KINDS[self.scheme]
        names = [name for name, other in KINDS.items() if other.name == kind.name]
        plain, encrypted = sorted(names, key=lambda name: KINDS[name].is_encrypted)
        broker = f"the broker at {self.shown}"
        problem = self.encryption.problem(broker, plain=plain, encrypted=encrypted)
        if problem is not None or (kind.greets_first and not kind.is_encrypted):
            return problem
        context = self.encryption.context()
        speaks = await speaks_tls(self.servers[:_PROBES], context, greets_first=kind.greets_first)
        if kind.is_encrypted:
            return self.encryption.problem(broker, plain=plain, encrypted=encrypted)
        hint = f"Write {encrypted}:// instead of {plain}://."
        return EncryptionMismatch(f"{broker} encrypts, and the address does not", hint=hint) if speaks else None

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
    def servers(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each server."""
        found = (urlsplit(url) for url in self.urls)
        return tuple((one.hostname or "", one.port or KINDS[self.scheme].port) for one in found)

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
    url: str, subscription: Subscription, *, credentials_dir: Path | None, ca_file: Path | None, tls_dir: Path | None
) -> Broker:
    """The broker of an address. Raises DependencyMissing when its client is not installed."""
    scheme, _, rest = url.partition("://")
    kind = KINDS[scheme]
    try:
        module = import_module(f"model_server.messaging.{kind.module}")
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"{scheme}:// in MODEL_SERVER_STREAM_URL needs {error.name}, which is not installed",
            hint=f"Install modeldeploy[{kind.extra}].",
        ) from None
    make = cast(Callable[[Address, Subscription], Broker], getattr(module, kind.name))
    encryption = Encryption(tls_dir, ca_file)
    return make(Address(scheme=scheme, rest=rest, credentials_dir=credentials_dir, encryption=encryption), subscription)
