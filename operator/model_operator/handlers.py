"""The kopf bindings: login, liveness, signals and a clean end.

The reflectors of the engine watch ModelDeployments and their objects (docs/decisions/0005): kopf's handling of an
object costs a millisecond at every start, and it can miss deletions.
"""

import asyncio
from typing import Any

import kopf

from model_operator.clients.connection import Connection
from model_operator.engine.engine import Engine

#: Silence after which a watch counts as dead; bookmarks arrive each minute.
LONGEST_SILENCE = 150.0


def configure(settings: kopf.OperatorSettings) -> None:
    """Disable the writes and watches of kopf, which the engine does itself."""
    settings.posting.enabled = False
    settings.scanning.disabled = True


def bind(registry: kopf.OperatorRegistry, engine: Engine, connection: Connection, stop: asyncio.Event) -> None:
    """Register the handlers of one engine.

    Args:
        connection: the API server, which kopf asks for its API groups once, at its start.
        stop: set as soon as kopf ends. kopf waits five seconds for tasks that it did not start, so those of the
            engine must end by themselves.
    """

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=connection.server, aiohttp_session=connection.session())

    @kopf.on.probe(id="engine", registry=registry)
    async def alive(**_: Any) -> Any:
        health = engine.health(LONGEST_SILENCE)
        if health["silent"]:
            raise kopf.PermanentError(f"watches were silent for too long: {health['silent']}")
        return health

    @kopf.on.cleanup(registry=registry)
    async def end(**_: Any) -> None:
        stop.set()
