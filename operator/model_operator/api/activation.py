"""What operator and activators tell each other (docs/wire.md), as values.

The operator tells every activator all routes; an activator tells it for which models it has requests. Both are states,
not changes: whoever starts again learns all of it with the next exchange.
"""

import hashlib
import hmac
from collections.abc import Mapping

import msgspec

from model_operator.api.values import Value

#: Ports of activators for models: below those that Linux uses for connections of its own, above well-known ones.
FIRST_PORT, LAST_PORT = 20_000, 29_999
#: An activator's port for gRPC is that for HTTP less this number.
GRPC_BELOW = 10_000
#: Key of the activators' token in the Secret of the installation.
TOKEN_KEY = "activator-token"  # noqa: S105 -- the name of a key


class Route(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One model: the port on which an activator listens for it, and the URLs of its ready pods.

    `grpc_port` is the port of its pods for gRPC, 0 if they have none, and `grpc_tls` whether that one speaks TLS.
    `problem` is the reason for which no pod will become ready, empty while one may.
    """

    namespace: str
    name: str
    port: int
    backends: tuple[str, ...] = ()
    problem: str = ""
    grpc_port: int = 0
    grpc_tls: bool = False

    @property
    def grpc_listening(self) -> int:
        """Port on which an activator listens for gRPC, if the model has it."""
        return self.port - GRPC_BELOW

    @property
    def ports(self) -> tuple[int, int, bool]:
        """What an activator listens for."""
        return self.port, self.grpc_port, self.grpc_tls


class Routes(Value, frozen=True, kw_only=True):
    """The routes of all models that may sleep."""

    routes: tuple[Route, ...] = ()

    @property
    def digest(self) -> str:
        """Hash of the routes."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class Bound(Value, frozen=True, kw_only=True):
    """Answer to new routes: the ports on which the activator listens now."""

    ports: tuple[int, ...] = ()


class Demand(Value, frozen=True, kw_only=True):
    """Requests that an activator has for each model, as `namespace/name`.

    `version` changes whenever a model gets its first request or has answered its last; `digest` is that of the routes.
    """

    version: int = 0
    digest: str = ""
    held: Mapping[str, int] = {}


def activator_token(secret: bytes) -> str:
    """Return the token that activators want of the operator; empty without the secret of the installation."""
    return hmac.new(secret, b"activator", hashlib.sha256).hexdigest() if secret else ""
