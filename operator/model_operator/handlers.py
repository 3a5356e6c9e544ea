"""The kopf bindings: login, liveness, signals and a clean end.

ModelDeployments are watched by the engine's own reflectors, like everything that belongs to them
(docs/decisions/0005): kopf's handling of an object costs a millisecond at every start, and its deletions can be lost.
"""

import asyncio
from typing import Any

import kopf

from model_operator.clients.connection import Connection
from model_operator.engine.engine import Engine

#: A watch that was silent for so long is dead; bookmarks come each minute.
LONGEST_SILENCE = 150.0


def configure(settings: kopf.OperatorSettings) -> None:
    """Switch off what kopf would write and look for: the engine does both."""
    settings.posting.enabled = False
    settings.scanning.disabled = True


def bind(registry: kopf.OperatorRegistry, engine: Engine, connection: Connection, stop: asyncio.Event) -> None:
    """Register the handlers of one engine.

    Args:
        connection: where kopf asks once, at its start, which groups of resources there are.
        stop: set as soon as kopf ends. kopf waits five seconds for tasks that it did not start, so ours have to end
            by themselves.
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
