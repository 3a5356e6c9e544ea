"""How a cluster of Kafka is entered, and what its refusals are called here; `kafka_broker.py` opens its clients so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)

from model_server.messaging.broker import CALL_SECONDS, BrokerRefused, BrokerUnavailable
from model_server.messaging.connection import Address

_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_REFUSALS = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)


def client_options(address: Address, client_id: str) -> dict[str, Any]:
    """Those of each client. Raises BrokerRefused, TLSFilesInvalid."""
    given, context = address.credentials(), address.tls
    is_encrypted = context is not None
    options: dict[str, Any] = {
        "bootstrap_servers": list(address.hosts),
        "client_id": client_id,
        "ssl_context": context,
        "request_timeout_ms": int(CALL_SECONDS * 1000),
        "security_protocol": "SSL" if is_encrypted else "PLAINTEXT",
    }
    if given.username:
        options |= {
            "security_protocol": "SASL_SSL" if is_encrypted else "SASL_PLAINTEXT",
            "sasl_mechanism": given.mechanism_of(_MECHANISMS),
            "sasl_plain_username": given.username,
            "sasl_plain_password": given.password,
        }
    return options


async def see(address: Address, options: Mapping[str, Any]) -> None:
    """Connect to one of the servers: the clients would only say that none of them can be reached, and not why."""
    rest = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    for host, port in address.servers:
        try:
            connection = await asyncio.wait_for(create_conn(host, port, **rest), CALL_SECONDS)
        except _REFUSALS:
            raise
        except (KafkaError, OSError, TimeoutError):
            if (host, port) == address.servers[-1]:
                raise
            continue
        connection.close()
        return


@asynccontextmanager
async def translated(address: Address) -> AsyncIterator[None]:
    """Raise BrokerRefused or BrokerUnavailable for what the clients raise."""
    where = f"Kafka at {address.shown}"
    try:
        yield
    except _REFUSALS as error:
        raise BrokerRefused(f"{where} refuses: {error}", hint=address.hint) from None
    except (KafkaError, OSError, TimeoutError, ValueError) as error:
        raise BrokerUnavailable(f"{where} does not answer: {str(error) or type(error).__name__}") from None
