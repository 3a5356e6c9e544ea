"""What the consumer needs from a broker, in words that all of them know; each has a module of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from model_server.errors import ModelServerError

#: How long `Broker.take` waits for a first message, in seconds: so often the consumer looks whether it may go on.
TAKE_SECONDS = 1.0
#: After so many seconds without a sign a broker gives a message to another consumer; `Broker.extend` is the sign.
ACK_SECONDS = 15.0
#: How long one answer of a broker may take, in seconds.
CALL_SECONDS = 10.0


class BrokerError(ModelServerError):
    """Nothing can be read or written now; the consumer connects again, for as long as it takes."""


class BrokerUnavailable(BrokerError):
    """The broker does not answer."""


class BrokerRefused(BrokerError):
    """The broker does not take the credentials, or does not allow this."""


class TopicMissing(BrokerError):
    """A topic does not exist, or is not what it has to be."""


class BrokerUntrusted(BrokerError):
    """The certificate of the broker is of an unknown authority, or for another host."""


class BrokerCertificateExpired(BrokerError):
    """The certificate of the broker has expired, or is not valid yet."""


class EncryptionMismatch(BrokerError):
    """One of the broker and its address has TLS, and the other has not."""


class TLSFilesInvalid(BrokerError):
    """The certificates for the broker cannot be read, or do not belong together."""


class MessageTooLarge(ModelServerError):
    """A message has more bytes than the broker takes."""

    def __init__(self, size: int, most: int | None) -> None:
        limit = "fewer" if most is None else most
        super().__init__(f"the message has {size} bytes and the broker takes {limit}")


class MessageRefused(ModelServerError):
    """The topic does not take this message, and takes others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that was taken and is not acknowledged yet.

    Attributes:
        headers: names in lower case; attributes of CloudEvents begin with `ce-`, whatever the broker's binding has.
        position: name of the message that stays the same when it is delivered again; empty where the broker has none.
        key: messages of one key are answered in their order; None where the broker keeps no order.
        deliveries: how often it was delivered, this time included, as far as the broker counts.
        receipt: what the broker's module acknowledges it by.
    """

    body: bytes
    headers: Mapping[bytes, bytes]
    position: str
    key: bytes | None = None
    deliveries: int = 1
    receipt: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message to write. `id` tells a second copy of it from another message."""

    topic: str
    body: bytes
    headers: Mapping[bytes, bytes]
    id: str
    key: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of body and headers, with a margin for what is between them."""
        return len(self.body) + sum(len(name) + len(value) + 8 for name, value in self.headers.items()) + 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What to read and where to write, and how the consumer calls itself.

    Attributes:
        group: consumers of one group share the messages.
        consumer: name of this consumer within the group; the same after a restart of the container.
        most: most messages that are taken and not acknowledged.
    """

    input: str
    output: str
    dead_letter: str
    group: str
    consumer: str
    most: int


class Broker(Protocol):
    """One connection. All methods raise BrokerError; after one, only `close` and `open` may be called."""

    async def open(self) -> None:
        """Connect, and see that the topics are there."""

    async def take(self, most: int) -> Sequence[Message]:
        """The next messages: at least one, or none after TAKE_SECONDS."""

    async def settle(self, message: Message, outgoing: Outgoing) -> None:
        """Write a message, and acknowledge the other once the broker has it. Raises MessageTooLarge, MessageRefused."""

    async def release(self, messages: Sequence[Message]) -> None:
        """Give messages back without an answer, for any consumer."""

    async def extend(self, messages: Sequence[Message]) -> None:
        """Tell that these are still worked on."""

    async def lag(self) -> int | None:
        """How many messages of the group are not acknowledged yet; None where the broker does not tell."""

    async def close(self) -> None:
        """Let the connection go. Raises nothing."""
